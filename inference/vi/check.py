"""A test of whether gradients are unbiased.

It is a z-test of the mean gradient against enumeration or finite differences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from inference.core.keys import named_key
from inference.core.problem import ProblemError
from inference.core.typing import Key, Oracle, Params, Program, PyTree, StoredArrays
from inference.vi.distributions import AbstractProgramDistribution
from inference.vi.expectation import Expectation, expectation
from inference.vi.gradients.estimators import AbstractEstimator, Enum, EstimatorError
from inference.vi.parameters import Space
from inference.vi.validation import refuse_other_arguments

# the largest |z| of an unbiased gradient
LIMIT = 4.0

# the step of finite differences; they are extrapolated from this and twice this to an error of
# fourth order
STEP = 0.1

# the most parameters for finite differences, which run the program four times for each
MOST_PARAMETERS = 50

Value: TypeAlias = Callable[[Expectation, Key, Params], jax.Array]
"""A function from an expectation, a key and unconstrained parameters to an estimate."""

MeanAndError: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A mean and its standard error, as flat vectors."""


@dataclasses.dataclass(frozen=True)
class UnbiasedReport:
    """The findings of `check_unbiased`.

    Attributes:
        ok: whether every |z| is below 4.
        z: (mean gradient - oracle) / standard error by parameter, in unconstrained space;
            parameters of baselines have none.
        gradient: the mean gradient by parameter.
        oracle: what the gradient should be, by parameter.
        method: "enumeration" or "finite differences".
    """

    ok: bool
    z: dict[str, np.ndarray]
    gradient: dict[str, np.ndarray]
    oracle: dict[str, np.ndarray]
    method: str

    def __repr__(self) -> str:
        worst = max(self.z, key=lambda name: float(np.max(np.abs(self.z[name]))))
        size = float(np.max(np.abs(self.z[worst])))
        verdict = "unbiased as far as can be told" if self.ok else "BIASED"
        return f"{verdict}: largest |z| {size:.2f} at '{worst}', against {self.method}"


def check_unbiased(
    objective: Callable[[Any, Any], ArrayLike],
    model: Program | AbstractProgramDistribution,
    guide: Program | AbstractProgramDistribution,
    params: Mapping[str, Any] | None = None,
    *args: Any,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    oracle: Oracle = "auto",
    num_samples: int = 20_000,
    seed: int = 0,
) -> UnbiasedReport:
    """Test the mean gradient of an expectation against an oracle.

    Args:
        objective: the objective, as for `expectation`.
        model: the model, as for `expectation`.
        guide: the guide, as for `expectation`.
        params: the parameters at which gradients are taken; None for those that the programs
            start with.
        *args: the positional arguments of model and guide.
        estimators: gradient estimators by site name, as for `expectation`.
        oracle: "enumeration" of every site whose gradient does not pass through its value,
            "finite differences" of the value with common random numbers, or "auto" for the first
            if it is possible.
        num_samples: the number of gradients that are averaged.
        seed: the seed of all draws.

    Raises:
        ProblemError: if the oracle cannot be computed.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> from inference.vi.gradients.estimators import MVD
        >>> def objective(p, q):
        ...     return q.sim()[0]["z"] * 2.0
        >>> def guide():
        ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.4)))
        >>> report = check_unbiased(objective, lambda: None, guide, estimators={"z": MVD()})
        >>> report.ok, report.method
        (True, 'enumeration')
    """
    if oracle not in ("auto", "enumeration", "finite differences"):
        raise ProblemError(
            f"check_unbiased(oracle={oracle!r}): expected 'auto', 'enumeration' or 'finite "
            "differences'."
        )
    for what, program in (("model", model), ("guide", guide)):
        own: Any = getattr(program, "program", program)
        refuse_other_arguments(what, own, args, {})
    key = jax.random.key(seed)
    E = expectation(objective, model, guide, estimators=estimators)
    sites = E.sites(named_key(key, "parameters"), *args)
    space = Space({name: site for name, site in sites.items() if not site.get("baseline")})
    given = {name: site["value"] for name, site in sites.items()} | dict(params or {})
    fixed = {name: value for name, value in given.items() if name not in space.sites}
    at = space.unconstrain({name: given[name] for name in space.sites})

    def full(u: Params) -> dict[str, Any]:
        return {**fixed, **space.constrain(u)}

    def value(E: Expectation, key: Key, u: Params) -> jax.Array:
        return E(key, full(u), *args)

    def gradient(key: Key) -> Params:
        return jax.grad(lambda u: value(E, key, u))(at)

    mean, error = _mean_and_error(gradient, named_key(key, "gradient"), num_samples)
    oracle_key = named_key(key, "oracle")
    run = E.run(E.make_call(oracle_key, full(at), args, {}), 0)[0]
    names = {site.id.partition("/")[2] for site in run.sites}
    method, (expected, doubt) = _oracle_gradient(
        E, value, at, names, run.drawn - names, oracle, oracle_key, num_samples
    )
    # rounding, if nothing is random
    tiny = 1e-6 * (1 + np.abs(expected))
    z = (mean - expected) / np.maximum(np.hypot(error, doubt), tiny)
    unravel = ravel_pytree(at)[1]

    def by_parameter(vector: np.ndarray) -> StoredArrays:
        return jax.tree.map(np.asarray, unravel(jnp.asarray(vector)))

    ok = bool(np.max(np.abs(z)) < LIMIT)
    return UnbiasedReport(ok, by_parameter(z), by_parameter(mean), by_parameter(expected), method)


