"""The protocol of Liang et al. (2018), arXiv:1802.05814, for judging recommenders on users that were not trained on.

Some users are held out. Of their items a share is held out too, and predicted from the rest, the fold-in.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError
from bayesdl.recommend.rows import CSR, in_order

THRESHOLD = 3.5  # ratings above it count
MIN_ITEMS = 5  # of a user that is kept


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Users to be judged on: what a recommender sees of them, and what it must find.

    Attributes:
        fold_in: users x items, shown.
        held_out: users x items, hidden.
        users: labels, or None.
        items: labels of the columns, or None; a recommender that is fitted with such users takes them over.
    """

    fold_in: Any
    held_out: Any
    users: Any = None
    items: Any = None

    def __post_init__(self) -> None:
        if np.shape(self.fold_in) != np.shape(self.held_out):
            raise DataError(
                f"HeldOut: fold_in has shape {np.shape(self.fold_in)} and held_out {np.shape(self.held_out)}; expected the "
                "same users and items."
            )
        both_labelled = hasattr(self.fold_in, "columns") and hasattr(self.held_out, "columns")
        hidden = (
            in_order(self.held_out, self.fold_in.columns, 1) if both_labelled else self.held_out
        )
        both = scipy.sparse.csr_array(self.fold_in).multiply(scipy.sparse.csr_array(hidden)).nnz
        if both:
            raise DataError(
                f"HeldOut: {both} entries are shown and held out at once; what is shown is never recommended."
            )

    def __repr__(self) -> str:
        shown, hidden = (scipy.sparse.csr_array(part).nnz for part in (self.fold_in, self.held_out))
        return f"HeldOut({np.shape(self.fold_in)[0]} users, {shown:,} entries shown, {hidden:,} held out)"


@dataclasses.dataclass(frozen=True)
class Split:
    """What `strong_split` gives.

    Attributes:
        train: users x items to learn from.
        validation: users for choices such as the best epoch.
        test: users for the last word.
        users: labels of the training users.
        items: labels of the columns.
        dropped: events of held-out users with items that no training user has.
        left_out: users with too few items.
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
            f"Split(train: {self.train.shape[0]:,} users x {self.train.shape[1]:,} items, {self.train.nnz:,} entries; "
            f"validation: {self.validation!r}; test: {self.test!r}; {self.left_out} users with too few items left out, "
            f"{self.dropped} events of unseen items dropped)"
        )


def strong_split(
    users: Any,
    items: Any,
    ratings: Any = None,
    *,
    times: Any = None,
    threshold: float = THRESHOLD,
    min_items: int = MIN_ITEMS,
    held_out: Any = (500, 500),
    share: float = 0.2,
    seed: int = 98765,
) -> Split:
    """Splits events by users, as the paper does, to the same entries for the same seed.

    Args:
        users: label of the user of each event, shape (events,).
        items: label of its item.
        ratings: its rating, or None where every event counts.
        times: its time, numbers or dates: then the last items of a held-out user are hidden, not random ones as in the paper.
            Chances and hits, which are calibrated to what is hidden, are of the next items only so: random ones are easier.
        threshold: ratings above it count.
        min_items: users with fewer items are left out.
        held_out: numbers of validation and of test users, a pair.
        share: of a held-out user's items that is hidden, where there are five or more; of users with fewer, nothing is.
        seed: of the permutation of users, and of what is hidden.

    Raises:
        DataError: for columns of unequal length or with missing values, or too few users.
        ValueError: for other settings that have no meaning.

    Example:
        >>> import numpy as np
        >>> users, items = np.repeat(np.arange(30), 6), np.tile(np.arange(6), 30)
        >>> strong_split(users, items, held_out=(5, 5)).train.shape
        (20, 6)
    """
    refuse_shares(held_out, share)
    users, items = np.asarray(users), np.asarray(items)
    if (
        users.shape != items.shape
        or users.ndim != 1
        or (ratings is not None and np.shape(ratings) != users.shape)
    ):
        raise DataError(
            f"strong_split: users have shape {users.shape}, items {items.shape}"
            + ("" if ratings is None else f", ratings {np.shape(ratings)}")
            + "; expected a label of each for every event."
        )
    for name, labels in (("users", users), ("items", items)):
        missing = np.array([label is None or label != label for label in labels.tolist()])
        if missing.any():
            raise DataError(
                f"strong_split: {name}[{int(missing.argmax())}] is missing; leave such events out."
            )
    kept = np.ones(len(users), bool) if ratings is None else numbers(ratings, "ratings") > threshold
    when = np.zeros(len(users)) if times is None else moments(times, len(users))
    order = np.lexsort((when[kept], items[kept], users[kept]))
    users, items, when = users[kept][order], items[kept][order], when[kept][order]
    repeated = np.zeros(len(users), bool)
    repeated[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    users, items, when = users[~repeated], items[~repeated], when[~repeated]
    everyone, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    enough = counts[index] >= min_items
    users, items, when = users[enough], items[enough], when[enough]
    names = np.unique(users)
    left_out = len(everyone) - len(names)
    if len(names) <= sum(held_out):
        raise DataError(
            f"strong_split: {len(names)} users have {min_items} items or more, and {sum(held_out)} are to be held out: lower "
            "held_out or min_items."
        )
    names = names[np.random.RandomState(seed).permutation(len(names))]
    first, second = len(names) - sum(held_out), len(names) - held_out[1]
    training = np.isin(users, names[:first])
    columns = first_seen(items[training])
    train = matrix(users[training], items[training], names[:first], columns)
    parts, dropped = [], 0
    for group in (names[first:second], names[second:]):
        here = np.isin(users, group)
        known = here & np.isin(items, columns)
        dropped += int(here.sum() - known.sum())
        last = None if times is None else when[known]
        parts.append(hidden_share(users[known], items[known], last, group, columns, share, seed))
    return Split(train, parts[0], parts[1], names[:first], columns, dropped, left_out)


def refuse_shares(held_out: Any, share: float) -> None:
    """Refuses what cannot be held out.

    Raises:
        ValueError: naming the setting.
    """
    counts = list(held_out) if np.ndim(held_out) == 1 else []
    if len(counts) != 2 or not all(isinstance(n, int | np.integer) and n >= 0 for n in counts):
        raise ValueError(
            f"strong_split(held_out={held_out!r}): expected two whole numbers, of validation and of test users."
        )
    if not 0 < share < 1:
        raise ValueError(f"strong_split(share={share!r}): expected a number with 0 < share < 1.")


def numbers(values: Any, name: str) -> np.ndarray:
    """A column of numbers, none missing.

    Raises:
        DataError: for text or missing values.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "biuf" or np.isnan(found).any():
        raise DataError(
            f"strong_split: {name} must be numbers, none missing; got {found.dtype} {found[:3]}, ..."
        )
    return found


