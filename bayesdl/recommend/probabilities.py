"""What draws of scores say: probabilities of items, upper bounds of them, and the temperature.

A draw is a function of a key for each user. It gives the log weights of all items for a block of
users, shape (b, items). It is a `jax.tree_util.Partial`, so that its arrays may be traced. Keys
have shape (1,) or (b,). With one key for all, users of whom the same is known get the same
probabilities, and noise is drawn once. With a key for each, users explore independently, and errors
of the draws cancel in sums over users.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from scipy.optimize import brentq

from bayesdl.recommend.hits import (
    expected_distinct,
    hits_distribution,
    inclusion_probabilities,
    quantile_membership,
)
from bayesdl.recommend.rows import AnyArray

# Draws of the posterior for probabilities and intervals.
DRAWS = 100
# Draws of the posterior for the temperature.
CALIBRATION_DRAWS = 10
# Errors of coverage up to this are not worth a warning.
SMALL = 0.03
# The probability between the quantiles of hits that are checked.
LEVEL = 0.9


class TopLists(NamedTuple):
    """The best items of a block of validation users, and what these users have hidden.

    Attributes:
        draw: the draw of the log weights, as the module's docstring says.
        keys: the keys of the block's users, shape (b,).
        hide: whether each item may not be recommended, shape (b, items).
        items: the columns of the best items, shape (b, k).
        n: the number of held-out items of each user, shape (b,).
        hits: the number of held-out items in each list, shape (b,).
    """

    draw: Partial
    keys: jax.Array
    hide: AnyArray
    items: AnyArray
    n: AnyArray
    hits: AnyArray


def fit_temperature(lists: list[TopLists], spread: float) -> tuple[float, float]:
    """Find the temperature T at which as many hits are expected as there are.

    Where no T does this, the one that comes nearest is taken.

    Args:
        lists: the blocks of all validation users.
        spread: the standard deviation of the log weights.

    Returns:
        T, and the number of hits that is expected with it.
    """
    hits = sum(int(part.hits.sum()) for part in lists)

    def surplus(log_T: float) -> float:
        return sum(float(_sum_expected_hits(part, np.exp(log_T))) for part in lists) - hits

    # From flat distributions to sharp ones, expected hits grow, until the probabilities of all but
    # a few items are too small for a number.
    tried = np.log(max(spread, 1e-6)) + np.arange(3.0, -5.0, -0.5)
    found = [surplus(float(tried[0]))]
    while not found[-1] > 0 and len(found) < len(tried):
        found.append(surplus(float(tried[len(found)])))
    if len(found) > 1 and found[-1] > 0:
        root: Any = brentq(surplus, tried[len(found) - 1], tried[len(found) - 2], xtol=1e-3)
        return float(np.exp(root)), float(hits)
    nearest = int(np.nanargmin(np.abs(found)))
    return float(np.exp(tried[nearest])), hits + found[nearest]


def warn_if_miscalibrated(
    name: str, lists: list[TopLists], temperature: float, expected: float
) -> None:
    """Warn where hits of validation users are not what the probabilities say.

    Args:
        name: the name of the recommender's class.
        lists: the blocks of all validation users.
        temperature: the temperature that was fitted.
        expected: the number of hits that is expected with it.
    """
    hits = sum(int(part.hits.sum()) for part in lists)
    covered, error = quantile_coverage(lists, temperature)
    if abs(expected - hits) > 0.5 or not np.isfinite(expected):
        finding = (
            f"{expected:.1f} hits of validation users are expected at the best temperature, "
            f"{hits} are there"
        )
    elif abs(covered - LEVEL) > 3 * error + SMALL:
        finding = (
            f"quantiles that should hold the hits of {LEVEL:.0%} of the validation users hold "
            f"those of {covered:.0%}"
        )
    else:
        return
    warnings.warn(f"{name}: {finding}: its probabilities are doubtful.", stacklevel=4)


def user_keys(key: jax.Array, first: int, users: int) -> jax.Array:
    """Return a key for each user by position among all users, from the position `first` on."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(first, first + users))


def _draw_keys(keys: jax.Array, draws: int) -> jax.Array:
    """Return a key for each draw of each user, shape (draws, 1) or (draws, b)."""
    return jax.vmap(lambda key: jax.random.split(key, draws), out_axes=1)(keys)


