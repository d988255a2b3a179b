"""How many items of a list are among a user's next n items, which are all different.

The next items come one by one from the distribution p of the next item; items that came before are
left out. Give item i an arrival time with distribution Exp(p_i). The items then arrive in an order
with exactly this distribution, and item i has arrived by time t with probability 1 - exp(-t p_i).
It is among the next n items if it arrives before the n-th. The arrival time of the n-th item is
treated as known: it is the t with

    S(t) = sum_i 1 - exp(-t p_i) = n      over all items that may come.

S(2 t) - S(t) is the variance of the number of items that have arrived. As there are n arrivals in
all, the number of hits varies less than for independent items: the number of arrivals outside the
list is taken as binomial with its mean and variance, and the distribution of hits is tilted to the
mean that the inclusion probabilities add up to. For n <= 1 everything is exact: the probability is
n p_i, with one hit at most.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from bayesdl.recommend.rows import AnyArray

# S is known at the times 1, 2, 4, ..., 2^19.
DOUBLINGS = 20
# Iterations of the root finders, which start close to the root.
STEPS = 5
# Users whose distributions are in memory at a time.
BLOCK = 128


def expected_distinct(p: AnyArray) -> jax.Array:
    """Return S(t) at t = 1, 2, 4, ..., the expected number of different items that have arrived.

    Args:
        p: distributions of the next item over the last axis, shape (..., items).

    Returns:
        S, shape (..., DOUBLINGS).
    """

    def double(arrived: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return arrived * (2 - arrived), arrived.sum(-1)

    return jnp.moveaxis(jax.lax.scan(double, -jnp.expm1(-p), None, DOUBLINGS)[1], 0, -1)


@jax.jit
def inclusion_probabilities(probabilities: AnyArray, counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the probability of each item to be among the next n, shape (users, draws, k).

    Args:
        probabilities: the probability of each item to be the next, shape (users, draws, k).
        counts: `expected_distinct` of the distributions that these are from, shape
            (users, draws, DOUBLINGS).
        n: the number of next items of each user, shape (users,).
    """
    return jax.vmap(jax.vmap(_inclusion_probability, (0, 0, None)))(probabilities, counts, n)


