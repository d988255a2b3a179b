"""Users as sparse rows of items: what is accepted, and batches of flat entries that a compiled function can take.

A batch of b users is the list of its n nonzeros, (user in the batch, item, value), padded with zeros to a size from a short
list, so that few programs are compiled. The matrix users x items is never allocated.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError

CSR = Any  # a scipy.sparse.csr_array, whose shape type checkers do not know
ROWS = "Expected a column for each item; rows_from makes rows of a table of events."
SMALLEST = 256  # entries of a padded batch
BLOCK = 500  # users whose scores are in memory at a time
SIZES = (1, 32, BLOCK)  # of blocks, each compiled once


class Entries(NamedTuple):
    """The nonzeros of a batch of users, padded with zeros.

    Attributes:
        user: row in the batch, ascending, shape (n,).
        item: shape (n,).
        value: shape (n,).
        present: one for each user of the batch, zero for rows that fill it up, shape (b,).
    """

    user: Any
    item: Any
    value: Any
    present: Any


def as_rows(X: Any, num_items: int | None = None) -> CSR:
    """Users x items in CSR form, sorted, without duplicates or stored zeros.

    Args:
        X: a scipy.sparse matrix or array, or a dense array of two axes.
        num_items: how many columns are expected; None for any.

    Raises:
        DataError: for another kind of data, negative or non-finite values, or another number of items.
    """
    if not scipy.sparse.issparse(X):
        X = np.asarray(X)
        if X.dtype.kind not in "bifu" or X.ndim != 2:
            raise DataError(
                f"Got {X.dtype} of shape {X.shape}, expected users x items as a scipy.sparse matrix, or numbers with two axes. "
                "A table of events becomes rows by strong_split, or by rows_from of a fitted recommender."
            )
    rows: Any = scipy.sparse.csr_array(X).astype(np.float32)
    refuse_bad_values(rows)
    stored = X.nnz if scipy.sparse.issparse(X) else rows.nnz
    rows.sum_duplicates()
    if rows.nnz < stored:
        warnings.warn(
            f"{stored - rows.nnz} entries stand for a user and an item that are there already: summed.",
            stacklevel=3,
        )
    rows.eliminate_zeros()
    if num_items is not None and rows.shape[1] != num_items:
        raise DataError(
            f"The rows have {rows.shape[1]} items, the fit has {num_items}: give the same columns."
        )
    return rows


def in_order(table: Any, labels: Any, axis: int, advice: str = ROWS) -> Any:
    """A DataFrame with its rows (axis 0) or columns (axis 1) in the order of these labels; other data as they are.

    Args:
        table: labelled, or any other data; a DataFrame with the index that pandas gives by itself, 0, 1, ..., has no labels
            and is taken by position.
        labels: of the items, shape (items,).
        axis: where the items are.
        advice: the end of the error.

    Raises:
        DataError: for labels that are not those of the items.
    """
    if not hasattr(table, "iloc"):
        return table
    names = table.columns if axis else table.index
    if type(names).__name__ == "RangeIndex" and len(names) == len(labels):
        return table
    at = names.get_indexer(list(labels)) if names.is_unique else np.array([-1])
    if len(names) == len(labels) and (at >= 0).all():
        return table.iloc[:, at] if axis else table.iloc[at]
    known, given = set(np.asarray(labels).tolist()), set(names.tolist())
    lacks, more = (
        [name for name in one if name not in other]
        for one, other in ((labels, given), (names, known))
    )
    where = "columns" if axis else "index"
    raise DataError(
        f"The {where} of the DataFrame are not those of the fit: missing {told(lacks)}; unknown {told(more)}. {advice}"
    )


def told(labels: list) -> str:
    """The first of some labels in words."""
    more = f" and {len(labels) - 3} others" if len(labels) > 3 else ""
    return (", ".join(map(str, labels[:3])) or "none") + more


def as_features(F: Any, name: str) -> np.ndarray:
    """Features of items as an array.

    Raises:
        DataError: for values that are not numbers.
    """
    try:
        return np.asarray(F, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: expected numbers ({error}); pandas.get_dummies makes them of categories."
        ) from None


def chosen(user: Any, item: Any, shape: tuple[int, int]) -> CSR:
    """Ones at the places of events, repeated ones as one."""
    pairs = np.unique(np.stack([user, item]), axis=1)
    return scipy.sparse.csr_array(
        (np.ones(pairs.shape[1], np.float32), (pairs[0], pairs[1])), shape=shape
    )


def refuse_bad_values(rows: CSR) -> None:
    """Refuses values that are not counts or weights.

    Raises:
        DataError: with user and item of the first.
    """
    for bad, what in ((~np.isfinite(rows.data), "not finite"), (rows.data < 0, "negative")):
        if bad.any():
            at = int(bad.argmax())
            user = int(np.searchsorted(rows.indptr, at, side="right")) - 1
            raise DataError(
                f"User {user}, item {rows.indices[at]}: the value {rows.data[at]} is {what}; expected counts or weights above "
                "zero."
            )


def refuse_empty(rows: CSR, name: str = "train") -> None:
    """Refuses a matrix that holds nothing.

    Raises:
        DataError: with its shape.
    """
    if not rows.nnz:
        raise DataError(
            f"{name}: the matrix of shape {rows.shape} has no entry above zero, so there is nothing to learn from it."
        )


def bucket(n: int) -> int:
    """The smallest of 8/8, 9/8, ... 15/8 of a power of two that is not below n."""
    size = SMALLEST
    while 2 * size < n:
        size *= 2
    return next(size * eighths // 8 for eighths in range(8, 17) if size * eighths // 8 >= n)


def stacked(rows: CSR, order: np.ndarray, size: int) -> Entries:
    """Batches of `size` users in this order, arrays with a leading axis over batches; the last is filled up with empty rows."""
    users = len(order)
    count = -(-users // size)
    ordered = rows[order]
    lengths = np.diff(ordered.indptr)
    batch = np.repeat(np.arange(users) // size, lengths)
    starts = ordered.indptr[:users:size]
    place = np.arange(ordered.nnz) - starts[batch]
    width = bucket(int(np.diff(np.append(starts, ordered.nnz)).max(initial=0)))
    user = np.full((count, width), size - 1, np.int32)
    item, value = np.zeros((count, width), np.int32), np.zeros((count, width), np.float32)
    user[batch, place] = np.repeat(np.arange(users) % size, lengths)
    item[batch, place], value[batch, place] = ordered.indices, ordered.data
    present = (np.arange(count * size) < users).astype(np.float32).reshape(count, size)
    return Entries(user, item, value, present)


def entries(rows: CSR) -> Entries:
    """All rows as one batch."""
    return Entries(*(leaf[0] for leaf in stacked(rows, np.arange(rows.shape[0]), rows.shape[0])))


def blocks(rows: CSR) -> Iterator[tuple[slice, CSR]]:
    """Slices of users, and their rows, filled up with empty ones to a number from a short list."""
    for first in range(0, rows.shape[0], BLOCK):
        part = rows[first : first + BLOCK]
        count = part.shape[0]
        size = next(size for size in SIZES if size >= count)
        if size > count:
            part = scipy.sparse.vstack(
                [part, scipy.sparse.csr_array((size - count, part.shape[1]), dtype=part.dtype)],
                "csr",
            )
        yield slice(first, first + count), scipy.sparse.csr_array(part)


def masked(rows: CSR, allowed: np.ndarray, exclude_seen: bool) -> np.ndarray:
    """Which items each user is not to be given, shape (b, items)."""
    blocked = np.repeat(~allowed[None], rows.shape[0], axis=0)
    if exclude_seen:
        blocked[rows.tocoo().coords] = True
    return blocked