def normal_noise(keys: jax.Array, size: int) -> jax.Array:
    """Draw standard normal numbers for each key, shape (keys, size)."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


@jax.jit
def draw_once(draw: Partial, keys: jax.Array) -> jax.Array:
    """Draw the log weights of all items once, shape (b, items)."""
    return draw(keys)


@functools.partial(jax.jit, static_argnames="draws")
def draw_probabilities(
    draw: Partial,
    keys: jax.Array,
    hide: AnyArray,
    items: AnyArray,
    temperature: ArrayLike,
    draws: int = DRAWS,
) -> tuple[jax.Array, jax.Array]:
    """Draw the probability of items to be the next among those that are not hidden.

    Args:
        draw: the draw of the log weights.
        keys: the keys of the users, shape (1,) or (b,).
        hide: whether each item may not be recommended, shape (b, items).
        items: the columns of the items of interest, shape (b, k).
        temperature: T of the probabilities.
        draws: the number of draws.

    Returns:
        The probabilities of these items, shape (b, draws, k), and `expected_distinct` of the whole
        distributions, shape (b, draws, DOUBLINGS).
    """

    def one_draw(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = jnp.where(hide, -jnp.inf, draw(keys) / temperature)
        total = jax.nn.logsumexp(logits, axis=1, keepdims=True)
        # A user to whom nothing may be recommended has no distribution.
        p = jnp.where(hide, 0.0, jnp.exp(logits - total))
        return jnp.take_along_axis(p, items, axis=1), expected_distinct(p)

    return jax.tree.map(
        lambda leaf: jnp.swapaxes(leaf, 0, 1), jax.lax.map(one_draw, _draw_keys(keys, draws))
    )


@jax.jit
def _sum_expected_hits(part: TopLists, temperature: ArrayLike) -> jax.Array:
    """Return the expected hits of all users of a block together, each with n next items."""
    probabilities, counts = draw_probabilities(
        part.draw, part.keys, part.hide, part.items, temperature, CALIBRATION_DRAWS
    )
    return inclusion_probabilities(probabilities, counts, part.n).sum(2).mean(1).sum()


def quantile_coverage(lists: list[TopLists], temperature: float) -> tuple[float, float]:
    """Return the share of users whose hits are between the quantiles of their distribution.

    Users without held-out items are left out.

    Args:
        lists: the blocks of all validation users.
        temperature: T of the probabilities.

    Returns:
        The share, and its standard error if the distributions are right.
    """
    shares, variance = [], 0.0
    for part in lists:
        drawn = draw_probabilities(part.draw, part.keys, part.hide, part.items, temperature)
        distributions = np.asarray(hits_distribution(*drawn, part.n), float)
        judged = np.asarray(part.n) > 0
        inside = quantile_membership(distributions, LEVEL)
        shares.append(np.take_along_axis(inside, np.asarray(part.hits)[:, None], axis=1)[judged, 0])
        variance += ((distributions * inside**2).sum(1) - LEVEL**2)[judged].sum()
    found = np.concatenate(shares)
    return float(found.mean()), float(np.sqrt(max(variance, 0.0)) / len(found))


@jax.jit
def upper_bounds(
    draw: Partial, keys: jax.Array, hide: AnyArray, temperature: ArrayLike
) -> jax.Array:
    """Return the mean plus one standard deviation of the log probabilities, shape (b, items).

    Log probabilities are taken as scores alone have no zero of their own.

    Args:
        draw: the draw of the log weights.
        keys: the keys of the users, shape (1,) or (b,).
        hide: whether each item may not be recommended, shape (b, items).
        temperature: T of the probabilities.
    """

    def log_probabilities(keys: jax.Array) -> jax.Array:
        logits = jnp.where(hide, -jnp.inf, draw(keys) / temperature)
        return jnp.where(hide, 0.0, jax.nn.log_softmax(logits, axis=1))

    def step(carry: tuple, keys: jax.Array) -> tuple[tuple, None]:
        mean, squares, count = carry
        f = log_probabilities(keys)
        new = mean + (f - mean) / count
        return (new, squares + (f - mean) * (f - new), count + 1), None

    zero = jnp.zeros(hide.shape)
    (mean, squares, _), _ = jax.lax.scan(step, (zero, zero, jnp.ones(())), _draw_keys(keys, DRAWS))
    return mean + jnp.sqrt(squares / (DRAWS - 1))
