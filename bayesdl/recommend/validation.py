"""What `recommend` is asked for: what is refused, and what users are told beside its answer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.recommend.hits import OCTAVES
from bayesdl.recommend.probabilities import DRAWS
from bayesdl.recommend.rows import CSR

STRATEGIES = ("mean", "thompson", "ucb")


def refuse_length(k: int, candidates: int) -> None:
    """Refuses lists that cannot be made.

    Raises:
        DataError: for k above the number of candidates.
        ValueError: for other k.
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k={k!r}: expected a whole number of at least 1.")
    if k > candidates:
        raise DataError(f"k={k}: there are {candidates} candidates; ask for at most so many.")


def refuse_settings(strategy: str, level: float, seed: Any) -> None:
    """Refuses what else cannot be asked for.

    Raises:
        DataError: for a level that the draws cannot tell.
        ValueError: for other settings.
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


def empty(k: int) -> list[np.ndarray]:
    return [
        np.zeros((0, k), int),
        np.zeros((0, k)),
        np.zeros((0, DRAWS, k)),
        np.zeros((0, DRAWS, OCTAVES)),
    ]


def warn_of_seen(count: int) -> None:
    """Says that some users get fewer items than asked for."""
    if count:
        told = f"{count} users have fewer unseen candidates than k: the rest of their rows holds no items, see `merge_params`."
        warnings.warn(told, stacklevel=3)


def warn_of_unknown(name: str, rows: CSR) -> None:
    """Says that some users' items come in no order that means anything."""
    count = int((np.diff(rows.indptr) == 0).sum())
    if count:
        warnings.warn(
            f"{count} users have no items: {name} knows nothing of them and takes the first columns; blend it with Popularity.",
            stacklevel=3,
        )
