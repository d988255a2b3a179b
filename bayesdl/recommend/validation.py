"""Validation of `recommend`'s arguments and its warnings."""

from __future__ import annotations

import warnings

import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.recommend.probabilities import DRAWS
from bayesdl.recommend.rows import CSR
from bayesdl.typing import Strategy
from inference.settings import is_whole

STRATEGIES = ("mean", "thompson", "ucb")


def refuse_length(k: object, candidates: int) -> None:
    """Refuse lists of a length that cannot be.

    Args:
        k: the length of the lists.
        candidates: the number of items that may be recommended.

    Raises:
        DataError: for k above the number of candidates.
        ValueError: for k that is not a whole number of at least 1.
    """
    if not is_whole(k):
        raise ValueError(f"k={k!r}: expected a whole number of at least 1.")
    if k > candidates:
        raise DataError(f"k={k}: there are {candidates} candidates; ask for at most so many.")


def refuse_settings(strategy: Strategy, level: float, seed: object) -> int | np.integer:
    """Refuse other impossible arguments of `recommend`, and return the seed.

    Raises:
        DataError: for a level that is too high for the number of draws.
        ValueError: for an unknown strategy, or a seed that is not a whole number.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"recommend(strategy={strategy!r}): expected one of {', '.join(STRATEGIES)}."
        )
    if not isinstance(seed, int | np.integer):
        raise ValueError(f"recommend(seed={seed!r}): expected a whole number.")
    if not 0 < level <= 1 - 2 / (DRAWS + 1):
        most = f"{1 - 2 / (DRAWS + 1):.2f}, the most that {DRAWS} draws can tell"
        raise DataError(f"recommend(level={level!r}): expected a number with 0 < level <= {most}.")
    return seed


def warn_of_short_lists(count: int) -> None:
    """Warn that this many users get fewer items than were asked for."""
    if count:
        warnings.warn(
            f"{count} users have fewer unseen candidates than k: the rest of their rows holds no "
            "items, see `filled`.",
            stacklevel=3,
        )


def warn_of_users_without_items(name: str, rows: CSR) -> None:
    """Warn that the ranking of users without items means nothing.

    Args:
        name: the name of the recommender's class.
        rows: the users' rows.
    """
    count = int((np.diff(rows.indptr) == 0).sum())
    if count:
        warnings.warn(
            f"{count} users have no items: {name} knows nothing of them and takes the first "
            "columns; blend it with Popularity.",
            stacklevel=3,
        )
