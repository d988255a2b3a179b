"""Log likelihoods of a batch of users, shape (b,), up to constants.

They are computed from the scores f of all items and the nonzeros alone:

    multinomial   sum_i x_i f_i - N logsumexp(f)                N = sum_i x_i
    bernoulli     sum_i x_i f_i + log sigmoid(-f_i)             x_i in [0, 1]
    gaussian      -sum_i c_i (x_i - f_i)^2 / 2                  c = 1 where x_i > 0, else `UNSEEN`
    poisson       sum_i x_i f_i - exp(f_i)

Reference: Liang et al. (2018), arXiv:1802.05814, equations 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bayesdl.recommend.rows import AnyArray, Entries

# The confidence that an item without an entry was seen and not wanted.
UNSEEN = 0.1


def _multinomial(f: AnyArray, x: Entries) -> jax.Array:
    """Return the log likelihood of draws from softmax(f)."""
    chosen = sum_by_user(x.value * f[x.user, x.item], x)
    return chosen - sum_by_user(x.value, x) * jax.nn.logsumexp(f, axis=1)


def _bernoulli(f: AnyArray, x: Entries) -> jax.Array:
    """Return the log likelihood of independent choices with logits f."""
    return sum_by_user(jnp.sign(x.value) * f[x.user, x.item], x) - jax.nn.softplus(f).sum(1)


def _gaussian(f: AnyArray, x: Entries) -> jax.Array:
    """Return the log likelihood of ones with mean f, where absences count less."""
    here, there = f[x.user, x.item], jnp.sign(x.value)
    entries = sum_by_user(there * ((1 - here) ** 2 - UNSEEN * here**2), x)
    return -entries / 2 - UNSEEN * (f**2).sum(1) / 2


def _poisson(f: AnyArray, x: Entries) -> jax.Array:
    """Return the log likelihood of counts with log rates f."""
    return sum_by_user(x.value * f[x.user, x.item], x) - jnp.exp(f).sum(1)


def sum_by_user(values: AnyArray, x: Entries) -> jax.Array:
    """Return the sum of one value for each entry over the entries of each user, shape (b,)."""
    return jax.ops.segment_sum(values, x.user, len(x.present), indices_are_sorted=True)


def multinomial_in_blocks(
    h: AnyArray, weight: AnyArray, bias: AnyArray, x: Entries, size: int
) -> jax.Array:
    """Return the multinomial log likelihood of f = h W + b, exactly, in blocks of items.

    The scores of only `size` items at a time are in memory.

    Args:
        h: the input of the last layer, shape (b, width).
        weight: the matrix of the last layer, shape (width, items).
        bias: the biases of the last layer, shape (items,).
        x: the batch of users.
        size: the number of items of a block.
    """
    items = weight.shape[1]
    count = -(-items // size)
    weights = jnp.pad(weight, ((0, 0), (0, count * size - items))).T.reshape(count, size, -1)
    biases = jnp.pad(bias, (0, count * size - items), constant_values=-jnp.inf).reshape(count, size)

    @jax.checkpoint
    def add_block(total: jax.Array, part: tuple) -> tuple[jax.Array, None]:
        W, b = part
        return jnp.logaddexp(total, jax.nn.logsumexp(h @ W.T + b[None], axis=1)), None

    total = jax.lax.scan(add_block, jnp.full(len(h), -jnp.inf), (weights, biases))[0]
    at_entries = (h[x.user] * weight.T[x.item]).sum(1) + bias[x.item]
    return sum_by_user(x.value * at_entries, x) - sum_by_user(x.value, x) * total


LIKELIHOODS: dict[str, Callable[[AnyArray, Entries], jax.Array]] = {
    "multinomial": _multinomial,
    "bernoulli": _bernoulli,
    "gaussian": _gaussian,
    "poisson": _poisson,
}
