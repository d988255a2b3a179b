"""E[objective], as a function whose value and whose derivative in the parameters are both unbiased.

An objective is a Python function of two handles, the model p and the guide q, that draws from them and evaluates them.
Its expectation is resolved site by site (`resolve.py`), each by its estimator. By the tower property the whole is unbiased if
every estimator is so for what comes after its site.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import ImproperUniform
from numpyro.infer.initialization import init_to_sample

from inference.core.problem import ProblemError
from inference.core.program import Program
from inference.vi.distributions import as_distribution
from inference.vi.gradients.estimators import (
    AbstractEstimator,
    EstimatorError,
    element_distribution,
)
from inference.vi.gradients.programs import Call, StopAtSite
from inference.vi.gradients.resolve import PARTICLES, Resolver, moving_average_name
from inference.vi.gradients.runs import LEAK, ObjectiveRun, make_current


@dataclasses.dataclass(frozen=True, eq=False)
class Expectation:
    """The expectation of an objective; made by `expectation`.

    Attributes:
        objective: a function of (p, q).
        p, q: handles of the model and the guide.
        estimators: by site name.
        num_particles: independent estimates that are averaged.
    """

    objective: Callable[[Any, Any], jax.Array]
    p: Any
    q: Any
    estimators: Mapping[str, AbstractEstimator]
    num_particles: int

    def __call__(
        self, key: jax.Array, params: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> jax.Array:
        """An unbiased estimate, whose derivative in `params` is unbiased too.

        Args:
            key: of the draws.
            params: values of the `numpyro.param` sites of model and guide, in their own (constrained) space.
            *args: of the model and the guide.
            **kwargs: of the model and the guide.

        Exceptions, by intention: particles of `normalize` are detached, so that the wake objectives have the gradient of
        reweighted wake-sleep, and parameters of baselines have that of least squares.

        Raises:
            EstimatorError: where a site cannot have its estimator.
        """
        return self.at_step(0, key, params, args, kwargs)

    def at_step(
        self, step: Any, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict
    ) -> jax.Array:
        """The same at a step of the optimiser."""
        if self.num_particles == 1:
            return self.estimate_once(step, params, args, kwargs, key)
        one = functools.partial(self.estimate_once, step, params, args, kwargs)
        return jax.vmap(one, axis_name=PARTICLES)(jax.random.split(key, self.num_particles)).mean()

    def run_once(self, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict) -> Any:
        """What the objective gives in one run, of any shape and without estimators."""
        with make_current(ObjectiveRun(self.make_call(key, params, args, kwargs), 0, {}, {})):
            return self.objective(self.p, self.q)

    def make_call(
        self, key: jax.Array, params: Mapping[str, Any], args: tuple, kwargs: dict
    ) -> Call:
        """How the programs are run."""
        return Call(args, kwargs, dict(params), self.estimators, key)

    def rows(self, key: jax.Array, params: Mapping[str, Any], *data: Any) -> jax.Array:
        """The mean over rows of data (leading axes of the arrays) of the expectation at each, with one reverse pass for all."""
        keys = jax.random.split(key, len(jax.tree.leaves(data)[0]))
        return jax.vmap(lambda key, row: self(key, params, *row))(keys, data).mean()

    def estimate_once(
        self, step: Any, params: Any, args: tuple, kwargs: dict, key: jax.Array
    ) -> jax.Array:
        """One estimate."""
        try:
            call = self.make_call(key, params, args, kwargs)
            return Resolver(
                functools.partial(self.run, call, step), call, self.num_particles
            ).estimate()
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error

    def run(
        self,
        call: Call,
        step: Any,
        overrides: Mapping = {},
        swaps: Mapping = {},
        resolved: Collection[str] = (),
    ) -> tuple[ObjectiveRun, jax.Array]:
        """One run of the objective and its value; of no meaning where the run ended at a site to be enumerated."""
        with make_current(ObjectiveRun(call, step, overrides, swaps, resolved)) as now:
            try:
                value = self.objective(self.p, self.q)
            except StopAtSite as reached:
                now.sites.append(reached.site)
                return now, jnp.full((), jnp.nan)
            if value is None:
                raise ProblemError("The objective gave None: it must return its value.")
            value = jnp.asarray(value)
            if value.shape:
                raise ProblemError(
                    f"The objective gave an array of shape {value.shape}: expected a scalar."
                )
            return now, now.add_costs_and_scores(value)

    def sites(self, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, dict]:
        """The `numpyro.param` sites of all programs that the objective runs, learned baselines included."""
        call = Call(args, kwargs, None, self.estimators, key)
        seen: list[ObjectiveRun] = []
        try:
            jax.eval_shape(lambda: seen.append(self.run(call, 0)[0]))
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error
        baselines = {site: getattr(site.estimator, "baseline", None) for site in seen[0].sites}
        learned = [(b, ()) for b in baselines.values() if callable(b)]
        found = initial_parameters(seen[0].programs, key, args, kwargs)
        fits = initial_parameters(learned, key, args, kwargs)
        if set(fits) & set(found):
            raise EstimatorError(
                f"Parameter '{sorted(set(fits) & set(found))[0]}' is a baseline's and a program's; rename it."
            )
        averages = [
            moving_average_name(site)
            for site, baseline in baselines.items()
            if baseline == "average"
        ]
        fits |= {name: {"value": jnp.zeros(()), "kwargs": {}} for name in averages}
        return found | {name: site | {"baseline": True} for name, site in fits.items()}

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The parameters at the values that the programs start them with."""
        return {name: site["value"] for name, site in self.sites(key, *args, **kwargs).items()}