@jax.jit
def hits_distribution(probabilities: AnyArray, counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the probability of 0, 1, ..., k hits among the next n, shape (users, k + 1).

    It is a mean over draws.

    Args:
        probabilities: as in `inclusion_probabilities`.
        counts: as in `inclusion_probabilities`.
        n: the number of next items of each user, shape (users,).
    """
    one_draw = jax.vmap(jax.vmap(_hits_distribution_of_draw, (0, 0, None)))
    return one_draw(probabilities, counts, n).mean(1)


def map_blocks(function: Callable[..., PyTree], *arrays: np.ndarray) -> PyTree:
    """Apply a compiled function to arrays over users, in blocks of one size.

    It is compiled once for each k, whatever the number of users.

    Args:
        function: a function of arrays whose first axis is that of users.
        arrays: its arguments.
    """
    found, users = [], len(arrays[0])
    for first in range(0, max(users, 1), BLOCK):
        parts = [leaf[first : first + BLOCK] for leaf in arrays]
        filled = [
            np.pad(part, [(0, BLOCK - len(part))] + [(0, 0)] * (part.ndim - 1)) for part in parts
        ]
        found.append(jax.tree.map(np.asarray, function(*filled)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:users], *found)


@jax.jit
def shortest_intervals(distributions: AnyArray, level: AnyArray) -> tuple[jax.Array, jax.Array]:
    """Return the ends of the shortest intervals with at least this probability, shape (users,).

    Of intervals of the same length it is the most probable one.

    Args:
        distributions: the probabilities of 0, 1, ..., shape (users, size).
        level: the probability of the intervals, shape (users,).
    """
    size = distributions.shape[1]
    below = jnp.cumsum(jnp.pad(distributions, ((0, 0), (1, size))), axis=1)

    def best_of_width(width: jax.Array) -> tuple[jax.Array, jax.Array]:
        mass = jax.lax.dynamic_slice_in_dim(below, width + 1, size, axis=1) - below[:, :size]
        return mass.argmax(1), mass.max(1)

    starts, masses = jax.lax.map(best_of_width, jnp.arange(size))
    width = (masses >= level[None] - 1e-5).at[-1].set(True).argmax(0)
    low = jnp.take_along_axis(starts, width[None], axis=0)[0]
    return low, low + width


def quantile_membership(distributions: np.ndarray, level: float) -> np.ndarray:
    """Return how far each number of hits is between the quantiles, shape (users, k + 1).

    It is one for numbers inside and zero for numbers outside. For a number that an end falls on it
    is the share that makes the level exact, so that its mean under the distribution is the level.

    Args:
        distributions: the probabilities of 0, 1, ..., k hits, shape (users, k + 1).
        level: the probability between the two quantiles.
    """
    below = np.cumsum(distributions, axis=1)
    inside = np.minimum(below, (1 + level) / 2) - np.maximum(below - distributions, (1 - level) / 2)
    return np.clip(inside / np.maximum(distributions, 1e-12), 0, 1)


def _log_expected_count(log_S: AnyArray, x: ArrayLike) -> jax.Array:
    """Return log S at t = 2^x: cubic between the doublings, linear beyond the last.

    Args:
        log_S: log S at t = 1, 2, 4, ..., shape (DOUBLINGS,).
        x: the base-2 logarithm of the time.
    """
    i = jnp.clip(jnp.floor(x), 0, DOUBLINGS - 2).astype(int)
    at = log_S[jnp.clip(i + jnp.arange(-1, 3), 0, DOUBLINGS - 1)]
    u, slopes = x - i, (at[2:] - at[:-2]) / 2
    slopes = jnp.where(i == 0, jnp.stack([at[2] - at[1], slopes[1]]), slopes)
    cubic = u * (1 - u) * ((1 - u) * slopes[0] - u * slopes[1] + (2 * u - 1) * (at[2] - at[1]))
    return at[1] + u * (at[2] - at[1]) + jnp.where(u <= 1, cubic, 0.0)


def _log2_arrival_time(counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the base-2 logarithm of the t with S(t) = n.

    The root is found by chords, from where log S is taken as linear between doublings.

    Args:
        counts: S at t = 1, 2, 4, ..., shape (DOUBLINGS,).
        n: the number of arrivals.
    """
    log_S, wanted = jnp.log(counts), jnp.log(jnp.maximum(n, 1.0))
    start = jnp.interp(wanted, log_S, jnp.arange(float(DOUBLINGS)))
    slope = jnp.maximum(
        jnp.interp(start + 0.5, jnp.arange(0.5, DOUBLINGS - 1), jnp.diff(log_S)), 1e-3
    )

    def step(i: ArrayLike, x: jax.Array) -> jax.Array:
        return x + jnp.clip((wanted - _log_expected_count(log_S, x)) / slope, -0.5, 0.5)

    return jax.lax.fori_loop(0, STEPS, step, start)


def _inclusion_probability(p: AnyArray, counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the probability of each item to be among the next n under one draw, shape (k,).

    All items are included where n is more than ever arrive.

    Args:
        p: the probability of each item to be the next, shape (k,).
        counts: S at t = 1, 2, 4, ..., shape (DOUBLINGS,).
        n: the number of next items.
    """
    time = jnp.exp2(_log2_arrival_time(counts, n))
    later = jnp.where(n >= counts[-1], jnp.sign(p), -jnp.expm1(-time * p))
    return jnp.where(n <= 1, n * p, later)


def _hits_distribution_of_draw(p: AnyArray, counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the probability of 0, 1, ..., k hits among the next n under one draw, shape (k + 1,).

    Args:
        p: the probability of each item to be the next, shape (k,).
        counts: S at t = 1, 2, 4, ..., shape (DOUBLINGS,).
        n: the number of next items.
    """
    q = _inclusion_probability(p, counts, n)
    independent = jax.lax.scan(_add_item, jnp.zeros(len(q) + 1).at[0].set(1.0), q)[0]
    weights = jnp.where(independent > 0, jnp.log(independent), -jnp.inf)
    weights = weights + _log_rest_probability(q, counts, n)
    few = jnp.zeros(len(q) + 1).at[:2].set(jnp.stack([1 - q.sum(), q.sum()]))
    return jnp.where(n <= 1, few, _tilt_to_mean(weights, q.sum()))


def _tilt_to_mean(weights: jax.Array, mean: AnyArray) -> jax.Array:
    """Return the distribution in proportion to exp(weights + c h) that has this mean.

    Newton's method finds c.

    Args:
        weights: log weights of h = 0, 1, ..., shape (k + 1,).
        mean: the mean of h.
    """
    h = jnp.arange(float(len(weights)))

    def step(i: ArrayLike, c: jax.Array) -> jax.Array:
        distribution = jax.nn.softmax(weights + c * h)
        got = (distribution * h).sum()
        return c + (mean - got) / jnp.maximum((distribution * (h - got) ** 2).sum(), 1e-2)

    return jax.nn.softmax(weights + jax.lax.fori_loop(0, STEPS, step, jnp.zeros(())) * h)


def _add_item(distribution: jax.Array, q: jax.Array) -> tuple[jax.Array, None]:
    """Add an item with inclusion probability q to the distribution of independent hits."""
    return distribution * (1 - q) + jnp.roll(distribution, 1) * q, None


def _log_rest_probability(q: jax.Array, counts: AnyArray, n: AnyArray) -> jax.Array:
    """Return the log probability of n - h arrivals outside the list for h = 0, ..., k.

    It is known up to a constant. The number r of arrivals is binomial with mean m and variance v,
    by the ratio of the probabilities of r - 1 and r,  r v / (m^2 - (m - v) (r - 1)).

    Args:
        q: the inclusion probabilities of the items in the list, shape (k,).
        counts: S at t = 1, 2, 4, ..., shape (DOUBLINGS,).
        n: the number of next items.
    """
    spread = jnp.exp(_log_expected_count(jnp.log(counts), _log2_arrival_time(counts, n) + 1)) - n
    m = jnp.maximum(n - q.sum(), 1e-6)
    v = jnp.clip(spread - (q * (1 - q)).sum(), 1e-6 * m, m)
    r = n - jnp.arange(len(q))
    ratio = jnp.maximum(r, 0.0) * v / jnp.maximum(m**2 - (m - v) * (r - 1), 1e-6 * m**2)
    return jnp.pad(jnp.cumsum(jnp.log(jnp.maximum(ratio, 1e-30))), (1, 0))
