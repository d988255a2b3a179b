"""Any NumPyro program as a model."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError, rectangular
from bayesdl.model.base import AbstractModel, site_distribution
from bayesdl.model.examples import Example, line, rows
from bayesdl.model.registry import register_spec
from inference.core.problem import Problem
from inference.core.program import AbstractTraceable
from inference.core.result import AbstractPredictive, Conditional


@register_spec("ProgramSchema")
@dataclasses.dataclass(frozen=True)
class ProgramSchema:
    """What is remembered of a program's data: the names of its observed sites."""

    observed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TraceableFunction(AbstractTraceable):
    """A NumPyro function of arrays only, so that data sets of one shape share what is compiled."""

    program: Callable

    @property
    def __wrapped__(self) -> Callable:
        """The function whose signature `inspect.signature` reports."""
        return self.program

    @property
    def __name__(self) -> str:
        return self.program.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self.program(*args, **kwargs)

    def split_params(self) -> tuple[TraceableFunction, None]:
        return self, None

    def merge_params(self, numbers: object) -> TraceableFunction:
        return self


@dataclasses.dataclass(frozen=True)
class Program(AbstractModel):
    """Any NumPyro program as a model; `bayesdl.fit` also takes the bare function.

    An argument whose default is None is an observation, which predictions leave out, where an observed site has its name or
    its value (shape and content); any other argument is an input of predictions too, such as a covariate `offset=None`.
    `scipy.sparse` arguments reach the program as `jax.experimental.sparse.BCOO`, never densified.

    Args:
        function: the program.
        site: the observed site to predict; needed where there are several.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> def coin(n, y=None):
        ...     p = numpyro.sample("p", dist.Beta(1, 1))
        ...     numpyro.sample("y", dist.Binomial(n, p), obs=y)
        >>> Program(coin).function.__name__
        'coin'
    """

    function: Callable
    site: str | None = None
    holds_code: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        X, y = rows()
        return (Example("any NumPyro program", cls(line), (X[:, 0],), {"y": y}),)

    def simulator(self, num_classes: int) -> tuple[Callable, int]:
        return self.function, 0

    def for_simulated_data(self) -> Program:
        return Program(TraceableFunction(self.function), self.site)

    def learn_schema(self, *data: Any, **named: Any) -> ProgramSchema:
        return ProgramSchema(self.problem(ProgramSchema(()), *data, **named).observed)

    def problem(self, schema: ProgramSchema, *data: Any, **named: Any) -> Problem:
        return self.build_problem(schema, *self.inputs(schema, *data, **named))

    def build_problem(self, schema: ProgramSchema, args: tuple, kwargs: dict) -> Problem:
        args = tuple(as_argument(value) for value in args)
        return Problem(
            self.function, args, {name: as_argument(value) for name, value in kwargs.items()}
        )

    def inputs(self, schema: ProgramSchema, *data: Any, **named: Any) -> tuple[tuple, dict]:
        self.bound(data, named)
        return tuple(as_argument(value) for value in data), {
            name: as_argument(value) for name, value in named.items()
        }

    def bound(self, args: tuple, kwargs: Mapping) -> inspect.BoundArguments:
        """Arguments by the names of the function's parameters.

        Raises:
            ModelError: where they do not fit.
        """
        signature = inspect.signature(self.function)
        try:
            return signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ModelError(
                f"The arguments do not fit {self.function.__name__}{signature}: {error}."
            ) from None

    def training_inputs(self, problem: Problem) -> tuple[tuple, dict]:
        """The training arguments less the observations."""
        given = self.bound(problem.args, problem.kwargs)
        for name in self.observed_at(problem):
            del given.arguments[name]
        return given.args, given.kwargs

    def observed_at(self, problem: Problem) -> dict[str, str]:
        """The arguments that are observations, each with its site: that of its name, otherwise one of its value."""
        given = self.bound(problem.args, problem.kwargs).arguments
        optional = [
            name
            for name in given
            if name in observations(self.function) and given[name] is not None
        ]
        found = {name: name for name in optional if name in problem.observed}
        sites = [site for site in problem.observed if site not in found]
        if sites and len(found) < len(optional):
            values = values_at(problem, sites)
            for name in optional:
                same = [site for site in sites if same_value(given[name], values[site])]
                found |= {name: same[0]} if name not in found and same else {}
        return found

    @property
    def name(self) -> str:
        return self.function.__name__

    def target_site(self, problem: Problem) -> str:
        """Return the name of the observed site that is predicted.

        Raises:
            ModelError: where there is none, or more than one and none is chosen.
        """
        observed = problem.observed
        if self.site is not None and self.site in problem.trace:
            return self.site
        if len(observed) == 1 and self.site is None:
            return observed[0]
        raise ModelError(
            f"The program observes sites {list(observed)}, and one must be predicted: "
            f"got site={self.site!r}, expected bdl.Program(function, site=...) with one of them."
        )

    def with_target_site(self, problem: Problem) -> Program:
        """Return the program with its site; without observations the one that an argument would observe."""
        if self.site is not None or problem.observed:
            return self
        candidates = [name for name in problem.latents if name in observations(self.function)]
        if len(candidates) != 1:
            raise ModelError(
                f"Which of the sites {list(problem.latents)} is the target cannot be told: give the "
                "observations as in bdl.fit, or say bdl.Program(function, site=...)."
            )
        return dataclasses.replace(self, site=candidates[0])

    def target(self, schema: ProgramSchema, problem: Problem) -> Target:
        site = self.target_site(problem)
        law = problem.trace[site]["fn"]
        kinds = {
            "BernoulliProbs": 2,
            "BernoulliLogits": 2,
            "CategoricalProbs": None,
            "CategoricalLogits": None,
        }
        name = type(getattr(law, "base_dist", law)).__name__
        if name in kinds and len(law.shape()) == 1:
            size = kinds[name] or law.probs.shape[-1]
            return Target((site,), "class", True, tuple(range(size)), (0.0,), (1.0,))
        kind = "count" if law.support.is_discrete else "real"
        return Target((site,), kind, True, None, (0.0,), (1.0,))

    def split(self, problem: Problem, *data: Any, **named: Any) -> tuple[tuple, dict, Any]:
        site, given = self.target_site(problem), self.bound(data, named)
        names = list(given.arguments)
        held_out = {
            at: given.arguments.pop(name)
            for name, at in self.observed_at(problem).items()
            if name in names
        }
        if held_out.get(site) is None:
            raise ModelError(
                f"Which of {names} is the target of site '{site}' cannot be told: score takes the data as fit does, "
                "with the observation in an argument whose default is None and which has the name of the site."
            )
        return given.args, given.kwargs, held_out[site]

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        return SitePredictive(problem.program, self.target_site(problem))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SitePredictive(AbstractPredictive):
    """The law of one site of a program."""

    program: Callable = dataclasses.field(metadata={"static": True})
    site: str = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        law = site_distribution(self.program, self.site, latents, key, args, kwargs)
        return Conditional(law, jnp.zeros(law.batch_shape))


