"""The order statistics of conformal prediction, exact at the edge.

With n scores that are exchangeable with a new one, the k-th smallest,

    k = ceil((n + 1) * level),

is at least as large as the new score with probability k / (n + 1) >= level; k > n gives an infinite
threshold. Levels are read as the fractions that they are meant to be, so that 9 rows are enough for
90 %. (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World".)
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Real

from bayesdl.data.validation import DataError

# levels are fractions with denominators up to this
FINEST = 1_000_000


def as_level(level: object, of: str) -> float:
    """Return a level as a number.

    Args:
        level: what was given.
        of: the function that takes it, for messages.

    Raises:
        ValueError: for anything but a number between 0 and 1, by more than rounding to `FINEST`.
    """
    # a level beside 0 or 1 is one of them as a fraction
    if (
        isinstance(level, int | float | np.number)
        and 0 < float(level) < 1
        and 0 < Fraction(float(level)).limit_denominator(FINEST) < 1
    ):
        return float(level)
    raise ValueError(f"{of}(level={level!r}): expected a probability between 0 and 1, e.g. 0.9.")


def rank_of(level: float, rows: int) -> int:
    """Return k = ceil((rows + 1) * level).

    Example:
        >>> rank_of(0.9, 9), rank_of(0.9, 8), rank_of(0.95, 19)
        (9, 9, 19)
    """
    exact = (rows + 1) * Fraction(level).limit_denominator(FINEST)
    return -(-exact.numerator // exact.denominator)


def rows_needed(level: float) -> int:
    """Return the smallest number of rows for which k <= rows.

    Example:
        >>> rows_needed(0.9), rows_needed(0.95)
        (9, 19)
    """
    exact = Fraction(level).limit_denominator(FINEST)
    ratio = exact / (1 - exact)
    return max(1, -(-ratio.numerator // ratio.denominator))


def threshold(scores: Real[np.ndarray, "rows"], level: float) -> float:
    """Return the k-th smallest score; infinite where there are fewer than k.

    Example:
        >>> threshold(np.arange(9.0), 0.9), threshold(np.arange(8.0), 0.9)
        (8.0, inf)
    """
    rank = rank_of(level, len(scores))
    if rank > len(scores):
        return np.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


def refuse_few(rows: int, level: float, what: str, sides: int = 1) -> None:
    """Refuse fewer rows than a level needs.

    Args:
        rows: the number of rows.
        level: the level.
        what: the rows, as the subject of a sentence.
        sides: the number of sides between which what is outside is shared: 2 for central intervals.

    Raises:
        DataError: with the number that is needed.
    """
    needed = rows_needed((level + sides - 1) / sides)
    if rows < needed:
        raise DataError(
            f"{what} has {rows} rows, and sets that hold {100 * level:.4g} % need at least "
            f"{needed}: give more rows, or ask for a level of at most {_largest(rows, sides):.4g}."
        )


def _largest(rows: int, sides: int) -> float:
    """Return the largest level that some rows reach."""
    return max(0.0, 1 - sides / (rows + 1))


def jackknife_plus(
    centers: Real[np.ndarray, "train new"], residuals: Real[np.ndarray, "train"], level: float
) -> Real[np.ndarray, "2 new"]:
    """Compute the intervals of the jackknife+, and of CV+.

    The lower end is the floor((1 - level)(n + 1))-th smallest of m_-i(x) - R_i, the upper end the
    ceil(level (n + 1))-th smallest of m_-i(x) + R_i, with the residuals R_i = |y_i - m_-i(x_i)| of
    fits without row i, or without its fold (Barber et al. 2021, arXiv:1905.02928). They hold with
    probability 1 - 2 (1 - level) at least, and in practice about `level`.

    Args:
        centers: the predictions m_-i(x) of the new rows.
        residuals: the absolute residuals R_i.
        level: the level.
    """
    rows = len(residuals)
    rank = rank_of(level, rows)
    if rank > rows:
        return np.stack([np.full(centers.shape[1], -np.inf), np.full(centers.shape[1], np.inf)])
    upper = np.partition(centers + residuals[:, None], rank - 1, axis=0)[rank - 1]
    # n + 1 - k = floor((1 - level)(n + 1))
    lower = np.partition(centers - residuals[:, None], rows - rank, axis=0)[rows - rank]
    return np.stack([lower, upper])


def all_finite(values: np.ndarray, what: str) -> None:
    """Refuse predictions that are NaN or infinite.

    Raises:
        DataError: naming the first rows.
    """
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if bad.size:
        rows = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
        raise DataError(
            f"{what} are NaN or infinite in rows {rows}: expected finite numbers. Leave these rows "
            "out, or look at what predicts them."
        )
