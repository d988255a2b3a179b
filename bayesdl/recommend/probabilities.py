"""What draws of scores say: chances of items, upper bounds of them, and the temperature that matches hits to what was expected.

A draw is a function of a key for each user (`jax.tree_util.Partial`, so that its arrays may be traced) that gives the log
weights of all items for a block of users, shape (b, items). One key for all means that users of whom the same is known get the
same chances, and noise is drawn once; a key for each, that they explore apart, and that errors of the draws cancel in sums
over users. Keys have shape (1,) or (b,).
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from scipy.optimize import brentq

from bayesdl.recommend.hits import between_quantiles, distinct, hits_law, included

DRAWS = 100  # of the posterior, for probabilities and intervals
CALIBRATION_DRAWS = 10  # for the temperature
SMALL = 0.03  # errors of coverage that nobody needs to be told
LEVEL = 0.9  # of the quantiles of hits that are looked at


class Lists(NamedTuple):
    """The best items of a block of validation users.

    Attributes:
        draw: of their log weights.
        keys: of its users.
        hide: items they are not given, shape (b, items).
        items: the lists, shape (b, k).
        n: numbers of held-out items, shape (b,).
        hits: held-out items in the lists, shape (b,).
    """

    draw: Partial
    keys: Any
    hide: Any
    items: Any
    n: Any
    hits: Any


def temperature(lists: list[Lists], spread: float) -> tuple[float, float]:
    """T at which as many hits are expected as there are, or comes nearest, and the number that is expected then.

    Args:
        lists: of all validation users.
        spread: standard deviation of the log weights.
    """
    hits = sum(int(part.hits.sum()) for part in lists)

    def surplus(log_T: float) -> float:
        return sum(float(expected(part, np.exp(log_T))) for part in lists) - hits

    # from flat laws to sharp ones: expected hits grow, until the chances of all but a few items are too small for a number
    tried = np.log(max(spread, 1e-6)) + np.arange(3.0, -5.0, -0.5)
    found = [surplus(float(tried[0]))]
    while not found[-1] > 0 and len(found) < len(tried):
        found.append(surplus(float(tried[len(found)])))
    if len(found) > 1 and found[-1] > 0:
        root: Any = brentq(surplus, tried[len(found) - 1], tried[len(found) - 2], xtol=1e-3)
        return float(np.exp(root)), float(hits)
    nearest = int(np.nanargmin(np.abs(found)))
    return float(np.exp(tried[nearest])), hits + found[nearest]


def warn_of_chances(name: str, lists: list[Lists], temperature: float, expected: float) -> None:
    """Says where hits of validation users are not what the chances say."""
    hits, (covered, error) = (
        sum(int(part.hits.sum()) for part in lists),
        quantiles_hold(lists, temperature),
    )
    if abs(expected - hits) > 0.5 or not np.isfinite(expected):
        told = f"{expected:.1f} hits of validation users are expected at the best temperature, {hits} are there"
    elif abs(covered - LEVEL) > 3 * error + SMALL:
        told = f"quantiles that should hold the hits of {LEVEL:.0%} of the validation users hold those of {covered:.0%}"
    else:
        return
    warnings.warn(f"{name}: {told}: its chances are doubtful.", stacklevel=4)


def apart(key: jax.Array, first: int, users: int) -> jax.Array:
    """A key for each user by his place, first, first + 1, ..., among all that are asked for."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(first, first + users))


@jax.jit
def draw_once(draw: Partial, keys: jax.Array) -> jax.Array:
    return draw(keys)


@functools.partial(jax.jit, static_argnames="draws")
def drawn_chances(
    draw: Partial, keys: jax.Array, hide: Any, items: Any, temperature: Any, draws: int = DRAWS
) -> tuple[jax.Array, jax.Array]:
    """Draws of the chance of being the next item among those that are not hidden.

    Returns:
        Those of these items, shape (b, draws, k), and `distinct` of the whole laws, shape (b, draws, octaves).
    """

    def one(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        law = jnp.where(hide, -jnp.inf, draw(keys) / temperature)
        # a user who may not be given anything has no law
        p = jnp.where(hide, 0.0, jnp.exp(law - jax.nn.logsumexp(law, axis=1, keepdims=True)))
        return jnp.take_along_axis(p, items, axis=1), distinct(p)

    return jax.tree.map(
        lambda leaf: jnp.swapaxes(leaf, 0, 1), jax.lax.map(one, numbered(keys, draws))
    )


def numbered(keys: jax.Array, draws: int) -> jax.Array:
    """A key for each draw of each user, shape (draws, 1) or (draws, b)."""
    return jax.vmap(lambda key: jax.random.split(key, draws), out_axes=1)(keys)


@jax.jit
def expected(part: Lists, temperature: Any) -> jax.Array:
    """Expected hits of all users of a block, each with n next items."""
    chances, counts = drawn_chances(
        part.draw, part.keys, part.hide, part.items, temperature, CALIBRATION_DRAWS
    )
    return included(chances, counts, part.n).sum(2).mean(1).sum()


def quantiles_hold(lists: list[Lists], temperature: float) -> tuple[float, float]:
    """The share of users with held-out items whose hits are between the quantiles of their law, and its standard error."""
    shares, variance = [], 0.0
    for part in lists:
        chances, counts = drawn_chances(part.draw, part.keys, part.hide, part.items, temperature)
        laws, judged = np.asarray(hits_law(chances, counts, part.n), float), np.asarray(part.n) > 0
        inside = between_quantiles(laws, LEVEL)
        shares.append(np.take_along_axis(inside, np.asarray(part.hits)[:, None], axis=1)[judged, 0])
        variance += ((laws * inside**2).sum(1) - LEVEL**2)[judged].sum()  # if the laws are right
    found = np.concatenate(shares)
    return float(found.mean()), float(np.sqrt(max(variance, 0.0)) / len(found))


@jax.jit
def upper(draw: Partial, keys: jax.Array, hide: Any, temperature: Any) -> jax.Array:
    """Mean plus one standard deviation of draws of the log chances, shape (b, items); scores have no zero of their own."""

    def chances(keys: jax.Array) -> jax.Array:
        law = jax.nn.log_softmax(jnp.where(hide, -jnp.inf, draw(keys) / temperature), axis=1)
        return jnp.where(hide, 0.0, law)

    def step(carry: tuple, keys: jax.Array) -> tuple[tuple, None]:
        mean, squares, count = carry
        f = chances(keys)
        new = mean + (f - mean) / count
        return (new, squares + (f - mean) * (f - new), count + 1), None

    zero = jnp.zeros(hide.shape)
    (mean, squares, _), _ = jax.lax.scan(step, (zero, zero, jnp.ones(())), numbered(keys, DRAWS))
    return mean + jnp.sqrt(squares / (DRAWS - 1))