def observations(function: Callable) -> set[str]:
    """The arguments of a program whose default is None: those that may be observations."""
    return {p.name for p in inspect.signature(function).parameters.values() if p.default is None}


def values_at(problem: Problem, sites: list[str]) -> dict[str, Any]:
    """The values of observed sites, from one run of the program."""
    seeded = handlers.seed(problem.program, jax.random.key(0))
    program = handlers.substitute(
        seeded, substitute_fn=init_to_sample
    )  # improper priors have no sampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
    return {site: trace[site]["value"] for site in sites}


def same_value(one: Any, other: Any) -> bool:
    """Whether these are one object, or numbers or arrays of the same shape and content."""
    if one is other:
        return True
    numeric = all(isinstance(value, np.ndarray | jax.Array | int | float) for value in (one, other))
    return (
        numeric and np.shape(one) == np.shape(other) and np.array_equal(one, other, equal_nan=True)
    )


def as_argument(value: Any) -> Any:
    """Numeric arrays and tables as JAX arrays, sparse matrices as BCOO, anything else as it is."""
    if hasattr(value, "tocsr"):
        from jax.experimental.sparse import BCOO

        return BCOO.from_scipy_sparse(value.tocsr())
    array = (
        rectangular("An argument", value)
        if isinstance(value, np.ndarray | list) or hasattr(value, "__array__")
        else None
    )
    if array is None or array.dtype.kind in "iufb":
        return value if array is None else jnp.asarray(array)
    if array.dtype.kind in "OUS":
        raise DataError(
            f"A program cannot compute with text: got {array.ravel()[:1].tolist()}..., give numbers, e.g. category codes."
        )
    return value


def as_model(model: Any) -> AbstractModel:
    """A model as it is; a bare NumPyro function as a `Program`.

    Raises:
        ModelError: for anything else.
    """
    if isinstance(model, AbstractModel):
        return model
    if inspect.isclass(model):
        raise ModelError(
            f"Expected a model, got the class {model.__name__}: make one, e.g. bdl.{model.__name__}()."
        )
    if callable(model):
        return Program(model)
    raise ModelError(
        f"Expected a model such as bdl.BNN(), bdl.GP() or a NumPyro function, got {type(model).__name__}."
    )
