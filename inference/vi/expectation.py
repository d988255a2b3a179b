"""E[objective], as a function whose value and whose derivative in parameters are both unbiased.

An objective is a Python function of two program distributions, the model p and the guide q, that
draws from them and evaluates them. Its expectation is resolved site by site
(`gradients/resolve.py`), each by its estimator. By the tower property the whole is unbiased if
every estimator is unbiased for what comes after its site.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import ImproperUniform
from numpyro.infer.initialization import init_to_sample

from inference.core.problem import ProblemError
from inference.core.typing import Key, Program, PyTree
from inference.process.quiet import quiet
from inference.vi.distributions import AbstractProgramDistribution, as_distribution
from inference.vi.gradients.elements import element_distribution
from inference.vi.gradients.estimators import AbstractEstimator, EstimatorError
from inference.vi.gradients.programs import Call, StopAtSite
from inference.vi.gradients.resolve import PARTICLES, Resolver, moving_average_name
from inference.vi.gradients.runs import LEAK, ObjectiveRun, make_current

ParamSites: TypeAlias = dict[str, dict]
"""`numpyro.param` sites by name, with their starting value under "value"."""


@dataclasses.dataclass(frozen=True, eq=False)
class Expectation:
    """The expectation of an objective; made by `expectation`.

    Attributes:
        objective: the function of (p, q).
        p: the distribution of the model.
        q: the distribution of the guide.
        estimators: gradient estimators by site name.
        num_particles: the number of independent estimates that are averaged.
    """

    objective: Callable[[Any, Any], ArrayLike]
    p: AbstractProgramDistribution
    q: AbstractProgramDistribution
    estimators: Mapping[str, AbstractEstimator]
    num_particles: int

    def __call__(self, key: Key, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> jax.Array:
        """Return an unbiased estimate, whose derivative in `params` is unbiased too.

        There are two exceptions, by intention. Particles of `normalize` are detached, so that the
        wake objectives have the gradient of reweighted wake-sleep; and parameters of baselines
        have the gradient of least squares.

        Args:
            key: the random key for the draws.
            params: values of the `numpyro.param` sites of model and guide, in their own
                (constrained) space.
            *args: the positional arguments of the model and the guide.
            **kwargs: their keyword arguments.

        Raises:
            EstimatorError: if a site cannot have its estimator.
        """
        return self.at_step(0, key, params, args, kwargs)

    def at_step(
        self, step: int | jax.Array, key: Key, params: Mapping[str, Any], args: tuple, kwargs: dict
    ) -> jax.Array:
        """Return the estimate at a step of the optimiser, which schedules read."""
        if self.num_particles == 1:
            return self.estimate_once(step, params, args, kwargs, key)
        one = functools.partial(self.estimate_once, step, params, args, kwargs)
        return jax.vmap(one, axis_name=PARTICLES)(jax.random.split(key, self.num_particles)).mean()

    def run_once(self, key: Key, params: Mapping[str, Any], args: tuple, kwargs: dict) -> PyTree:
        """Return what the objective returns in one run, of any shape and without estimators."""
        with make_current(ObjectiveRun(self.make_call(key, params, args, kwargs), 0, {}, {})):
            return self.objective(self.p, self.q)

    def make_call(self, key: Key, params: Mapping[str, Any], args: tuple, kwargs: dict) -> Call:
        """Return how the programs are run."""
        return Call(args, kwargs, dict(params), self.estimators, key)

    def rows(self, key: Key, params: Mapping[str, Any], *data: PyTree) -> jax.Array:
        """Return the mean of the expectation over rows of data, with one reverse pass for all.

        Args:
            key: the random key for the draws.
            params: values of the `numpyro.param` sites.
            *data: arrays whose leading axes are rows; model and guide are called with one row.
        """
        keys = jax.random.split(key, len(jax.tree.leaves(data)[0]))
        return jax.vmap(lambda key, row: self(key, params, *row))(keys, data).mean()

    def estimate_once(
        self,
        step: int | jax.Array,
        params: Mapping[str, Any],
        args: tuple,
        kwargs: dict,
        key: Key,
    ) -> jax.Array:
        """Return one estimate."""
        try:
            call = self.make_call(key, params, args, kwargs)
            run_again = functools.partial(self.run, call, step)
            return Resolver(run_again, call, self.num_particles).estimate()
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error

    def run(
        self,
        call: Call,
        step: int | jax.Array,
        overrides: Mapping = {},
        swaps: Mapping = {},
        resolved: Collection[str] = (),
    ) -> tuple[ObjectiveRun, jax.Array]:
        """Run the objective once, and return the run and its value.

        The value means nothing if the run ended at a site to be enumerated.
        """
        with make_current(ObjectiveRun(call, step, overrides, swaps, resolved)) as run:
            try:
                value = self.objective(self.p, self.q)
            except StopAtSite as stop:
                run.sites.append(stop.site)
                return run, jnp.full((), jnp.nan)
            if value is None:
                raise ProblemError("The objective gave None: it must return its value.")
            value = jnp.asarray(value)
            if value.shape:
                raise ProblemError(
                    f"The objective gave an array of shape {value.shape}: expected a scalar."
                )
            return run, run.add_costs_and_scores(value)

    def sites(self, key: Key, *args: Any, **kwargs: Any) -> ParamSites:
        """Return the `numpyro.param` sites of all programs that the objective runs.

        Those of learned baselines are included, and have "baseline": True.
        """
        call = Call(args, kwargs, None, self.estimators, key)
        runs: list[ObjectiveRun] = []
        try:
            jax.eval_shape(lambda: runs.append(self.run(call, 0)[0]))
        except jax.errors.UnexpectedTracerError as error:
            raise EstimatorError(LEAK) from error
        baselines = {site: getattr(site.estimator, "baseline", None) for site in runs[0].sites}
        learned = [(b, ()) for b in baselines.values() if callable(b)]
        own = _initial_parameters(runs[0].programs, key, args, kwargs)
        fits = _initial_parameters(learned, key, args, kwargs)
        shared = sorted(set(fits) & set(own))
        if shared:
            raise EstimatorError(
                f"Parameter '{shared[0]}' is a baseline's and a program's; rename it."
            )
        averages = [moving_average_name(site) for site, b in baselines.items() if b == "average"]
        fits |= {name: {"value": jnp.zeros(()), "kwargs": {}} for name in averages}
        return own | {name: site | {"baseline": True} for name, site in fits.items()}

    def init(self, key: Key, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the parameters at the values that the programs start with."""
        return {name: site["value"] for name, site in self.sites(key, *args, **kwargs).items()}


