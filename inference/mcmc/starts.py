"""Where chains start: at a draw from the prior, at a mode, or near one.

Starts are drawn for each chain by itself, so that chains that started apart and agree say something.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key
from inference.core.problem import LogDensity

Gradient = Callable[[jax.Array, jax.Array], jax.Array]

OPTIMISER_STEPS = 2000
LEARNING_RATE = 0.01
CANDIDATES = 10


def prior(density: LogDensity, key: jax.Array) -> jax.Array:
    """A draw from the prior, shape (d,)."""
    return density.ravel(density.prior_draw(key))


def uniform(density: LogDensity, key: jax.Array) -> jax.Array:
    """U(-2, 2) in every unconstrained dimension, as Stan and NumPyro start."""
    shape = jax.eval_shape(lambda key: prior(density, key), key)
    return jax.random.uniform(tagged_key(key, "uniform"), shape.shape, shape.dtype, -2.0, 2.0)


def mode(density: LogDensity, key: jax.Array, gradient: Gradient | None = None) -> jax.Array:
    """Where Adam ends from a draw from the prior; the chains' starts are then a deep ensemble (arXiv:1612.01474).

    Args:
        density: of the posterior.
        key: of the draw, and of the gradients.
        gradient: maps (u, key) to an estimate of the log density's gradient; the exact one where None.
    """
    import optax

    adam = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, OPTIMISER_STEPS))

    def step(carry: tuple, key: jax.Array) -> tuple:
        u, state = carry
        ascent = jax.grad(density.__call__)(u) if gradient is None else gradient(u, key)
        updates, state = adam.update(-ascent, state)
        return (u + updates, state), None

    start = prior(density, tagged_key(key, "prior"))
    (u, _), _ = jax.lax.scan(
        step, (start, adam.init(start)), jax.random.split(key, OPTIMISER_STEPS)
    )
    return u


def pathfinder(density: LogDensity, key: jax.Array) -> jax.Array:
    """A draw from Pathfinder's normal approximation, found on the way of L-BFGS from near U(-2, 2) to a mode.

    L-BFGS begins at the most probable of `CANDIDATES` draws from U(-2, 2), and the chain begins there where it fails.
    Zhang et al. (2022), arXiv:2108.03782.
    """
    from inference.mcmc.blackjax_adapter import pathfinder_draw

    candidates = jax.vmap(lambda key: uniform(density, key))(
        jax.random.split(tagged_key(key, "candidates"), CANDIDATES)
    )
    start = candidates[jnp.argmax(jnp.nan_to_num(jax.vmap(density)(candidates), nan=-jnp.inf))]
    found = pathfinder_draw(density, start, tagged_key(key, "pathfinder"))
    better = jnp.isfinite(found).all() & (density(found) > density(start))
    return jnp.where(better, found, start)


STARTS = {"uniform": uniform, "prior": prior, "mode": mode, "pathfinder": pathfinder}
DRAWN = ("uniform", "prior")  # without a search