def sample_if_improper(site: dict) -> Any:
    """A value for a site whose prior has no sampler."""
    improper = site["type"] == "sample" and isinstance(
        element_distribution(site["fn"]), ImproperUniform
    )
    return init_to_sample(site) if improper else None


def initial_parameters(
    programs: list[tuple[Program, tuple]], key: jax.Array, args: tuple, kwargs: dict
) -> dict[str, dict]:
    """The `numpyro.param` sites of programs, with the values that they start them with."""
    found: dict[str, dict] = {}

    @jax.jit
    def values() -> dict[str, Any]:  # compiled, so that only what gives the parameters is computed
        for program, inputs in programs:
            seeded = handlers.substitute(
                handlers.seed(program, key), substitute_fn=sample_if_improper
            )
            trace = handlers.trace(seeded).get_trace(*inputs, *args, **kwargs)
            found.update(
                {
                    name: site
                    for name, site in trace.items()
                    if site["type"] == "param" and name not in found
                }
            )
        return {name: site["value"] for name, site in found.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # improper priors say that they have no sampler
        return {name: found[name] | {"value": value} for name, value in values().items()}


def expectation(
    objective: Callable[[Any, Any], jax.Array],
    model: Any,
    guide: Any,
    *,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    num_particles: int = 1,
) -> Expectation:
    """E[objective(model, guide)] as a function E(key, params, *data) with unbiased value and unbiased `jax.grad`.

    Take the mean over data before the derivative, as `E.rows` does: per-row gradients are many times slower.

    Args:
        objective: a function of handles (p, q) that gives a scalar, such as `elbo`.
        model: a NumPyro program, called with the data.
        guide: a NumPyro program that draws the latent sites of the model, or a `marginal` of one; called with the same data.
        estimators: by site name; others have that of their `infer={"estimator": ...}`, or the default.
        num_particles: independent estimates that are averaged; leave-one-out baselines can use them.

    Example:
        >>> import jax, numpyro, numpyro.distributions as dist
        >>> def model(y):
        ...     z = numpyro.sample("z", dist.Bernoulli(0.3))
        ...     numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)
        >>> def guide(y):
        ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.0)))
        >>> from inference.vi.objectives import elbo
        >>> E = expectation(elbo, model, guide)  # one flip: summed over both values
        >>> print(f"{jax.grad(lambda phi: E(jax.random.key(0), {'phi': phi}, 1.5))(0.0):.3f}")
        0.038
    """
    return Expectation(
        objective,
        as_distribution(model),
        as_distribution(guide),
        dict(estimators or {}),
        num_particles,
    )
