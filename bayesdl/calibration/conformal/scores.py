"""Scores of numbers on held-out rows, and the sets of all y whose score is at most a threshold.

    "absolute"   |y - m|                      m -/+ q
    "sd"         |y - m| / sd                 m -/+ q sd
    "quantile"   max(q_lo - y, y - q_hi)      [q_lo - q, q_hi + q]
    "cdf"        |2 F(y) - 1|                 quantiles (1 - q) / 2 and (1 + q) / 2
    "density"    -log p(y)                    {y: log p(y) >= -q}, a union of intervals

with mean m, sd, distribution function F, density p and quantiles of the model's prediction of each
target by itself, where there are several (Romano,
Patterson and Candes 2019, arXiv:1905.03222, for "quantile"; Chernozhukov, Wuthrich and Zhu 2021,
arXiv:1909.07889, for "cdf"; Izbicki, Shimizu and Stern 2022, arXiv:1910.05575, for "density").
Where F is 0 or 1 but for rounding, "cdf" goes on with 1 + |y - m| / sd, so that thresholds stay
finite far from what the model expects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import Distribution

from bayesdl.calibration.conformal.add_one_in import BATCH, ends_in_units
from bayesdl.calibration.conformal.search import Judged, searcher
from bayesdl.posterior.interface import AbstractNumbers
from inference.core.result import Conditional
from inference.wrappers import marginal, unmasked

# how near to 0 and 1 a distribution function is told from rounding
NEAR = 1e-5

Scorer: TypeAlias = Callable[[AbstractNumbers, np.ndarray, float], np.ndarray]
"""A function of (prediction, targets, level) that gives scores of the targets."""
Inverse: TypeAlias = Callable[[AbstractNumbers, np.ndarray, float], np.ndarray]
"""A function of (prediction, thresholds per row, level) that gives ends of sets."""


def _absolute(prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    return np.abs(y - prediction.mean)


def _around_mean(prediction: AbstractNumbers, q: np.ndarray, level: float) -> np.ndarray:
    return np.stack([prediction.mean - q, prediction.mean + q])


def _sd(prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    return np.abs(y - prediction.mean) / prediction.std


def _in_sds(prediction: AbstractNumbers, q: np.ndarray, level: float) -> np.ndarray:
    return _around_mean(prediction, q * prediction.std, level)


def _quantile(prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    low, high = prediction.interval(level)
    return np.maximum(low - y, y - high)


def _around_quantiles(prediction: AbstractNumbers, q: np.ndarray, level: float) -> np.ndarray:
    low, high = prediction.interval(level)
    low, high = low - q, high + q
    # a threshold below zero may turn an interval around: its middle stays
    middle = (low + high) / 2
    turned = low > high
    return np.stack([np.where(turned, middle, low), np.where(turned, middle, high)])


def _cdf(prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    upper = prediction.cdf(y)
    if prediction.target.kind == "count":
        # the middle of the step
        upper = (upper + np.where(y > 0, prediction.cdf(np.maximum(y - 1, 0)), 0.0)) / 2
    scores = np.abs(2 * upper - 1)
    far = scores > 1 - NEAR
    return np.where(far, 1 + _sd(prediction, y, level), scores) if far.any() else scores


def _by_cdf(prediction: AbstractNumbers, q: np.ndarray, level: float) -> np.ndarray:
    inside = np.clip(q, 0.0, 1 - NEAR)
    ends = _quantiles_at(prediction, inside)
    if prediction.target.kind == "count":
        ends = _counts_within(prediction, ends, inside)
    far = q > 1
    if not far.any():
        return ends
    wide = _in_sds(prediction, q - 1, level)
    low, high = np.minimum(wide[0], ends[0]), np.maximum(wide[1], ends[1])
    return np.stack([np.where(far, low, ends[0]), np.where(far, high, ends[1])])


def _quantiles_at(prediction: AbstractNumbers, q: np.ndarray) -> np.ndarray:
    """Return the quantiles (1 - q) / 2 and (1 + q) / 2, with a q for each row."""
    distinct, place = np.unique(q, return_inverse=True)
    tails = np.clip(np.concatenate([(1 - distinct) / 2, (1 + distinct) / 2]), 1e-7, 1 - 1e-7)
    found = prediction.quantile(tails)
    place = place.reshape(q.shape)[None]
    low = np.take_along_axis(found[: len(distinct)], place, axis=0)[0]
    high = np.take_along_axis(found[len(distinct) :], place, axis=0)[0]
    return np.stack([low, high])


def _counts_within(prediction: AbstractNumbers, ends: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the counts whose scores are at most q, near the quantiles at which they lie."""
    low, high = ends[0], ends[1]
    for _ in range(2):
        below = np.maximum(low - 1, 0)
        low = np.where(_cdf(prediction, below, 0.5) <= q, below, low)
        high = np.where(_cdf(prediction, high + 1, 0.5) <= q, high + 1, high)
    outside = _cdf(prediction, low, 0.5) > q
    low = np.where(outside & (low < high), low + 1, low)
    outside = _cdf(prediction, high, 0.5) > q
    return np.stack([low, np.where(outside & (low < high), high - 1, high)])


