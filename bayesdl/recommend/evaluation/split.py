"""The protocol of Liang et al. (2018), arXiv:1802.05814: judging on users without training on them.

Some users are held out. Of their items a share is hidden too, and predicted from the rest, the
fold-in.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError, check_sparse
from bayesdl.recommend.rows import CSR, reorder_by_label
from bayesdl.typing import ColumnLike

# Ratings above it count as choices.
THRESHOLD = 3.5
# Users with fewer items are left out.
MIN_ITEMS = 5
# Users with fewer items have none of them hidden.
MIN_ITEMS_TO_HIDE = 5


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Users to be judged on: what a recommender sees of them, and what it must find.

    Attributes:
        fold_in: the entries that are shown, users x items.
        held_out: the entries that are hidden, users x items.
        users: the labels of the users, or None.
        items: the labels of the columns, or None; a recommender that is fitted with such users
            takes them over.
    """

    fold_in: Any
    held_out: Any
    users: Any = None
    items: Any = None

    def __post_init__(self) -> None:
        if np.shape(self.fold_in) != np.shape(self.held_out):
            raise DataError(
                f"HeldOut: fold_in has shape {np.shape(self.fold_in)} and held_out "
                f"{np.shape(self.held_out)}; expected the same users and items."
            )
        hidden: Any = self.held_out
        if hasattr(self.fold_in, "columns") and hasattr(hidden, "columns"):
            hidden = reorder_by_label(hidden, self.fold_in.columns, 1)
        for part in (self.fold_in, hidden):
            if scipy.sparse.issparse(part):
                check_sparse(part, "HeldOut: the matrix")
        both = scipy.sparse.csr_array(self.fold_in).multiply(scipy.sparse.csr_array(hidden)).nnz
        if both:
            raise DataError(
                f"HeldOut: {both} entries are shown and held out at once; what is shown is never "
                "recommended."
            )

    def __repr__(self) -> str:
        users = np.shape(self.fold_in)[0]
        shown, hidden = (scipy.sparse.csr_array(part).nnz for part in (self.fold_in, self.held_out))
        return f"HeldOut({users} users, {shown:,} entries shown, {hidden:,} held out)"


@dataclasses.dataclass(frozen=True)
class Split:
    """The parts that `strong_split` makes of events.

    Attributes:
        train: the rows to learn from, users x items.
        validation: the users for choices such as the best epoch.
        test: the users for the final scores.
        users: the labels of the training users, shape (users,).
        items: the labels of the columns, shape (items,).
        dropped: the number of events of held-out users with items that no training user has.
        left_out: the number of users with too few items.
    """

    train: CSR
    validation: HeldOut
    test: HeldOut
    users: np.ndarray
    items: np.ndarray
    dropped: int
    left_out: int

    def __repr__(self) -> str:
        return (
            f"Split(train: {self.train.shape[0]:,} users x {self.train.shape[1]:,} items, "
            f"{self.train.nnz:,} entries; validation: {self.validation!r}; test: {self.test!r}; "
            f"{self.left_out} users with too few items left out, "
            f"{self.dropped} events of unseen items dropped)"
        )


def strong_split(
    users: ColumnLike,
    items: ColumnLike,
    ratings: ColumnLike | None = None,
    *,
    times: ColumnLike | None = None,
    threshold: float = THRESHOLD,
    min_items: int = MIN_ITEMS,
    held_out: Any = (500, 500),
    share: float = 0.2,
    seed: int = 98765,
) -> Split:
    """Split events by users, as the paper does, to the same entries for the same seed.

    Args:
        users: the label of the user of each event, shape (events,).
        items: the label of the item of each event, shape (events,).
        ratings: the rating of each event, or None where every event counts.
        times: the time of each event, numbers or dates. With times the last items of a held-out
            user are hidden, without them random ones, as in the paper. Probabilities and hits are
            calibrated to what is hidden, so only with times are they those of the next items:
            random ones are easier.
        threshold: the rating above which an event counts.
        min_items: the number of items that a user must have to be kept.
        held_out: the numbers of validation and of test users, a pair.
        share: the share of a held-out user's items that is hidden, where the user has five or more;
            of users with fewer, nothing is hidden.
        seed: the seed of the permutation of users, and of what is hidden.

    Raises:
        DataError: for columns of unequal length or with missing values, or too few users.
        ValueError: for other settings that have no meaning.

    Example:
        >>> import numpy as np
        >>> users, items = np.repeat(np.arange(30), 6), np.tile(np.arange(6), 30)
        >>> strong_split(users, items, held_out=(5, 5)).train.shape
        (20, 6)
    """
    _refuse_shares(held_out, share)
    who, what = _check_events(users, items, ratings)
    counts = np.ones(len(who), bool)
    if ratings is not None:
        counts = _check_numbers(ratings, "ratings") > threshold
    when = np.zeros(len(who)) if times is None else _sortable_times(times, len(who))
    who, what, when = _sort_and_drop_repeats(who[counts], what[counts], when[counts])
    everyone, index, sizes = np.unique(who, return_inverse=True, return_counts=True)
    enough = sizes[index] >= min_items
    who, what, when = who[enough], what[enough], when[enough]
    names = np.unique(who)
    if len(names) <= sum(held_out):
        raise DataError(
            f"strong_split: {len(names)} users have {min_items} items or more, and "
            f"{sum(held_out)} are to be held out: lower held_out or min_items."
        )
    names = names[np.random.RandomState(seed).permutation(len(names))]
    first, second = len(names) - sum(held_out), len(names) - held_out[1]
    training = np.isin(who, names[:first])
    columns = _labels_by_first_event(what[training])
    train = _labelled_rows(who[training], what[training], names[:first], columns)
    parts, dropped = [], 0
    for group in (names[first:second], names[second:]):
        here = np.isin(who, group)
        known = here & np.isin(what, columns)
        dropped += int(here.sum() - known.sum())
        last = None if times is None else when[known]
        parts.append(_hide_share(who[known], what[known], last, group, columns, share, seed))
    left_out = len(everyone) - len(names)
    return Split(train, parts[0], parts[1], names[:first], columns, dropped, left_out)


