"""Starting points of chains: a draw from the prior, a mode, or a point near one.

Each chain draws its own start. So if chains that started apart agree, that says something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key
from inference.core.problem import LogDensity
from inference.core.typing import Key
from inference.mcmc.blackjax_adapter import pathfinder_draw

Gradient: TypeAlias = Callable[[jax.Array, Key], jax.Array]
"""A function from a position, shape (d,), and a key to the gradient there or an estimate of it."""

OPTIMISER_STEPS = 2000
LEARNING_RATE = 0.01
CANDIDATES = 10


def _prior(density: LogDensity, key: Key) -> jax.Array:
    """Draw from the prior, shape (d,)."""
    return density.ravel(density.prior_draw(key))


def _uniform(density: LogDensity, key: Key) -> jax.Array:
    """Draw from U(-2, 2) in every unconstrained dimension, as Stan and NumPyro start."""
    like = density.shape
    return jax.random.uniform(tagged_key(key, "uniform"), like.shape, like.dtype, -2.0, 2.0)


def mode(density: LogDensity, key: Key, gradient: Gradient | None = None) -> jax.Array:
    """Follow Adam from a draw from the prior to a mode.

    The starts of the chains are then a deep ensemble (Lakshminarayanan et al. 2017,
    arXiv:1612.01474).

    Args:
        density: the log density of the posterior.
        key: the random key for the draw and the gradients.
        gradient: a function that maps (u, key) to an estimate of the log density's gradient;
            None for the exact gradient.
    """
    import optax

    adam = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, OPTIMISER_STEPS))

    def step(carry: tuple, key: Key) -> tuple:
        u, state = carry
        ascent = jax.grad(density.__call__)(u) if gradient is None else gradient(u, key)
        updates, state = adam.update(-ascent, state)
        return (u + updates, state), None

    start = _prior(density, tagged_key(key, "prior"))
    keys = jax.random.split(key, OPTIMISER_STEPS)
    (u, _), _ = jax.lax.scan(step, (start, adam.init(start)), keys)
    return u


def _pathfinder(density: LogDensity, key: Key) -> jax.Array:
    """Draw from Pathfinder's normal approximation, which L-BFGS finds on its way to a mode.

    L-BFGS begins at the most probable of `CANDIDATES` draws from U(-2, 2). The chain begins
    there too if Pathfinder fails. Zhang et al. (2022), arXiv:2108.03782.
    """
    candidates = jax.vmap(lambda key: _uniform(density, key))(
        jax.random.split(tagged_key(key, "candidates"), CANDIDATES)
    )
    start = candidates[jnp.argmax(jnp.nan_to_num(jax.vmap(density)(candidates), nan=-jnp.inf))]
    found = pathfinder_draw(density, start, tagged_key(key, "pathfinder"))
    better = jnp.isfinite(found).all() & (density(found) > density(start))
    return jnp.where(better, found, start)


STARTS = {"uniform": _uniform, "prior": _prior, "mode": mode, "pathfinder": _pathfinder}

# the starts that take no search
DRAWN = ("uniform", "prior")