def _density(prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    found = prediction.stream.map(_log_marginals, prediction._read(y))
    return _log_unit(prediction) - found.astype(np.float64)


def _log_unit(prediction: AbstractNumbers) -> np.ndarray:
    """Return the log of the unit of y, for each target where there are several."""
    logs = np.log(np.asarray(prediction.target.scale, np.float64))
    return logs if len(logs) > 1 else np.asarray(logs[0])


def _log_marginals(conditionals: Conditional, y: Array) -> Array:
    """Compute the log of the mixture density of each entry by itself.

    A joint density would have one threshold for several targets, of which each has a set.
    """

    def one(given: Distribution) -> Array:
        inside = marginal(unmasked(given))
        if inside.event_shape:
            raise ValueError(
                "conformal(score='density'): the targets of a row vary together, and sets need the "
                "density of each by itself: use score='absolute' or 'sd'."
            )
        return jnp.asarray(inside.log_prob(y))

    values = jax.vmap(one)(conditionals.distribution)
    return logsumexp(values, axis=0) - jnp.log(values.shape[0])


def _by_density(prediction: AbstractNumbers, q: np.ndarray, level: float) -> np.ndarray:
    stream = dataclasses.replace(prediction.stream, batch_size=BATCH)
    unit, seed = _log_unit(prediction), np.uint32(prediction.seed)
    parts = []
    for value in np.unique(q):
        given = {"least": np.asarray(unit - value, np.float64), "seed": seed}
        found = stream.map(searcher(_judge_density), given, rowwise=False)
        ends = ends_in_units(found.ends, found.best, prediction)
        parts.append(np.where(q == value, ends, np.nan))
    if len(parts) == 1:
        return parts[0]
    most = max(map(len, parts))
    found = np.full((most, *q.shape), np.nan)
    for part in parts:
        found[: len(part)] = np.where(np.isnan(part), found[: len(part)], part)
    return found


def _judge_density(log_densities: Array, given: dict) -> Judged:
    """Accept candidates whose mixture density is large enough."""
    mixed = logsumexp(log_densities, axis=0) - jnp.log(log_densities.shape[0])
    # one number, or one for each target
    least = jnp.broadcast_to(given["least"].astype(mixed.dtype), mixed.shape[-1:])
    accepted = mixed >= least.reshape((1,) * (mixed.ndim - 1) + least.shape)
    return Judged(accepted, mixed, jnp.full(mixed.shape, jnp.inf, mixed.dtype))


SCORES: dict[str, tuple[Scorer, Inverse]] = {
    "absolute": (_absolute, _around_mean),
    "sd": (_sd, _in_sds),
    "quantile": (_quantile, _around_quantiles),
    "cdf": (_cdf, _by_cdf),
    "density": (_density, _by_density),
}


def score_of(name: str, prediction: AbstractNumbers, y: np.ndarray, level: float) -> np.ndarray:
    """Compute the scores of targets, shape (rows, ...).

    Args:
        name: one of `SCORES`.
        prediction: the prediction of the rows.
        y: the targets in their units.
        level: the level whose quantiles the score "quantile" looks at.
    """
    return SCORES[name][0](prediction, y, level)


def ends_of(
    name: str, prediction: AbstractNumbers, thresholds: np.ndarray, level: float
) -> np.ndarray:
    """Return the ends of the sets of all y whose score is at most a threshold.

    Args:
        name: one of `SCORES`.
        prediction: the prediction of the rows.
        thresholds: a threshold for each entry of the prediction.
        level: the level whose quantiles the score "quantile" looks at.
    """
    finite = np.where(np.isfinite(thresholds), thresholds, 0.0)
    ends = SCORES[name][1](prediction, finite, level)
    infinite = ~np.isfinite(thresholds)
    if infinite.any():
        rest = np.full((len(ends) - 2, *thresholds.shape), np.nan)
        all_of_it = np.stack(
            [np.full(thresholds.shape, -np.inf), np.full(thresholds.shape, np.inf)]
        )
        ends = np.where(infinite, np.concatenate([all_of_it, rest]), ends)
    if prediction.target.kind != "count" or name in ("density", "cdf"):
        return np.maximum(ends, 0.0) if prediction.target.kind == "count" else ends
    return counts_inside(ends)


def counts_inside(ends: np.ndarray) -> np.ndarray:
    """Return the ends of the whole numbers inside of intervals; of the nearest where none is."""
    low, high = np.maximum(np.ceil(ends[0]), 0), np.floor(ends[1])
    with np.errstate(invalid="ignore"):  # where both ends are infinite
        nearest = np.maximum(np.round((ends[0] + ends[1]) / 2), 0)
    return np.stack([np.where(low > high, nearest, low), np.where(low > high, nearest, high)])
