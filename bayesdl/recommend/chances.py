"""What draws of scores say: chances of items, upper bounds of them, and the temperature that matches hits to what was expected.

A draw is a function of a key (`jax.tree_util.Partial`, so that its arrays may be traced) that gives scores of a block of users,
shape (b, items).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from scipy.optimize import brentq

from bayesdl.recommend.recommendations import included

DRAWS = 100  # of the posterior, for probabilities and intervals
CALIBRATION_DRAWS = 10  # for the temperature


class Lists(NamedTuple):
    """The best items of a block of validation users.

    Attributes:
        draw: of their scores.
        hide: items they are not given, shape (b, items).
        items: the lists, shape (b, k).
        n: numbers of held-out items, shape (b,).
    """

    draw: Partial
    hide: Any
    items: Any
    n: Any


def temperature(lists: list[Lists], hits: int, spread: float) -> tuple[float, float]:
    """T at which as many hits are expected as there are, or comes nearest, and the number that is expected then.

    Args:
        lists: of all validation users.
        hits: held-out items in them.
        spread: standard deviation of the scores.
    """
    key = jax.random.key(0)

    def surplus(log_T: float) -> float:
        return sum(float(expected(*part, key, np.exp(log_T))) for part in lists) - hits

    # from flat laws to sharp ones: expected hits grow, and fall again where all is on one item
    tried = np.log(max(spread, 1e-6)) + np.arange(3.0, -5.0, -0.5)
    found = [surplus(float(tried[0]))]
    while found[-1] <= 0 and len(found) < len(tried):
        found.append(surplus(float(tried[len(found)])))
    if len(found) > 1 and found[-1] > 0:
        root: Any = brentq(surplus, tried[len(found) - 1], tried[len(found) - 2], xtol=1e-3)
        return float(np.exp(root)), float(hits)
    nearest = int(np.argmin(np.abs(found)))
    return float(np.exp(tried[nearest])), hits + found[nearest]


@jax.jit
def draw_once(draw: Partial, key: jax.Array) -> jax.Array:
    return draw(key)


@functools.partial(jax.jit, static_argnames="draws")
def drawn_probabilities(
    draw: Partial, key: jax.Array, hide: Any, items: Any, temperature: Any, draws: int = DRAWS
) -> jax.Array:
    """Draws of the chance of being the next item among those that are not hidden, of these items, shape (b, draws, k)."""

    def one(key: jax.Array) -> jax.Array:
        law = jnp.where(hide, -jnp.inf, draw(key) / temperature)
        total = jax.nn.logsumexp(law, axis=1, keepdims=True)
        chosen = jnp.take_along_axis(law, items, axis=1)
        return jnp.where(jnp.isfinite(chosen), jnp.exp(chosen - total), 0.0)

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, draws)), 0, 1)


@jax.jit
def expected(draw: Partial, hide: Any, items: Any, n: Any, key: jax.Array, temperature: Any) -> jax.Array:
    """Expected hits of all users of a block among these items, each with n next ones."""
    chances = drawn_probabilities(draw, key, hide, items, temperature, CALIBRATION_DRAWS)
    return included(chances, n).sum(2).mean(1).sum()


@jax.jit
def upper(draw: Partial, key: jax.Array, hide: Any, temperature: Any) -> jax.Array:
    """Mean plus one standard deviation of draws of the log chances, shape (b, items); scores have no zero of their own."""

    def chances(key: jax.Array) -> jax.Array:
        law = jax.nn.log_softmax(jnp.where(hide, -jnp.inf, draw(key) / temperature), axis=1)
        return jnp.where(hide, 0.0, law)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        mean, squares, count = carry
        f = chances(key)
        new = mean + (f - mean) / count
        return (new, squares + (f - mean) * (f - new), count + 1), None

    zero = jnp.zeros(hide.shape)
    (mean, squares, _), _ = jax.lax.scan(step, (zero, zero, jnp.ones(())), jax.random.split(key, DRAWS))
    return mean + jnp.sqrt(squares / (DRAWS - 1))
