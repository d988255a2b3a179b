"""Whether gradients are unbiased: a z-test of the mean gradient against enumeration or finite differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inference.core.keys import named_key
from inference.core.problem import ProblemError
from inference.vi.gradients.estimators import AbstractEstimator, Enum, EstimatorError
from inference.vi.gradients.expectation import Expectation, expectation
from inference.vi.space import Space
from inference.vi.validation import refuse_other_arguments

LIMIT = 4.0
STEP = (
    0.1  # of finite differences, extrapolated from this and twice this to an error of fourth order
)
MOST_PARAMETERS = 50  # for finite differences, which run the program four times for each


@dataclasses.dataclass(frozen=True)
class UnbiasedReport:
    """What `check_unbiased` found.

    Attributes:
        ok: whether every |z| is below 4.
        z: (mean gradient - oracle) / standard error by parameter, in unconstrained space; of baselines none.
        gradient: the mean gradient by parameter.
        oracle: what it should be.
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
    objective: Callable,
    model: Any,
    guide: Any,
    params: Mapping[str, Any] | None = None,
    *args: Any,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    oracle: str = "auto",
    num_samples: int = 20_000,
    seed: int = 0,
) -> UnbiasedReport:
    """Tests the mean gradient of an expectation against an oracle.

    Args:
        objective: as for `expectation`.
        model: as there.
        guide: as there.
        params: where; None for where the programs start them.
        *args: of model and guide.
        estimators: as for `expectation`.
        oracle: "enumeration" of every site whose gradient does not pass through its value, "finite differences" of the
            value with common random numbers, or "auto" for the first where it is possible.
        num_samples: gradients that are averaged.
        seed: of all draws.

    Raises:
        ProblemError: where the oracle cannot be computed.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> from inference.vi.gradients.estimators import MVD
        >>> def guide():
        ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.4)))
        >>> report = check_unbiased(lambda p, q: q.sim()[0]["z"] * 2.0, lambda: None, guide, estimators={"z": MVD()})
        >>> report.ok, report.method
        (True, 'enumeration')
    """
    if oracle not in ("auto", "enumeration", "finite differences"):
        raise ProblemError(
            f"check_unbiased(oracle={oracle!r}): expected 'auto', 'enumeration' or 'finite differences'."
        )
    for what, program in (("model", model), ("guide", guide)):
        refuse_other_arguments(what, getattr(program, "program", program), args, {})
    key = jax.random.key(seed)
    E = expectation(objective, model, guide, estimators=estimators)
    sites = E.sites(named_key(key, "parameters"), *args)
    space = Space({name: site for name, site in sites.items() if not site.get("baseline")})
    given = {name: site["value"] for name, site in sites.items()} | dict(params or {})
    fixed = {name: value for name, value in given.items() if name not in space.sites}
    at = space.unconstrain({name: given[name] for name in space.sites})

    def value(E: Expectation, key: jax.Array, u: Any) -> jax.Array:
        return E(key, {**fixed, **space.constrain(u)}, *args)

    mean, error = mean_and_error(
        lambda k: jax.grad(lambda u: value(E, k, u))(at), named_key(key, "gradient"), num_samples
    )
    method, (expected, doubt) = oracle_gradient(
        E, value, at, args, fixed, space, oracle, named_key(key, "oracle"), num_samples
    )
    tiny = 1e-6 * (1 + np.abs(expected))  # rounding, where nothing is random
    z = (mean - expected) / np.maximum(np.hypot(error, doubt), tiny)
    unravel = ravel_pytree(at)[1]
    scores, gradient, should = (
        jax.tree.map(np.asarray, unravel(jnp.asarray(part))) for part in (z, mean, expected)
    )
    return UnbiasedReport(bool(np.max(np.abs(z)) < LIMIT), scores, gradient, should, method)


def mean_and_error(
    function: Callable, key: jax.Array, num_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of a random pytree, as flat vectors."""

    def one(key: jax.Array) -> jax.Array:
        return ravel_pytree(function(key))[0]

    keys = jax.random.split(key, num_samples)
    values = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=2000))(keys), float)
    return values.mean(0), values.std(0) / np.sqrt(num_samples)


def oracle_gradient(
    E: Expectation,
    value: Callable,
    at: dict,
    args: tuple,
    fixed: dict,
    space: Space,
    asked: str,
    key: jax.Array,
    num: int,
) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """Method, and the gradient and its standard error by it."""
    now = E.run(E.make_call(key, {**fixed, **space.constrain(at)}, args, {}), 0)[0]
    names = {site.id.partition("/")[2] for site in now.sites}
    local = now.drawn - names
    if asked == "enumeration" and local:
        raise ProblemError(
            f"Enumeration is not possible: site {sorted(local)[0]!r} has a gradient through its value."
        )
    if asked != "finite differences" and not local:
        exact = dataclasses.replace(E, estimators=dict.fromkeys(names, Enum()))
        try:
            return "enumeration", mean_and_error(
                lambda k: jax.grad(lambda u: value(exact, k, u))(at), key, num
            )
        except EstimatorError as error:
            if asked == "enumeration":
                raise ProblemError(f"Enumeration is not possible: {error}") from error
    return "finite differences", finite_differences(lambda k, u: value(E, k, u), at, key, num)


def finite_differences(
    value: Callable, at: dict, key: jax.Array, num_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient by central differences of the value with common random numbers, extrapolated in the step."""
    flat, unravel = ravel_pytree(at)
    if len(flat) > MOST_PARAMETERS:
        raise ProblemError(
            f"Finite differences in {len(flat)} parameters are too many, above {MOST_PARAMETERS}."
        )
    axes = jnp.eye(len(flat))

    def one(key: jax.Array) -> jax.Array:
        def central(axis: jax.Array, step: float) -> jax.Array:
            return (
                value(key, unravel(flat + step * axis)) - value(key, unravel(flat - step * axis))
            ) / (2 * step)

        return jax.vmap(lambda axis: (4 * central(axis, STEP) - central(axis, 2 * STEP)) / 3)(axes)

    return mean_and_error(one, key, num_samples)