def moments(times: Any, count: int) -> np.ndarray:
    """Times that can be sorted, one for each event, none missing.

    Raises:
        DataError: for another shape, text or missing values.
    """
    found = np.asarray(times)
    if found.dtype.kind == "M" and not np.isnat(found).any():
        found = found.astype("datetime64[us]").astype(np.int64)
    if found.shape != (count,):
        raise DataError(
            f"strong_split: times have shape {found.shape}, expected one for each of {count} events."
        )
    return numbers(found, "times")


def first_seen(labels: np.ndarray) -> np.ndarray:
    """Distinct labels in the order of their first event."""
    distinct, at = np.unique(labels, return_index=True)
    return distinct[np.argsort(at)]


def matrix(users: np.ndarray, items: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> CSR:
    """Events as ones, users and items in the order of these labels."""
    at = (places(users, rows), places(items, columns))
    found = scipy.sparse.csr_array(
        (np.ones(len(users), np.float32), at), shape=(len(rows), len(columns))
    )
    found.sort_indices()
    return found


def places(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each label stands."""
    order = np.argsort(among, kind="stable")
    return order[np.searchsorted(among, labels, sorter=order)]


def hidden_share(
    users: np.ndarray,
    items: np.ndarray,
    when: Any,
    rows: np.ndarray,
    columns: np.ndarray,
    share: float,
    seed: int,
) -> HeldOut:
    """Hides a share of each user's items, the last ones or random ones; users in ascending order, and items within them."""
    rng = np.random.RandomState(seed)
    hidden = np.zeros(len(users), bool)
    starts = (
        np.flatnonzero(np.append(True, users[1:] != users[:-1])) if len(users) else np.zeros(0, int)
    )
    for first, n in zip(starts, np.diff(starts, append=len(users)), strict=True):
        if n >= 5:
            size = int(share * n)
            drawn = (
                rng.choice(n, size=size, replace=False)
                if when is None
                else np.argsort(when[first : first + n])[n - size :]
            )
            hidden[first + drawn] = True
    shown, kept_back = (
        matrix(users[part], items[part], rows, columns) for part in (~hidden, hidden)
    )
    return HeldOut(shown, kept_back, rows, columns)
