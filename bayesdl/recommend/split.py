"""The protocol of Liang et al. (2018), arXiv:1802.05814, for judging recommenders on users that were not trained on.

Some users are held out. Of their items a share is held out too, and predicted from the rest, the fold-in.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.cells import DataError
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
        hidden = in_order(self.held_out, getattr(self.fold_in, "columns", ()), 1)
        both = scipy.sparse.csr_array(self.fold_in).multiply(scipy.sparse.csr_array(hidden)).nnz
        if both:
            raise DataError(f"HeldOut: {both} entries are shown and held out at once; what is shown is never recommended.")

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
    threshold: float = THRESHOLD,
    min_items: int = MIN_ITEMS,
    held_out: tuple[int, int] = (500, 500),
    share: float = 0.2,
    seed: int = 98765,
) -> Split:
    """Splits events by users, as the paper does, to the same entries for the same seed.

    Args:
        users: label of the user of each event, shape (events,).
        items: label of its item.
        ratings: its rating, or None where every event counts.
        threshold: ratings above it count.
        min_items: users with fewer items are left out.
        held_out: numbers of validation and of test users.
        share: of a held-out user's items that is hidden, where there are five or more.
        seed: of the permutation of users, and of what is hidden.

    Raises:
        DataError: for columns of unequal length, or too few users.

    Example:
        >>> import numpy as np
        >>> users, items = np.repeat(np.arange(30), 6), np.tile(np.arange(6), 30)
        >>> strong_split(users, items, held_out=(5, 5)).train.shape
        (20, 6)
    """
    users, items = np.asarray(users), np.asarray(items)
    if users.shape != items.shape or users.ndim != 1 or (ratings is not None and np.shape(ratings) != users.shape):
        raise DataError(
            f"strong_split: users have shape {users.shape}, items {items.shape}"
            + ("" if ratings is None else f", ratings {np.shape(ratings)}")
            + "; expected a label of each for every event."
        )
    for name, labels in (("users", users), ("items", items)):
        missing = np.array([label is None or label != label for label in labels.tolist()])
        if missing.any():
            raise DataError(f"strong_split: {name}[{int(missing.argmax())}] is missing; leave such events out.")
    kept = np.ones(len(users), bool) if ratings is None else np.asarray(ratings) > threshold
    order = np.lexsort((items[kept], users[kept]))
    users, items = users[kept][order], items[kept][order]
    repeated = np.zeros(len(users), bool)
    repeated[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    users, items = users[~repeated], items[~repeated]
    everyone, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    enough = counts[index] >= min_items
    users, items = users[enough], items[enough]
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
        parts.append(hidden_share(users[known], items[known], group, columns, share, seed))
    return Split(train, parts[0], parts[1], names[:first], columns, dropped, left_out)


def first_seen(labels: np.ndarray) -> np.ndarray:
    """Distinct labels in the order of their first event."""
    distinct, at = np.unique(labels, return_index=True)
    return distinct[np.argsort(at)]


def matrix(users: np.ndarray, items: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> CSR:
    """Events as ones, users and items in the order of these labels."""
    at = (places(users, rows), places(items, columns))
    found = scipy.sparse.csr_array((np.ones(len(users), np.float32), at), shape=(len(rows), len(columns)))
    found.sort_indices()
    return found


def places(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each label stands."""
    order = np.argsort(among, kind="stable")
    return order[np.searchsorted(among, labels, sorter=order)]


def hidden_share(
    users: np.ndarray, items: np.ndarray, rows: np.ndarray, columns: np.ndarray, share: float, seed: int
) -> HeldOut:
    """Hides a share of the items of each user; users in ascending order, and items within them."""
    rng = np.random.RandomState(seed)
    hidden = np.zeros(len(users), bool)
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1])) if len(users) else np.zeros(0, int)
    for first, n in zip(starts, np.diff(starts, append=len(users)), strict=True):
        if n >= 5:
            hidden[first + rng.choice(n, size=int(share * n), replace=False)] = True
    shown, kept_back = (matrix(users[part], items[part], rows, columns) for part in (~hidden, hidden))
    return HeldOut(shown, kept_back, rows, columns)
