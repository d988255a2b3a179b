"""Whether data are like those of a prior: the prequential code length of y given X,

    L(y) = mean over k of -log q(y_k | x_k, (x_1, y_1), ..., (x_{k-1}, y_{k-1})),

compared with that of targets drawn from the prior at the same X (Dawid 1984). Multiplied by the
number of rows it is about -log p(y | X).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from inference.amortized.network import AbstractNetwork
from inference.core.typing import Key
from inference.distributions.bars import Grid

# The most places at which the next target is predicted.
PLACES = 8

# Data sets computed at once, which bounds the memory.
AT_ONCE = 8


@partial(jax.jit, static_argnames=("outputs",))
def code_lengths(
    network: AbstractNetwork,
    grid: Grid | None,
    X: jax.Array,
    y: jax.Array,
    keys: Key,
    outputs: int,
) -> jax.Array:
    """Return L of each data set, its rows in a random order.

    Args:
        network: the trained network.
        grid: the grid of its bars, or None for classes.
        X: the inputs of all data sets, shape (rows, inputs).
        y: the targets, shape (data sets, rows).
        keys: one key per data set.
        outputs: the number of the network's outputs in use.
    """
    rows = len(X)
    places = jnp.round(jnp.linspace(0, rows - 1, min(PLACES, rows))).astype(jnp.int32)

    def one(given: tuple[jax.Array, Key]) -> jax.Array:
        y, key = given
        order = jax.random.permutation(key, rows)
        X_all = jnp.broadcast_to(X[order][None], (len(places), *X.shape))
        y_all = jnp.broadcast_to(y[order][None], (len(places), rows))
        cache = network.condition(X_all, y_all, places)
        q = network.predictive(cache, X[order][places][:, None], grid, outputs)
        return -q.log_prob(y[order][places][:, None]).mean()

    return jax.lax.map(one, (y, keys), batch_size=AT_ONCE)
