"""How many items of a list are among a user's next n, which are all different.

The next items come one by one from the law p of the next item, those that came left out. Let item i ring after a time of
Exp(p_i): the items ring in an order of this very law, and item i has rung by time t with chance 1 - exp(-t p_i). It is among
the first n where it rings before the n-th does. The time of that is taken as known, the t with

    S(t) = sum_i 1 - exp(-t p_i) = n      over all items that may come.

Then S(2 t) - S(t) is the variance of how many have rung, and that there are n in all makes the number of hits less variable
than that of independent items: what rang beside the list is taken as binomial, with its mean and variance, and the law of hits
is tilted to the mean that the chances add up to. For n <= 1 all is exact: the chance is n p_i, of one hit at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OCTAVES = 20  # S is known at the times 1, 2, 4, ..., 2^19
STEPS = 5  # to a root, from where little is lacking
BLOCK = 128  # users whose laws are in memory at a time


def distinct(p: Any) -> jax.Array:
    """S(t) of laws over the last axis at t = 1, 2, 4, ..., shape (..., OCTAVES)."""

    def double(rung: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return rung * (2 - rung), rung.sum(-1)

    return jnp.moveaxis(jax.lax.scan(double, -jnp.expm1(-p), None, OCTAVES)[1], 0, -1)


@jax.jit
def included(chances: Any, counts: Any, n: Any) -> jax.Array:
    """The chance of items to be among the next n, shape (users, draws, k).

    Args:
        chances: of the next item, shape (users, draws, k).
        counts: `distinct` of the laws they are from, shape (users, draws, OCTAVES).
        n: shape (users,).
    """
    return jax.vmap(jax.vmap(rung, (0, 0, None)))(chances, counts, n)


@jax.jit
def hits_law(chances: Any, counts: Any, n: Any) -> jax.Array:
    """The chance of 0, 1, ..., k hits among the next n, a mean over draws, shape (users, k + 1).

    Args:
        chances: as of `included`.
        counts: as of `included`.
        n: shape (users,).
    """
    return jax.vmap(jax.vmap(law, (0, 0, None)))(chances, counts, n).mean(1)


def by_blocks(function: Callable, *arrays: np.ndarray) -> Any:
    """A function of arrays over any number of users, in blocks of one size, so that it is compiled once for each k."""
    found, users = [], len(arrays[0])
    for first in range(0, max(users, 1), BLOCK):
        parts = [leaf[first : first + BLOCK] for leaf in arrays]
        filled = [
            np.pad(part, [(0, BLOCK - len(part))] + [(0, 0)] * (part.ndim - 1)) for part in parts
        ]
        found.append(jax.tree.map(np.asarray, function(*filled)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:users], *found)


@jax.jit
def shortest(laws: Any, level: Any) -> tuple[jax.Array, jax.Array]:
    """The shortest intervals with at least this chance, and of these the most probable; ends of shape (users,).

    Args:
        laws: chances of 0, 1, ..., shape (users, size).
        level: of the intervals, shape (users,).
    """
    size = laws.shape[1]
    below = jnp.cumsum(jnp.pad(laws, ((0, 0), (1, size))), axis=1)

    def of_width(width: Any) -> tuple[jax.Array, jax.Array]:
        mass = jax.lax.dynamic_slice_in_dim(below, width + 1, size, axis=1) - below[:, :size]
        return mass.argmax(1), mass.max(1)

    starts, masses = jax.lax.map(of_width, jnp.arange(size))
    width = (masses >= level[None] - 1e-5).at[-1].set(True).argmax(0)
    low = jnp.take_along_axis(starts, width[None], axis=0)[0]
    return low, low + width


def between_quantiles(laws: np.ndarray, level: float) -> np.ndarray:
    """How far each number of hits is between the quantiles of the law, shape (users, k + 1); the law's mean of it is the level.

    One for numbers inside, zero outside; for those that an end falls on the share which makes the level exact.
    """
    below = np.cumsum(laws, axis=1)
    inside = np.minimum(below, (1 + level) / 2) - np.maximum(below - laws, (1 - level) / 2)
    return np.clip(inside / np.maximum(laws, 1e-12), 0, 1)


def log_rung(log_S: Any, x: Any) -> jax.Array:
    """Log S at t = 2^x: cubic between the octaves, linear beyond the last."""
    i = jnp.clip(jnp.floor(x), 0, OCTAVES - 2).astype(int)
    at = log_S[jnp.clip(i + jnp.arange(-1, 3), 0, OCTAVES - 1)]
    u, slopes = x - i, (at[2:] - at[:-2]) / 2
    slopes = jnp.where(i == 0, jnp.stack([at[2] - at[1], slopes[1]]), slopes)
    cubic = u * (1 - u) * ((1 - u) * slopes[0] - u * slopes[1] + (2 * u - 1) * (at[2] - at[1]))
    return at[1] + u * (at[2] - at[1]) + jnp.where(u <= 1, cubic, 0.0)


def log_time(counts: Any, n: Any) -> jax.Array:
    """The base-2 logarithm of the t with S(t) = n, by chords from where log S is taken as linear between octaves."""
    log_S, wanted = jnp.log(counts), jnp.log(jnp.maximum(n, 1.0))
    start = jnp.interp(wanted, log_S, jnp.arange(float(OCTAVES)))
    slope = jnp.maximum(
        jnp.interp(start + 0.5, jnp.arange(0.5, OCTAVES - 1), jnp.diff(log_S)), 1e-3
    )

    def step(i: Any, x: jax.Array) -> jax.Array:
        return x + jnp.clip((wanted - log_rung(log_S, x)) / slope, -0.5, 0.5)

    return jax.lax.fori_loop(0, STEPS, step, start)


def rung(p: Any, counts: Any, n: Any) -> jax.Array:
    """The chance of items to be among the next n by one law, shape (k,); all are where n is more than ever ring."""
    later = jnp.where(n >= counts[-1], jnp.sign(p), -jnp.expm1(-jnp.exp2(log_time(counts, n)) * p))
    return jnp.where(n <= 1, n * p, later)


def law(p: Any, counts: Any, n: Any) -> jax.Array:
    """The chance of 0, 1, ..., k hits among the next n by one law, shape (k + 1,)."""
    q = rung(p, counts, n)
    alone = jax.lax.scan(one_more, jnp.zeros(len(q) + 1).at[0].set(1.0), q)[0]
    weights = jnp.where(alone > 0, jnp.log(alone), -jnp.inf) + log_rest(q, counts, n)
    few = jnp.zeros(len(q) + 1).at[:2].set(jnp.stack([1 - q.sum(), q.sum()]))
    return jnp.where(n <= 1, few, tilted(weights, q.sum()))


def tilted(weights: Any, mean: Any) -> jax.Array:
    """The law in proportion to exp(weights + c h) with this mean; Newton's method for c."""
    h = jnp.arange(float(len(weights)))

    def step(i: Any, c: jax.Array) -> jax.Array:
        law = jax.nn.softmax(weights + c * h)
        got = (law * h).sum()
        return c + (mean - got) / jnp.maximum((law * (h - got) ** 2).sum(), 1e-2)

    return jax.nn.softmax(weights + jax.lax.fori_loop(0, STEPS, step, jnp.zeros(())) * h)


def one_more(law: jax.Array, q: jax.Array) -> tuple[jax.Array, None]:
    """The law of the number of independent hits with one item more."""
    return law * (1 - q) + jnp.roll(law, 1) * q, None


def log_rest(q: Any, counts: Any, n: Any) -> jax.Array:
    """The log chance of n - h items beside the list for h = 0, ..., k, up to a constant.

    Binomial with mean m and variance v, by the ratio of the chances of r - 1 and r,  r v / (m^2 - (m - v) (r - 1)).
    """
    spread = jnp.exp(log_rung(jnp.log(counts), log_time(counts, n) + 1)) - n
    m = jnp.maximum(n - q.sum(), 1e-6)
    v = jnp.clip(spread - (q * (1 - q)).sum(), 1e-6 * m, m)
    r = n - jnp.arange(len(q))
    ratio = jnp.maximum(r, 0.0) * v / jnp.maximum(m**2 - (m - v) * (r - 1), 1e-6 * m**2)
    return jnp.pad(jnp.cumsum(jnp.log(jnp.maximum(ratio, 1e-30))), (1, 0))
