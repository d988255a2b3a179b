"""Pareto-smoothed importance weights: right, or infinite in k, and never NaN of finite data.

The smoothing is arviz-stats' (Vehtari et al. 2024, arXiv:1507.02646). It takes the largest weights,
less the largest of the others, for draws of a generalised Pareto distribution. Three situations
have no such draws:

    all ratios are equal           the weights are 1 / S, and k = -inf
    the tail is one repeated value the weights are bounded by it: they stay as they are, k = -inf
    the tail begins with ties      only values above the tie are tail (as in ArviZ before 1.0);
                                   fewer than five of them cannot be fitted: k = inf

A weight that underflows beside the largest one counts as a tie at zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from inference.process.quiet import quiet

# as few as a generalised Pareto distribution can be fitted to
FEWEST = 5
# ratios that differ by no more are equal but for rounding, in units of the largest of them
ROUNDING = 4 * float(np.finfo(np.float32).eps)
TINY = np.finfo(np.float64).tiny


def smoothed_weights(
    log_ratios: Float[np.ndarray, "*rows draws"], efficiency: float = 1.0
) -> tuple[Float[np.ndarray, "*rows draws"], Float[np.ndarray, "*rows"]]:
    """Return normalised log weights for each row, and the Pareto k of each.

    Rows that are not finite have k = inf (k = -inf where all ratios are one number), and weights
    exp(ratio) / sum of exp(ratio), of which all but the infinite ones vanish.

    Args:
        log_ratios: the logarithms of the importance ratios.
        efficiency: effective draws over draws, on which the length of the tail depends.

    Example:
        >>> weights, k = smoothed_weights(np.full((1, 10), -3.0))
        >>> bool(np.allclose(np.exp(weights), 0.1)), k.tolist()
        (True, [-inf])
    """
    ratios = np.asarray(log_ratios, dtype=np.float64)
    flat = ratios.reshape(-1, ratios.shape[-1])
    smoothed = [_smooth(row, efficiency) for row in flat]
    weights = np.stack([row for row, _ in smoothed]).reshape(ratios.shape)
    return weights, np.array([k for _, k in smoothed]).reshape(ratios.shape[:-1])


def _smooth(ratios: Float[np.ndarray, "draws"], efficiency: float) -> tuple[np.ndarray, float]:
    """Smooth the weights of one row."""
    from arviz_stats.base.array import array_stats

    draws = len(ratios)
    if is_constant(ratios):
        return np.full(draws, -np.log(draws)), -np.inf
    if not np.isfinite(ratios).all():
        return _normalised_infinite(ratios), np.inf
    plain = ratios - logsumexp(ratios)
    relative = np.sort(ratios - ratios.max())
    length = _tail_length(draws, efficiency)
    if length < FEWEST:
        return plain, np.inf
    above = np.exp(relative[draws - length :]) - np.exp(relative[draws - length - 1])
    longer = int(np.sum(above > TINY))
    # the largest ratio fills what can be fitted: an atom at the bound of the weights
    if is_constant(relative[draws - (longer if longer >= FEWEST else length) :]):
        return plain, -np.inf
    if longer < FEWEST:
        return plain, np.inf
    if longer < length:
        # the tail then has as many draws as lie above the tie
        efficiency = 9 * draws / (longer + 0.5) ** 2
    # overflow inside the fit, which leaves k infinite or NaN
    with quiet():
        smoother: Any = array_stats
        # it takes the log density, minus the log ratio
        weights, k = smoother.psislw(-ratios, r_eff=efficiency)
    if np.isnan(k) or not np.isfinite(weights).all():
        return plain, np.inf
    return weights, float(k)


def is_constant(values: Float[np.ndarray, "draws"]) -> bool:
    """Whether all values are one number, but for rounding in single precision."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        return low == high
    return high - low <= ROUNDING * max(1.0, abs(low), abs(high))


def _normalised_infinite(ratios: Float[np.ndarray, "draws"]) -> np.ndarray:
    """Return log weights of ratios of which some are infinite; NaN where one is NaN."""
    if np.isnan(ratios).any():
        return np.full(len(ratios), np.nan)
    infinite = ratios == np.inf
    if not infinite.any():
        return ratios - logsumexp(ratios)
    return np.where(infinite, -np.log(infinite.sum()), -np.inf)


def _tail_length(draws: int, efficiency: float) -> int:
    """Return the number of draws in the tail, as arviz-stats counts them."""
    if draws * efficiency > 225:
        return int(3 * (draws / efficiency) ** 0.5)
    return draws // 5
