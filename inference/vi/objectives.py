"""Variational objectives, to be maximised: functions of a model p and a guide q.

They are written as a user would write them. Each takes the two distributions and its own
settings. Give settings with `functools.partial(iwelbo, K=5)`, or call the function with settings
only, `iwelbo(K=5)`. What an expectation makes of them has an unbiased value and an unbiased
gradient. A new objective is a function of (p, q) with `@register`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jax.nn import softmax
from jax.scipy.special import logsumexp

from inference.vi.constructs import normalize
from inference.vi.distributions import AbstractProgramDistribution, ProgramDistribution
from inference.vi.gradients.runs import step

Objective: TypeAlias = Callable[..., Any]
"""A function of (p, q) and settings that returns a scalar; of settings alone, another function."""

Number: TypeAlias = int | float | jax.Array
"""A number, which may be traced."""

Schedule: TypeAlias = Number | Callable[[Any], Any]
"""A number, or a function of the optimiser's step that returns one."""

OBJECTIVES: dict[str, Objective] = {}


def _register(function: Objective) -> Objective:
    """Enter an objective into `OBJECTIVES`, and let it be called with settings only."""
    names = list(inspect.signature(function).parameters)[2:]

    @functools.wraps(function)
    def either(*args: Any, **settings: Any) -> Any:
        if args and isinstance(args[0], AbstractProgramDistribution):
            return function(*args, **settings)
        return functools.partial(either, **dict(zip(names, args, strict=False)), **settings)

    OBJECTIVES[function.__name__] = either
    return either


@_register
def elbo(p: AbstractProgramDistribution, q: AbstractProgramDistribution) -> jax.Array:
    """E_q[log p(y, z) - log q(z)] = log p(y) - KL(q || p(. | y))."""
    z, log_q = q.sim()
    return p.density(z) - log_q


@_register
def tempered_elbo(
    p: ProgramDistribution,
    q: AbstractProgramDistribution,
    beta: Schedule = 1.0,
    power: Schedule = 1.0,
) -> jax.Array:
    """E_q[power log p(y | z) - beta log q(z) / p(z)], the ELBO where both are 1.

    With beta < 1 the optimum is the posterior under the likelihood to the power 1 / beta.

    Args:
        p: the distribution of the model.
        q: the distribution of the guide.
        beta: the weight of the divergence from the prior, a number or a schedule of the
            optimiser's step.
        power: the weight of the log likelihood, a number or a schedule.
    """
    z, log_q = q.sim()
    prior, likelihood = p.parts(z)
    return _value_at_step(power) * likelihood + _value_at_step(beta) * (prior - log_q)


@_register
def iwelbo(p: AbstractProgramDistribution, q: AbstractProgramDistribution, K: int = 8) -> jax.Array:
    """E[log (1/K) sum_k p(y, z_k) / q(z_k)], a bound that grows to log p(y) with K.

    Burda et al. (2016), arXiv:1509.00519.
    """
    z, log_q = q.sim(K)
    return logsumexp(p.density(z, K) - log_q) - jnp.log(K)


@_register
def dreg(p: AbstractProgramDistribution, q: AbstractProgramDistribution, K: int = 8) -> jax.Array:
    """`iwelbo` with the doubly reparametrised gradient; it needs `Reparam` at every site.

    Tucker et al. (2019), arXiv:1810.04152.
    """
    z, log_q = q.sim(K, pathwise=True)
    log_w = p.density(z, K) - log_q
    share = sg(softmax(log_w))
    through_z = p.density(z, K, fixed=True) - q.density(z, K, fixed=True)
    through_p = p.density(sg(z), K)
    surrogate = share**2 @ through_z + share @ through_p
    return sg(logsumexp(log_w) - jnp.log(K)) + surrogate - sg(surrogate)


@_register
def renyi(
    p: AbstractProgramDistribution,
    q: AbstractProgramDistribution,
    alpha: float = 0.5,
    K: int = 8,
) -> jax.Array:
    """E[log (1/K) sum_k w_k^(1 - alpha)] / (1 - alpha), w = p / q, alpha != 1.

    Li and Turner (2016), arXiv:1602.02311.
    """
    if alpha == 1:
        raise ValueError("renyi(alpha=1): the limit is the ELBO; take elbo.")
    z, log_q = q.sim(K)
    return (logsumexp((1 - alpha) * (p.density(z, K) - log_q)) - jnp.log(K)) / (1 - alpha)


@_register
def wake_phi(
    p: AbstractProgramDistribution, q: AbstractProgramDistribution, K: int = 8
) -> jax.Array:
    """The guide's update of reweighted wake-sleep: -KL(p(. | y) || q) up to a constant.

    Bornschein and Bengio (2015), arXiv:1406.2751.
    """
    z, log_w = normalize(p, q, K).particles()
    return softmax(log_w) @ q.density(z, K)


@_register
def wake_theta(
    p: AbstractProgramDistribution, q: AbstractProgramDistribution, K: int = 8
) -> jax.Array:
    """The model's update of reweighted wake-sleep: E[log p(y, z)] under the posterior."""
    z, log_w = normalize(p, q, K).particles()
    return softmax(log_w) @ p.density(z, K)


@_register
def symmetric_kl(
    p: AbstractProgramDistribution, q: AbstractProgramDistribution, K: int = 8
) -> jax.Array:
    """-KL(q || p(. | y)) - KL(p(. | y) || q) up to a constant."""
    return elbo(p, q) + wake_phi(p, q, K)


@_register
def thermodynamic(
    p: AbstractProgramDistribution,
    q: AbstractProgramDistribution,
    K: int = 8,
    partitions: int = 4,
) -> jax.Array:
    """The thermodynamic bound: the left sum of E_beta[log w] over beta in [0, 1].

    Masrani et al. (2019), arXiv:1907.00031.
    """
    z, log_q = q.sim(K)
    log_w = p.density(z, K) - log_q
    beta = jnp.arange(partitions) / partitions
    return (softmax(beta[:, None] * log_w[None], -1) @ log_w).mean()


def temperature_of(objective: Objective, last: int) -> float:
    """Return T where the optimum has the likelihood to the power 1 / T: beta / power.

    Args:
        objective: the objective, with its settings.
        last: the optimiser's last step, at which schedules count.
    """
    if getattr(objective, "func", None) is not OBJECTIVES["tempered_elbo"]:
        return 1.0
    given: dict[str, Any] = getattr(objective, "keywords", {})
    settings: list[Any] = [given.get(name, 1.0) for name in ("beta", "power")]
    beta, power = (cast(Any, x)(last) if callable(x) else x for x in settings)
    return float(beta) / float(power)


def _value_at_step(value: Schedule) -> Number:
    """Return a number, or the value of a schedule at the optimiser's step."""
    return value(step()) if callable(value) else value
