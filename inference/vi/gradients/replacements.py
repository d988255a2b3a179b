"""The replacements of the measure-valued derivative, by distribution.

Each function takes the distribution of an element, the draw and a key. It returns replacements,
shape (r, *site shape), and their coefficients c_j(theta), shape (r, *elements), with

    d/dtheta E[k] = sum_j dc_j/dtheta E[k(x_j) - k(x)].

Reference: Mohamed et al. (2020), arXiv:1906.10652.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.lax import stop_gradient as sg
from numpyro.distributions import Distribution

from inference.core.keys import named_key
from inference.core.typing import Key
from inference.vi.gradients.elements import element_log_probs, enumerate_states


def _broadcast(parameter: Any, x: jax.Array) -> jax.Array:
    """Return a parameter of a distribution with the shape of its draws."""
    return jnp.broadcast_to(parameter, x.shape)


def _normal_replacements(
    normal: dist.Normal, x: jax.Array, key: Key
) -> tuple[jax.Array, jax.Array]:
    """Return replacements of a normal draw.

    For the location they are mu +- sigma W with W ~ Rayleigh. For the scale they are mu + sigma M
    and mu + sigma M U, with M double-sided Maxwell and U uniform.
    """
    loc, scale = _broadcast(normal.loc, x), _broadcast(normal.scale, x)
    rayleigh = jnp.sqrt(2 * jax.random.exponential(named_key(key, "rayleigh"), x.shape, x.dtype))
    sign = jax.random.rademacher(named_key(key, "sign"), x.shape, x.dtype)
    maxwell = sign * jax.random.maxwell(named_key(key, "maxwell"), x.shape, x.dtype)
    within = maxwell * jax.random.uniform(named_key(key, "uniform"), x.shape, x.dtype)
    steps = jnp.stack([rayleigh, -rayleigh, maxwell, within])
    in_loc, in_scale = loc / sg(scale * math.sqrt(2 * math.pi)), scale / sg(scale)
    return loc[None] + scale[None] * steps, jnp.stack([in_loc, -in_loc, in_scale, -in_scale])


def _poisson_replacements(
    poisson: dist.Poisson, x: jax.Array, key: Key
) -> tuple[jax.Array, jax.Array]:
    """Return the replacement x + 1, as d/drate E[k(x)] = E[k(x + 1) - k(x)]."""
    return (x + 1)[None], _broadcast(poisson.rate, x)[None]


def _gamma_replacements(gamma: dist.Gamma, x: jax.Array, key: Key) -> tuple[jax.Array, jax.Array]:
    """Return replacements of a gamma draw.

    For the rate it is x + Exponential(rate), which has concentration + 1; for the concentration
    an independent draw.
    """
    concentration = _broadcast(gamma.concentration, x)
    rate = _broadcast(gamma.rate, x)
    larger = x + jax.random.exponential(named_key(key, "exponential"), x.shape, x.dtype) / rate
    other = gamma.sample(named_key(key, "other"), x.shape[: x.ndim - len(gamma.batch_shape)])
    score = jnp.log(x) + jnp.log(rate) - jax.scipy.special.digamma(concentration)
    coefficients = [-rate * sg(concentration / rate), -concentration * sg(score)]
    return jnp.stack([larger, jnp.broadcast_to(other, x.shape)]), jnp.stack(coefficients)


def other_states(distribution: Distribution, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return all other values of elements with finitely many, and their probabilities."""
    states = enumerate_states(distribution)
    table = jnp.exp(element_log_probs(distribution, states))
    same = (states == value[None]).reshape(*table.shape, -1).all(-1)
    others = jnp.arange(1, len(states)).reshape(-1, *(1,) * (table.ndim - 1))
    offsets = (same.argmax(0)[None] + others) % len(states)
    events = offsets.reshape(*offsets.shape, *(1,) * (states.ndim - offsets.ndim))
    return jnp.take_along_axis(states, events, 0), jnp.take_along_axis(table, offsets, 0)


REPLACEMENTS: dict[type[Distribution], Callable] = {
    dist.Normal: _normal_replacements,
    dist.Poisson: _poisson_replacements,
    dist.Gamma: _gamma_replacements,
}
