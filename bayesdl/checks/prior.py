"""Prior predictive draws: what the model believes before it sees targets.

    z ~ p(z),    f = E[y | x, z],    y ~ p(y | x, z)

A Gaussian process has f ~ GP(0, k) and y = f + e. Models of tables standardise, so that the units
of y (and the classes) come from the training data: the draws are those of the model that `fit`
would condition on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from numpyro import handlers

from bayesdl.checks.statistics import mean_and_interval, resolve_statistics
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError
from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.pictures import draw
from bayesdl.posterior.streaming import LARGEST, label_probabilities
from bayesdl.typing import AxesLike, ColumnLike, DataFrame, Integer, Schema
from inference.arguments import call, join_static
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.program import is_factor
from inference.core.result import DRAWS_AT_ONCE
from inference.core.structure import AbstractGaussianProcessRegression
from inference.settings import is_whole

# relative to the mean variance of the process
JITTER = 1e-8


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PriorPredictive:
    """Data sets drawn before any data were seen.

    Attributes:
        y: targets, shape (num_samples, rows, ...), in the units of y; labels of classes.
        function: E[y | x, z] of each draw, of classes their probabilities (num_samples, rows,
            classes); None where the distribution has no mean.
        target: what is drawn.
        x: the input column where there is one, otherwise None.
        x_name: the name of the input column.
        observed: the targets that were given, for pictures; None where there are none.
    """

    y: Shaped[np.ndarray, "samples *y"]
    function: np.ndarray | None
    target: Target
    x: np.ndarray | None = None
    x_name: str = "x"
    observed: Shaped[np.ndarray, "*y"] | None = None

    @property
    def table(self) -> DataFrame:
        """Mean and central 90 % interval over data sets of the usual statistics."""
        import pandas as pd

        functions = resolve_statistics(None, self.target)
        values = np.stack([function(self.y) for function in functions.values()], axis=1).astype(
            np.float64
        )
        parts = dict(zip(("mean", "5%", "95%"), mean_and_interval(values), strict=True))
        return pd.DataFrame(parts, index=pd.Index(functions, name="statistic"))

    def plot(self, x: ColumnLike | None = None, ax: AxesLike = None) -> Any:
        """Draw bands and functions against x, or densities; return the axes."""
        return draw("prior_predictive", self, x, ax)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table.to_string(float_format='{:.4g}'.format)}"

    def _repr_html_(self) -> str:
        return f"<p>{self._title()}</p>" + self.table.to_html(float_format="{:.4g}".format)

    def _title(self) -> str:
        return f"{len(self.y)} data sets of {', '.join(self.target.names)} drawn from the prior"


def prior_predictive(
    model: Any, *data: Any, num_samples: Integer = 1000, seed: Integer = 0, **named: Any
) -> PriorPredictive:
    """Draw functions and targets from the prior, at the rows of the data.

    Args:
        model: `BNN`, `GP`, or any NumPyro function.
        *data: the data as in `fit`: X and y, of which y gives the units and the classes only; for a
            function its arguments, with or without the observations.
        num_samples: the number of data sets to draw.
        seed: the seed of all randomness.
        **named: keyword arguments of a NumPyro function.

    Raises:
        DataError: where the data cannot be used, or y is missing.
        ModelError: for an improper prior, or a program with factors.

    Example:
        >>> import numpy as np, bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> prior = prior_predictive(bdl.GP(), X, 5 + X[:, 0], num_samples=100)
        >>> prior.y.shape, prior.function.shape
        ((100, 20), (100, 20))
    """
    if not is_whole(num_samples):
        raise ValueError(
            f"prior_predictive(num_samples={num_samples!r}): expected a whole number of at least 1."
        )
    spec = as_model(model)
    if spec.needs_target and len(data) < 2 and "y" not in named:
        raise DataError(
            "y is missing: its units and classes belong to the model. Use "
            "bdl.prior_predictive(model, X, y)."
        )
    schema, problem = spec.learn(*data, **named)
    if spec.no_other_engine and "X" in problem.trace:
        raise ModelError(
            f"{spec.name} draws inputs and targets together, so it has no targets at given inputs."
        )
    spec = spec.with_target_site(problem)
    refuse_unnormalised(problem)
    target = spec.target(schema, problem)
    site = spec.target_site(problem)
    with precision_scope(spec):
        key = named_key(jax.random.key(seed), "prior predictive")
        y, function = _simulate(
            problem,
            site,
            target.kind == "class",
            jax.random.split(key, num_samples),
            1 if spec.rows_correlated else DRAWS_AT_ONCE,
        )
    y = (
        np.array(target.classes)[y.astype(int)]
        if target.classes is not None
        else target.in_units(y.astype(np.float64))
    )
    function = None if function is None else target.in_units(function.astype(np.float64))
    x, x_name = spec.input_column(schema, problem)
    observed = _observed(spec, schema, problem, site, target)
    return PriorPredictive(y, function, target, x, x_name, observed)


def _observed(
    spec: AbstractModel, schema: Schema, problem: Problem, site: str, target: Target
) -> np.ndarray | None:
    """Return the targets that were given, in the units of y, classes as labels."""
    known = spec.observed_values(schema, problem)
    if known is None:
        if site not in problem.observed:
            return None
        program = handlers.seed(problem.program, jax.random.key(0))
        run = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
        known = {site: np.asarray(run[site]["value"])}
    values = np.asarray(next(iter(known.values())))
    if target.classes is not None:
        values = np.array(target.classes)[values.astype(int)]
    return values


def refuse_unnormalised(problem: Problem) -> None:
    """Refuse programs whose prior cannot be drawn from.

    Raises:
        ModelError: naming the factor or the site.
    """
    for name, site in problem.trace.items():
        if site["type"] != "sample":
            continue
        distribution = site["fn"]
        if is_factor(distribution):
            raise ModelError(
                f"The factor {name!r} leaves the prior unnormalised, so nothing can be drawn from "
                "it."
            )
        while hasattr(distribution, "base_dist"):
            distribution = distribution.base_dist
        if type(distribution).__name__ == "ImproperUniform":
            raise ModelError(
                f"Site {name!r} has an improper prior, from which nothing can be drawn: give it a "
                "proper one."
            )


def _simulate(
    problem: Problem,
    site: str,
    is_class: bool,
    keys: jax.Array,
    at_once: int = DRAWS_AT_ONCE,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw targets and functions as the program sees them, one for each key."""
    structure = problem.structure
    process = structure if isinstance(structure, AbstractGaussianProcessRegression) else None
    if process is not None and len(problem.args[0]) > LARGEST:
        raise DataError(
            f"A process needs a covariance of all rows: got {len(problem.args[0])} rows, at most "
            f"{LARGEST}."
        )
    drawn = call(
        lambda arrays, static: _many(
            problem.program, process, site, is_class, at_once, static, arrays, keys
        ),
        (tuple(problem.args), dict(problem.kwargs)),
        problem.program,
    )
    return jax.tree.map(np.asarray, drawn)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _many(
    program: Callable,
    process: AbstractGaussianProcessRegression | None,
    site: str,
    is_class: bool,
    at_once: int,
    static: Hashable,
    arrays: list,
    keys: jax.Array,
) -> tuple:
    """Draw from the prior for each key, compiled."""
    args, kwargs = join_static(arrays, static)
    problem = Problem(program, args, kwargs)
    # one matrix of rows at a time
    if process is not None:
        return jax.lax.map(lambda key: _process_draw(problem, process, key), keys)
    return jax.lax.map(
        lambda key: _program_draw(problem, site, is_class, key), keys, batch_size=at_once
    )


