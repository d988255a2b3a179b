"""Log likelihoods of a batch of users from the scores of all items and the nonzeros alone, shape (b,); constants left out.

    multinomial   sum_i x_i f_i - N logsumexp(f)                        N = sum_i x_i
    bernoulli     sum_i x_i f_i + log sigmoid(-f_i)                     x_i in [0, 1]
    gaussian      -sum_i c_i (x_i - f_i)^2 / 2                          c = 1 where x_i > 0, else `UNSEEN`
    poisson       sum_i x_i f_i - exp(f_i)

Reference: Liang et al. (2018), arXiv:1802.05814, equations 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bayesdl.recommend.rows import Entries

UNSEEN = 0.1  # confidence that an item without an entry was seen and not wanted


def multinomial(f: Any, x: Entries) -> jax.Array:
    return of_entries(x.value * f[x.user, x.item], x) - of_entries(x.value, x) * jax.nn.logsumexp(
        f, axis=1
    )


def bernoulli(f: Any, x: Entries) -> jax.Array:
    return of_entries(jnp.sign(x.value) * f[x.user, x.item], x) - jax.nn.softplus(f).sum(1)


def gaussian(f: Any, x: Entries) -> jax.Array:
    here, there = f[x.user, x.item], jnp.sign(x.value)
    return (
        -of_entries(there * ((1 - here) ** 2 - UNSEEN * here**2), x) / 2
        - UNSEEN * (f**2).sum(1) / 2
    )


def poisson(f: Any, x: Entries) -> jax.Array:
    return of_entries(x.value * f[x.user, x.item], x) - jnp.exp(f).sum(1)


def of_entries(values: Any, x: Entries) -> jax.Array:
    """Sums of the entries of each user."""
    return jax.ops.segment_sum(values, x.user, len(x.present), indices_are_sorted=True)


def multinomial_in_blocks(h: Any, weight: Any, bias: Any, x: Entries, size: int) -> jax.Array:
    """The multinomial of f = h W + b with the scores of only `size` items at a time in memory; exact.

    Args:
        h: what the last layer sees, shape (b, width).
        weight: its matrix, shape (width, items).
        bias: shape (items,).
        x: the batch.
        size: items of a block.
    """
    items = weight.shape[1]
    count = -(-items // size)
    weights = jnp.pad(weight, ((0, 0), (0, count * size - items))).T.reshape(count, size, -1)
    biases = jnp.pad(bias, (0, count * size - items), constant_values=-jnp.inf).reshape(count, size)

    @jax.checkpoint
    def block(total: jax.Array, part: tuple) -> tuple[jax.Array, None]:
        W, b = part
        return jnp.logaddexp(total, jax.nn.logsumexp(h @ W.T + b[None], axis=1)), None

    total = jax.lax.scan(block, jnp.full(len(h), -jnp.inf), (weights, biases))[0]
    at_entries = (h[x.user] * weight.T[x.item]).sum(1) + bias[x.item]
    return of_entries(x.value * at_entries, x) - of_entries(x.value, x) * total


LIKELIHOODS: dict[str, Callable] = {
    "multinomial": multinomial,
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "poisson": poisson,
}