def _refuse_shares(held_out: object, share: float) -> None:
    """Refuse numbers of users and shares that cannot be held out.

    Raises:
        ValueError: with the name of the setting.
    """
    counts: list = list(held_out) if np.ndim(held_out) == 1 else []  # type: ignore[arg-type]
    if len(counts) != 2 or not all(isinstance(n, int | np.integer) and n >= 0 for n in counts):
        raise ValueError(
            f"strong_split(held_out={held_out!r}): expected two whole numbers, of validation and "
            "of test users."
        )
    if not 0 < share < 1:
        raise ValueError(f"strong_split(share={share!r}): expected a number with 0 < share < 1.")


def _check_events(
    users: ColumnLike, items: ColumnLike, ratings: ColumnLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of events as arrays, shape (events,).

    Raises:
        DataError: for columns of unequal length, or missing labels.
    """
    who, what = np.asarray(users), np.asarray(items)
    unequal = who.shape != what.shape or who.ndim != 1
    if unequal or (ratings is not None and np.shape(ratings) != who.shape):
        third = "" if ratings is None else f", ratings {np.shape(ratings)}"
        raise DataError(
            f"strong_split: users have shape {who.shape}, items {what.shape}{third}; expected a "
            "label of each for every event."
        )
    for name, labels in (("users", who), ("items", what)):
        missing = np.array([label is None or label != label for label in labels.tolist()])
        if missing.any():
            raise DataError(
                f"strong_split: {name}[{int(missing.argmax())}] is missing; leave such events out."
            )
    return who, what


def _check_numbers(values: ColumnLike, name: str) -> np.ndarray:
    """Return a column of numbers, none missing.

    Raises:
        DataError: for text or missing values.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "biuf" or np.isnan(found).any():
        raise DataError(
            f"strong_split: {name} must be numbers, none missing; got {found.dtype} {found[:3]}, "
            "..."
        )
    return found


def _sortable_times(times: ColumnLike, count: int) -> np.ndarray:
    """Return times as numbers that can be sorted, one for each event.

    Raises:
        DataError: for another shape, text or missing values.
    """
    found = np.asarray(times)
    if found.dtype.kind == "M" and not np.isnat(found).any():
        found = found.astype("datetime64[us]").astype(np.int64)
    if found.shape != (count,):
        raise DataError(
            f"strong_split: times have shape {found.shape}, expected one for each of {count} "
            "events."
        )
    return _check_numbers(found, "times")


def _sort_and_drop_repeats(
    users: np.ndarray, items: np.ndarray, when: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort events by user, item and time, and keep the first event of each pair."""
    order = np.lexsort((when, items, users))
    users, items, when = users[order], items[order], when[order]
    repeated = np.zeros(len(users), bool)
    repeated[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    return users[~repeated], items[~repeated], when[~repeated]


def _labels_by_first_event(labels: np.ndarray) -> np.ndarray:
    """Return distinct labels in the order of their first event."""
    distinct, at = np.unique(labels, return_index=True)
    return distinct[np.argsort(at)]


def _labelled_rows(
    users: np.ndarray, items: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> CSR:
    """Return events as ones in a matrix with these labels of rows and columns.

    Args:
        users: the label of the user of each event, shape (events,).
        items: the label of the item of each event, shape (events,).
        rows: the labels of the rows, shape (users,).
        columns: the labels of the columns, shape (items,).
    """
    at = (_positions(users, rows), _positions(items, columns))
    found = scipy.sparse.csr_array(
        (np.ones(len(users), np.float32), at), shape=(len(rows), len(columns))
    )
    found.sort_indices()
    return found


def _positions(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the position of each label among distinct labels."""
    order = np.argsort(among, kind="stable")
    return order[np.searchsorted(among, labels, sorter=order)]


def _hide_share(
    users: np.ndarray,
    items: np.ndarray,
    when: np.ndarray | None,
    rows: np.ndarray,
    columns: np.ndarray,
    share: float,
    seed: int,
) -> HeldOut:
    """Hide a share of each user's items: the last ones, or random ones without times.

    Args:
        users: the label of the user of each event, in ascending order, shape (events,).
        items: the label of the item of each event, ascending for each user, shape (events,).
        when: the time of each event, or None.
        rows: the labels of the users, shape (users,).
        columns: the labels of the items, shape (items,).
        share: the share that is hidden.
        seed: the seed of what is hidden.
    """
    rng = np.random.RandomState(seed)
    hidden = np.zeros(len(users), bool)
    starts = np.zeros(0, int)
    if len(users):
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    for first, n in zip(starts, np.diff(starts, append=len(users)), strict=True):
        if n >= MIN_ITEMS_TO_HIDE:
            size = int(share * n)
            if when is None:
                places = rng.choice(n, size=size, replace=False)
            else:
                places = np.argsort(when[first : first + n])[n - size :]
            hidden[first + places] = True
    shown, kept_back = (
        _labelled_rows(users[part], items[part], rows, columns) for part in (~hidden, hidden)
    )
    return HeldOut(shown, kept_back, rows, columns)