def _program_draw(problem: Problem, site: str, is_class: bool, key: jax.Array) -> tuple:
    """Draw the site and, in the same run, its mean or class probabilities."""
    program = handlers.uncondition(handlers.seed(problem.program, key))
    drawn = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)[site]
    try:
        return drawn["value"], label_probabilities(drawn["fn"]) if is_class else drawn["fn"].mean
    # a distribution without a mean
    except NotImplementedError:
        return drawn["value"], None


def _process_draw(
    problem: Problem, process: AbstractGaussianProcessRegression, key: jax.Array
) -> tuple:
    """Draw targets and the function behind them, which the program has integrated out."""
    values = problem.prior_sample(named_key(key, "hyperparameters"))
    X = jnp.asarray(problem.args[0])
    kernel = process.gaussian_process(values, X).kernel
    covariance = kernel(X, X)
    jitter = JITTER * jnp.trace(covariance) / len(X)
    lower = jnp.linalg.cholesky(covariance + jitter * jnp.eye(len(X)))
    f = lower @ jax.random.normal(named_key(key, "function"), (len(X),))
    noise = jax.random.normal(named_key(key, "noise"), (len(X),))
    scale = process.scale
    size = 1.0 if scale is None else jnp.sqrt(scale.draw(named_key(key, "scale"), ()))
    return size * (f + jnp.sqrt(process.noise_variance(values)) * noise), size * f