def _mean_and_error(function: Callable[[Key], PyTree], key: Key, num_samples: int) -> MeanAndError:
    """Return mean and standard error of a random pytree, as flat vectors."""

    def one(key: Key) -> jax.Array:
        return ravel_pytree(function(key))[0]

    keys = jax.random.split(key, num_samples)
    values = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=2000))(keys), float)
    return values.mean(0), values.std(0) / np.sqrt(num_samples)


def _oracle_gradient(
    E: Expectation,
    value: Value,
    at: Params,
    scored: set[str],
    pathwise: set[str],
    asked: str,
    key: Key,
    num_samples: int,
) -> tuple[str, MeanAndError]:
    """Return the method that was used, and the gradient and its standard error by it.

    Args:
        E: the expectation.
        value: the estimate as a function of unconstrained parameters.
        at: the unconstrained parameters.
        scored: the names of the sites whose gradient does not pass through their value.
        pathwise: the names of the other sites.
        asked: the method that the user asked for.
        key: the random key for the draws.
        num_samples: the number of gradients that are averaged.
    """
    if asked == "enumeration" and pathwise:
        raise ProblemError(
            f"Enumeration is not possible: site {sorted(pathwise)[0]!r} has a gradient through "
            "its value."
        )
    if asked != "finite differences" and not pathwise:
        exact = dataclasses.replace(E, estimators=dict.fromkeys(scored, Enum()))
        try:
            return "enumeration", _mean_and_error(
                lambda k: jax.grad(lambda u: value(exact, k, u))(at), key, num_samples
            )
        except EstimatorError as error:
            if asked == "enumeration":
                raise ProblemError(f"Enumeration is not possible: {error}") from error
    return "finite differences", _finite_differences(
        lambda k, u: value(E, k, u), at, key, num_samples
    )


def _finite_differences(
    value: Callable[[Key, Params], jax.Array], at: Params, key: Key, num_samples: int
) -> MeanAndError:
    """Return the gradient by central differences of the value with common random numbers.

    It is extrapolated in the step.
    """
    flat, unravel = ravel_pytree(at)
    if len(flat) > MOST_PARAMETERS:
        raise ProblemError(
            f"Finite differences in {len(flat)} parameters are too many, above {MOST_PARAMETERS}."
        )
    axes = jnp.eye(len(flat))

    def one(key: Key) -> jax.Array:
        def central(axis: jax.Array, step: float) -> jax.Array:
            above = value(key, unravel(flat + step * axis))
            below = value(key, unravel(flat - step * axis))
            return (above - below) / (2 * step)

        return jax.vmap(lambda axis: (4 * central(axis, STEP) - central(axis, 2 * STEP)) / 3)(axes)

    return _mean_and_error(one, key, num_samples)
