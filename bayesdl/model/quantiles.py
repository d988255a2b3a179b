"""Quantiles of many distributions at once, from their distribution function F alone.

F(y) = q is solved for z(y) = Phi^-1(F(y)), which is a straight line for a normal distribution and
nearly one for most mixtures: false positions (Illinois) then need a few evaluations, where
bisection needs one for each binary digit. Every third step halves the bracket, whatever F is.

Dowell and Jarratt (1971), "A modified regula falsi method for computing the root of an equation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

Cdf: TypeAlias = Callable[[jax.Array], jax.Array]
"""A distribution function of many values, each of its own distribution."""

# half the width of the first bracket in standard deviations
FIRST_WIDTH = 4.0
FARTHEST = 1e30


def real_quantile(cdf: Cdf, level: jax.Array, middle: jax.Array, width: jax.Array) -> jax.Array:
    """Return y with F(y) = level, for each of many continuous distributions; NaN where F is NaN.

    Args:
        cdf: the distribution function.
        level: the level.
        middle: where the distributions are about.
        width: about how wide they are.
    """
    # F may be of another precision than moments are: a network's in a scope of double precision
    dtype = jnp.result_type(middle, width, jax.eval_shape(cdf, middle))
    middle, width = middle.astype(dtype), width.astype(dtype)
    info = jnp.finfo(dtype)
    target, near = ndtri(jnp.asarray(level, dtype)), 8 * info.eps

    def miss(y: jax.Array) -> jax.Array:
        z = ndtri(jnp.clip(cdf(y), info.tiny, 1 - info.epsneg))
        return z - target

    # each place where F stands is compiled anew: one in each loop
    def outside(state: tuple) -> jax.Array:
        low, high, below, above, _ = state
        unbounded = (below > 0) & (low > -FARTHEST) | (above < 0) & (high < FARTHEST)
        return unbounded.any()

    def widen(state: tuple) -> tuple:
        low, high, below, above, reach = state
        low = jnp.where(below > 0, middle - reach, low)
        high = jnp.where(above < 0, middle + reach, high)
        below, above = jax.lax.map(miss, jnp.stack([low, high]))
        return low, high, below, above, 4 * reach

    def open_(state: tuple) -> jax.Array:
        low, high, _, _, step = state
        size = (jnp.abs(low) + jnp.abs(high)) / 2 + 0.1 * width
        apart = high - low > near * size + info.tiny
        return apart.any() & (step < 3 * info.bits)

    def narrow(state: tuple) -> tuple:
        low, high, below, above, step = state
        straight = low - below * (high - low) / (above - below)
        inside = (straight > low) & (straight < high) & (step % 3 != 2)
        at = jnp.where(inside, straight, low + (high - low) / 2)
        there = miss(at)
        # the side that stays counts half, so that the next position falls on its other side
        left, right = there <= 0, there >= 0
        found = jnp.abs(there) <= near
        below = jnp.where(left, there, below / 2)
        above = jnp.where(right, there, above / 2)
        low = jnp.where(left | found, at, low)
        high = jnp.where(right | found, at, high)
        return low, high, below, above, step + 1

    unknown = jnp.full_like(middle, jnp.inf)
    start = middle, middle, unknown, -unknown, FIRST_WIDTH * width
    low, high, below, above, _ = jax.lax.while_loop(outside, widen, start)
    # a distribution function that is NaN has no quantile, whatever the bracket
    known = ~jnp.isnan(below + above)
    low, high, _, _, _ = jax.lax.while_loop(open_, narrow, (low, high, below, above, 0))
    return jnp.where(known, low + (high - low) / 2, jnp.nan)


def whole_quantile(cdf: Cdf, level: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return the smallest whole number y with F(y) >= level, by bisection.

    Args:
        cdf: the distribution function.
        level: the level.
        shape: the shape of the values.
    """

    def below(y: jax.Array) -> jax.Array:
        return cdf(jnp.floor(y)) < level

    def widen(state: tuple) -> tuple:
        low, high = state
        return jnp.where(below(low), low, 2 * low), jnp.where(below(high), 2 * high, high)

    def outside(state: tuple) -> jax.Array:
        low, high = state
        return ((~below(low) & (low > -FARTHEST)) | (below(high) & (high < FARTHEST))).any()

    def halve(_: jax.Array, state: tuple) -> tuple:
        low, high = state
        middle = (low + high) / 2
        left = below(middle)
        return jnp.where(left, middle, low), jnp.where(left, high, middle)

    low, high = jax.lax.while_loop(outside, widen, (-jnp.ones(shape), jnp.ones(shape)))
    # to the last digit
    steps = 60 if jnp.finfo(low.dtype).bits == 64 else 32
    return jnp.floor(jax.lax.fori_loop(0, steps, halve, (low, high))[1])
