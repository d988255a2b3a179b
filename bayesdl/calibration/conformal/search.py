"""Sets of numbers {y: y is accepted} as unions of intervals, for many rows at once.

What accepts y is any function of its log densities at all draws. Candidates are the quantiles of
simulated targets, points between them, and tails that grow until their ends are refused; where
neighbours disagree the boundary is narrowed down by dividing the gap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution

from bayesdl.posterior.streaming import Statistic
from inference.core.result import Conditional
from inference.wrappers import marginal, unmasked

# candidates: quantiles of simulated targets, and points of each tail
QUANTILES, TAIL = 13, 5
# each boundary is narrowed down by dividing its gap twice
PARTS, TIMES = 8, 2
# tails double so often before the set is taken to be infinite
DOUBLINGS = 40
# boundaries of one row that are looked for
BOUNDARIES = 12


class Judged(NamedTuple):
    """What is said of candidates.

    Attributes:
        accepted: whether each belongs to the set.
        merit: how well it conforms; the best one is the set where none is accepted.
        ess: the effective number of draws behind the judgement.
    """

    accepted: Array
    merit: Array
    ess: Array


Judge: TypeAlias = Callable[[Array, Any], Judged]
"""A function of (log densities of shape (draws, candidates, rows, ...), given)."""


class Found(NamedTuple):
    """The boundaries of sets, rows first.

    Attributes:
        ends: the boundaries in ascending order, shape (rows, ..., ends), NaN where there are fewer;
            each lower end is followed by its upper end.
        ess: the smallest effective number of draws at a boundary.
        best: the best candidate, for sets that are empty.
    """

    ends: Array
    ess: Array
    best: Array


@functools.cache
def searcher(judge: Judge) -> Statistic:
    """Return the statistic that finds sets, which is given (seeds, what the judge needs).

    Args:
        judge: what accepts candidates.
    """

    def search(conditionals: Conditional, given: dict) -> Found:
        distribution = conditionals.distribution
        support: Any = marginal(unmasked(distribution)).support
        discrete = bool(support.is_discrete)

        def densities(y: Array) -> Array:
            inside = _inside(support, y)
            # what is outside is not evaluated, as densities may be anything there
            held = jnp.where(inside, y, jnp.abs(y) + 1)
            values = jax.vmap(lambda one: jax.vmap(marginal(unmasked(one)).log_prob)(held))(
                distribution
            )
            return jnp.where(jnp.isnan(values) | ~inside[None], -jnp.inf, values)

        def judged(y: Array) -> Judged:
            return judge(densities(jnp.round(y) if discrete else y), given)

        return _search(judged, _simulated(distribution, given["seed"]))

    return search


def _inside(support: object, y: Array) -> Array:
    """Return which candidates lie between bounds that all rows and draws share."""
    inside = jnp.ones(y.shape, bool)
    for name, beyond in (("lower_bound", jnp.less), ("upper_bound", jnp.greater)):
        bound = getattr(support, name, None)
        if isinstance(bound, int | float):
            inside &= ~beyond(y, bound)
    return inside


def _simulated(distribution: Distribution, seed: Array) -> Array:
    """Simulate some targets for each draw, shape (targets, rows, ...)."""
    draws = jax.tree.leaves(distribution)[0].shape[0]
    each = max(1, 400 // draws)
    keys = jax.random.split(jax.random.key(seed), (draws, each))
    found: Any = jax.vmap(lambda one, some: jax.vmap(marginal(unmasked(one)).sample)(some))(
        distribution, keys
    )
    return found.reshape(-1, *found.shape[2:])


def _search(judged: Callable[[Array], Judged], simulated: Array) -> Found:
    """Find the boundaries of the sets."""
    shape = simulated.shape[1:]
    simulated = simulated.astype(jnp.result_type(float))
    levels = jnp.linspace(0.02, 0.98, QUANTILES, dtype=simulated.dtype)
    middle = jnp.quantile(simulated, levels, axis=0)
    # a distribution without spread still needs candidates beside it
    width = jnp.maximum(middle[-1] - middle[0], 1e-3 * (1 + jnp.abs(middle[0])))
    low, high = _tails(judged, middle[0], middle[-1], width)
    points = _candidates(middle, low, high)
    first = judged(points)
    best = jnp.take_along_axis(points, jnp.argmax(first.merit, axis=0)[None], axis=0)[0]
    # beyond the ends of the tails nothing is accepted, or all is
    accepted = first.accepted
    changes = accepted[1:] != accepted[:-1]
    order = jnp.argsort(~changes, axis=0, stable=True)[:BOUNDARIES]
    real = jnp.take_along_axis(changes, order, axis=0)
    number = real.sum(0).max()
    left = jnp.take_along_axis(points, order, axis=0)
    right = jnp.take_along_axis(points, order + 1, axis=0)
    rising = ~jnp.take_along_axis(accepted, order, axis=0)

    def refine(state: tuple) -> tuple:
        j, ends, ess = state
        a, b, up = left[j], right[j], rising[j]
        size = ess
        for _ in range(TIMES):
            a, b, size = _divide(judged, a, b, up)
        ends = ends.at[j].set(jnp.where(real[j], (a + b) / 2, jnp.nan))
        return j + 1, ends, jnp.where(real[j], jnp.minimum(ess, size), ess)

    ends = jnp.full((len(order), *shape), jnp.nan, points.dtype)
    ess = jnp.full(shape, jnp.inf, points.dtype)
    _, ends, ess = jax.lax.while_loop(lambda s: s[0] < number, refine, (0, ends, ess))
    return Found(jnp.moveaxis(_with_infinite(ends, accepted), 0, -1), ess, best)


def _with_infinite(ends: Array, accepted: Array) -> Array:
    """Return the boundaries with infinite ends where the outermost candidates are accepted."""
    shape = (1, *ends.shape[1:])
    below = jnp.where(accepted[0], -jnp.inf, jnp.nan).reshape(shape)
    above = jnp.where(accepted[-1], jnp.inf, jnp.nan).reshape(shape)
    # NaN is sorted to the end
    return jnp.sort(jnp.concatenate([below, ends, above]), axis=0)


def _tails(
    judged: Callable[[Array], Judged], low: Array, high: Array, width: Array
) -> tuple[Array, Array]:
    """Return ends of tails that are not accepted, where there are any."""

    def ends(reach: tuple[Array, Array]) -> Array:
        return jnp.stack([low - reach[0] * width, high + reach[1] * width])

    def widen(state: tuple) -> tuple:
        steps, reach, _ = state
        accepted = judged(ends(reach)).accepted
        wider = [jnp.where(accepted[j], 2 * reach[j], reach[j]) for j in range(2)]
        return steps + 1, (wider[0], wider[1]), accepted.any()

    first = jnp.full(low.shape, 0.6, low.dtype)
    start = (first, first)
    state = (0, start, jnp.array(True))
    _, reach, _ = jax.lax.while_loop(lambda s: s[2] & (s[0] < DOUBLINGS), widen, state)
    found = ends(reach)
    return found[0], found[1]


def _candidates(middle: Array, low: Array, high: Array) -> Array:
    """Return candidates in ascending order, shape (candidates, rows, ...)."""
    between = (middle[1:] + middle[:-1]) / 2
    # denser towards the middle
    steps = (jnp.arange(1, TAIL + 1, dtype=middle.dtype) / TAIL) ** 1.5
    steps = steps.reshape((-1,) + (1,) * (middle.ndim - 1))
    below = middle[:1] + steps * (low - middle[0])[None]
    above = middle[-1:] + steps * (high - middle[-1])[None]
    return jnp.sort(jnp.concatenate([below, middle, between, above]), axis=0)


def _divide(
    judged: Callable[[Array], Judged], a: Array, b: Array, rising: Array
) -> tuple[Array, Array, Array]:
    """Return the part of a gap in which the judgement changes, and the ESS there.

    Args:
        judged: what judges candidates.
        a: the lower ends of the gaps, shape (rows, ...).
        b: the upper ends.
        rising: whether the upper end is the accepted one.
    """
    steps = (jnp.arange(1, PARTS, dtype=a.dtype) / PARTS).reshape((-1,) + (1,) * a.ndim)
    inside = a[None] + steps * (b - a)[None]
    found = judged(inside)
    # the parts whose right end is still as the left end of the gap is
    same = jnp.cumprod((found.accepted != rising[None]).astype(jnp.int32), axis=0)
    place = same.sum(0)[None]
    points = jnp.concatenate([a[None], inside, b[None]])
    ess = jnp.take_along_axis(found.ess, jnp.minimum(place, PARTS - 2), axis=0)[0]
    return (
        jnp.take_along_axis(points, place, axis=0)[0],
        jnp.take_along_axis(points, place + 1, axis=0)[0],
        ess,
    )
