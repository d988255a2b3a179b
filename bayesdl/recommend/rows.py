"""Users as sparse rows of items: what is accepted, and batches that compiled functions can take.

A batch of b users is the list of its n nonzeros (user in the batch, item, value). It is padded with
zeros to a size from a short list, so that few programs are compiled. The matrix users x items is
never allocated.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import scipy.sparse

from bayesdl.data.validation import DataError, check_sparse
from bayesdl.typing import ColumnLike, TableLike

# Type checkers do not know the shape of a csr_array, so that they are told nothing.
if TYPE_CHECKING:
    CSR: TypeAlias = Any
else:
    CSR = scipy.sparse.csr_array
"""Rows of users x items as a csr_array, sorted, without duplicates or stored zeros."""

AnyArray: TypeAlias = jax.Array | np.ndarray
"""Numbers on the device or in host memory."""

# The default advice of `reorder_by_label`.
ROWS_ADVICE = "Expected a column for each item; rows_from makes rows of a table of events."
# Entries of the smallest padded batch.
SMALLEST = 256
# Users whose scores are in memory at a time.
BLOCK = 500
# Sizes of blocks of users; functions are compiled once for each.
SIZES = (1, 32, BLOCK)


class Entries(NamedTuple):
    """The nonzeros of a batch of users, padded with zeros.

    Attributes:
        user: the row in the batch of each entry, ascending, shape (n,).
        item: the column of each entry, shape (n,).
        value: the value of each entry, zero for padding, shape (n,).
        present: one for each user of the batch, zero for rows that fill it up, shape (b,).
    """

    user: AnyArray
    item: AnyArray
    value: AnyArray
    present: AnyArray


def as_rows(X: TableLike, num_items: int | None = None) -> CSR:
    """Convert users x items to CSR form, sorted, without duplicates or stored zeros.

    Args:
        X: a scipy.sparse matrix or array, or a dense array with two axes.
        num_items: the number of columns that is expected; None for any.

    Raises:
        DataError: for another kind of data, negative or non-finite values, or another number of
            items.
    """
    if not scipy.sparse.issparse(X):
        X = np.asarray(X)
        if X.dtype.kind not in "bifu" or X.ndim != 2:
            raise DataError(
                f"Got {X.dtype} of shape {X.shape}, expected users x items as a scipy.sparse "
                "matrix, or numbers with two axes. A table of events becomes rows by strong_split, "
                "or by rows_from of a fitted recommender."
            )
    else:
        check_sparse(X)
    given: Any = X
    rows: Any = scipy.sparse.csr_array(given).astype(np.float32)
    _refuse_bad_values(rows)
    # conversions sum already; diagonals hold no place twice, and places that are none
    twice = scipy.sparse.issparse(given) and given.format != "dia"
    stored = given.nnz if twice else rows.nnz
    # what the matrix says of itself may be old
    rows.has_sorted_indices = rows.has_canonical_format = False
    rows.sum_duplicates()
    if rows.nnz < stored:
        warnings.warn(
            f"{stored - rows.nnz} entries stand for a user and an item that are there already: "
            "summed.",
            stacklevel=3,
        )
    rows.eliminate_zeros()
    if num_items is not None and rows.shape[1] != num_items:
        raise DataError(
            f"The rows have {rows.shape[1]} items, the fit has {num_items}: give the same columns."
        )
    return rows


def reorder_by_label(
    table: TableLike, labels: ColumnLike, axis: int, advice: str = ROWS_ADVICE
) -> TableLike:
    """Put the rows (axis 0) or columns (axis 1) of a DataFrame into the order of these labels.

    Other data are returned as they are. So is a DataFrame with the default index of pandas,
    0, 1, ...: it has no labels and is taken by position.

    Args:
        table: a DataFrame, or any other data.
        labels: the labels of the items, shape (items,).
        axis: the axis of the items.
        advice: the last sentence of the error.

    Raises:
        DataError: for labels that are not those of the items.
    """
    frame: Any = table
    if not hasattr(frame, "iloc"):
        return table
    wanted: list = list(labels)  # pyright: ignore[reportArgumentType]
    names = frame.columns if axis else frame.index
    if type(names).__name__ == "RangeIndex" and len(names) == len(wanted):
        return table
    at = names.get_indexer(wanted) if names.is_unique else np.array([-1])
    if len(names) == len(wanted) and (at >= 0).all():
        return frame.iloc[:, at] if axis else frame.iloc[at]
    known, given = set(np.asarray(labels).tolist()), set(names.tolist())
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in names if name not in known]
    where = "columns" if axis else "index"
    raise DataError(
        f"The {where} of the DataFrame are not those of the fit: missing {_first_few(missing)}; "
        f"unknown {_first_few(unknown)}. {advice}"
    )


def _first_few(labels: Sequence[object]) -> str:
    """Return the first three labels and the number of the others, in words."""
    more = f" and {len(labels) - 3} others" if len(labels) > 3 else ""
    return (", ".join(map(str, labels[:3])) or "none") + more


def as_features(F: TableLike, name: str) -> np.ndarray:
    """Convert features of items to an array of float32.

    Args:
        F: the features, items x features.
        name: the name of the argument, for the error.

    Raises:
        DataError: for values that are not numbers.
    """
    try:
        return np.asarray(F, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: expected numbers ({error}); pandas.get_dummies makes them of categories."
        ) from None


def event_matrix(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> CSR:
    """Return a matrix with a one for each pair of user and item; repeated events are one.

    Args:
        user: the row of each event, shape (events,).
        item: the column of each event, shape (events,).
        shape: the shape of the matrix, (users, items).
    """
    pairs = np.unique(np.stack([user, item]), axis=1)
    return scipy.sparse.csr_array(
        (np.ones(pairs.shape[1], np.float32), (pairs[0], pairs[1])), shape=shape
    )


def _refuse_bad_values(rows: CSR) -> None:
    """Refuse values that are not counts or weights.

    Raises:
        DataError: with user and item of the first bad value.
    """
    for bad, what in ((~np.isfinite(rows.data), "not finite"), (rows.data < 0, "negative")):
        if bad.any():
            at = int(bad.argmax())
            user = int(np.searchsorted(rows.indptr, at, side="right")) - 1
            raise DataError(
                f"User {user}, item {rows.indices[at]}: the value {rows.data[at]} is {what}; "
                "expected counts or weights above zero."
            )


def refuse_empty(rows: CSR, name: str = "train") -> None:
    """Refuse a matrix without entries.

    Raises:
        DataError: with the shape of the matrix.
    """
    if not rows.nnz:
        raise DataError(
            f"{name}: the matrix of shape {rows.shape} has no entry above zero, so there is "
            "nothing to learn from it."
        )


def _padded_size(n: int) -> int:
    """Return the smallest of 8/8, 9/8, ..., 15/8 of a power of two that is not below n."""
    size = SMALLEST
    while 2 * size < n:
        size *= 2
    return next(size * eighths // 8 for eighths in range(8, 17) if size * eighths // 8 >= n)


def stack_batches(rows: CSR, order: np.ndarray, size: int) -> Entries:
    """Return batches of `size` users in this order, with a leading axis over batches.

    The last batch is filled up with empty rows.

    Args:
        rows: users x items.
        order: the indexes of the users, in the order of training.
        size: the number of users in a batch.
    """
    users = len(order)
    count = -(-users // size)
    ordered = rows[order]
    lengths = np.diff(ordered.indptr)
    batch = np.repeat(np.arange(users) // size, lengths)
    starts = ordered.indptr[:users:size]
    place = np.arange(ordered.nnz) - starts[batch]
    width = _padded_size(int(np.diff(np.append(starts, ordered.nnz)).max(initial=0)))
    user = np.full((count, width), size - 1, np.int32)
    item, value = np.zeros((count, width), np.int32), np.zeros((count, width), np.float32)
    user[batch, place] = np.repeat(np.arange(users) % size, lengths)
    item[batch, place], value[batch, place] = ordered.indices, ordered.data
    present = (np.arange(count * size) < users).astype(np.float32).reshape(count, size)
    return Entries(user, item, value, present)


def as_entries(rows: CSR) -> Entries:
    """Return all rows as one batch."""
    users = rows.shape[0]
    return Entries(*(leaf[0] for leaf in stack_batches(rows, np.arange(users), users)))


def user_blocks(rows: CSR) -> Iterator[tuple[slice, CSR]]:
    """Iterate over blocks of users: their slice, and their rows.

    The rows are filled up with empty ones to one of the numbers in `SIZES`.
    """
    for first in range(0, rows.shape[0], BLOCK):
        part = rows[first : first + BLOCK]
        count = part.shape[0]
        size = next(size for size in SIZES if size >= count)
        if size > count:
            blank = scipy.sparse.csr_array((size - count, part.shape[1]), dtype=part.dtype)
            part = scipy.sparse.vstack([part, blank], "csr")
        yield slice(first, first + count), scipy.sparse.csr_array(part)


def hidden_items(rows: CSR, allowed: np.ndarray, exclude_seen: bool) -> np.ndarray:
    """Return which items may not be recommended to each user, shape (b, items).

    Args:
        rows: the users' rows, shape (b, items).
        allowed: whether each item may be recommended at all, shape (items,).
        exclude_seen: whether the items of the user's own row are hidden too.
    """
    hidden = np.repeat(~allowed[None], rows.shape[0], axis=0)
    if exclude_seen:
        hidden[rows.tocoo().coords] = True
    return hidden