def _sample_if_improper(site: dict) -> object:
    """Return a value for a site whose prior has no sampler."""
    if site["type"] != "sample":
        return None
    improper = isinstance(element_distribution(site["fn"]), ImproperUniform)
    return init_to_sample(site) if improper else None


def _initial_parameters(
    programs: list[tuple[Program, tuple]], key: Key, args: tuple, kwargs: dict
) -> ParamSites:
    """Return the `numpyro.param` sites of programs, with the values that they start with.

    Args:
        programs: the programs, each with the shapes of its first arguments.
        key: the random key for what the programs draw.
        args: the arguments of all programs after the first ones.
        kwargs: their keyword arguments.
    """
    found: ParamSites = {}

    # compiled, so that only what gives the parameters is computed
    @jax.jit
    def values() -> dict[str, Any]:
        for program, shapes in programs:
            inputs = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
            seeded = handlers.seed(program, key)
            complete = handlers.substitute(seeded, substitute_fn=_sample_if_improper)
            trace = handlers.trace(complete).get_trace(*inputs, *args, **kwargs)
            params = {name: site for name, site in trace.items() if site["type"] == "param"}
            found.update({name: site for name, site in params.items() if name not in found})
        return {name: site["value"] for name, site in found.items()}

    # improper priors say that they have no sampler
    with quiet():
        return {name: found[name] | {"value": value} for name, value in values().items()}


def expectation(
    objective: Callable[[Any, Any], ArrayLike],
    model: Program | AbstractProgramDistribution,
    guide: Program | AbstractProgramDistribution,
    *,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    num_particles: int = 1,
) -> Expectation:
    """Return E[objective(model, guide)] as a function E(key, params, *data).

    Its value is unbiased, and so is `jax.grad` of it. Take the mean over data before the
    derivative, as `E.rows` does: per-row gradients are many times slower.

    Args:
        objective: a function of the distributions (p, q) that returns a scalar, such as `elbo`.
        model: a NumPyro program, called with the data.
        guide: a NumPyro program that draws the latent sites of the model, or a `marginal` of
            one; called with the same data.
        estimators: gradient estimators by site name. Other sites have that of their
            `infer={"estimator": ...}`, or the default.
        num_particles: the number of independent estimates that are averaged; leave-one-out
            baselines can use them.

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
