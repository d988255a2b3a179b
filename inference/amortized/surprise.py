"""Whether data are like those of a prior: the prequential code length of y given X,

    L(y) = mean over k of -log q(y_k | x_k, (x_1, y_1), ..., (x_{k-1}, y_{k-1})),

against that of targets drawn from the prior at the same X (Dawid 1984). Times the number of rows it is about -log p(y | X).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from inference.amortized.network import AbstractNetwork
from inference.distributions.bars import Grid

PLACES = 8  # at most, at which the next target is predicted
AT_ONCE = 8  # data sets


@partial(jax.jit, static_argnames=("outputs",))
def code_lengths(
    network: AbstractNetwork,
    grid: Grid | None,
    X: jax.Array,
    y: jax.Array,
    keys: jax.Array,
    outputs: int,
) -> jax.Array:
    """L of each data set, its rows in a random order.

    Args:
        network: trained.
        grid: of its bars, or None.
        X: shape (rows, inputs), the same for all.
        y: shape (data sets, rows).
        keys: one per data set.
        outputs: of the network that count.
    """
    rows = len(X)
    places = jnp.round(jnp.linspace(0, rows - 1, min(PLACES, rows))).astype(jnp.int32)

    def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        y, key = given
        order = jax.random.permutation(key, rows)
        X_all = jnp.broadcast_to(X[order][None], (len(places), *X.shape))
        y_all = jnp.broadcast_to(y[order][None], (len(places), rows))
        q = network.law(
            network.condition(X_all, y_all, places), X[order][places][:, None], grid, outputs
        )
        return -q.log_prob(y[order][places][:, None]).mean()

    return jax.lax.map(one, (y, keys), batch_size=AT_ONCE)
