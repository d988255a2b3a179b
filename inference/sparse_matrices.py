"""Sparse matrices are looked at before native code takes them.

A file that is damaged, or an array that was changed, may hold places outside of the matrix;
compiled routines then write outside of their memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def fault_of(matrix: Any) -> str | None:
    """Return what is wrong with a matrix of `scipy.sparse`, of any of its formats; None if nothing.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> matrix = scipy.sparse.csr_array(np.eye(3))
        >>> matrix.indices[1] = 99
        >>> fault_of(matrix)
        'csr of shape (3, 3): indices must be < 3'
    """
    try:
        what = _fault(matrix)
    # a part may be absent, or of any kind
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
    return f"{matrix.format} of shape {matrix.shape}: {what}" if what else None


def _fault(matrix: Any) -> str | None:
    """Return what is wrong with a matrix, or None."""
    if len(matrix.shape) != 2:
        return f"it has {len(matrix.shape)} axes, expected 2"
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format(full_check=True)
        # `nnz` is the last pointer, which may be below the number of places
        return None if _is_ascending(matrix.indptr) else "its pointers do not ascend"
    if matrix.format == "coo":
        return _places_outside((matrix.row, matrix.col), matrix.shape, len(matrix.data))
    if matrix.format == "dok":
        places = np.array(list(matrix.keys()), dtype=object).reshape(-1, 2).T
        return _places_outside(tuple(places.astype(np.int64)), matrix.shape, matrix.nnz)
    if matrix.format == "lil":
        return _lists_outside(matrix)
    if matrix.format == "dia":
        fits = np.shape(matrix.data)[:1] == np.shape(matrix.offsets)
        return None if fits and np.ndim(matrix.data) == 2 else "its diagonals do not fit"
    return f"its format {matrix.format!r} is not known"


def _is_ascending(pointers: np.ndarray) -> bool:
    return bool((np.diff(pointers) >= 0).all())


def _places_outside(
    places: tuple[np.ndarray, ...], shape: tuple[int, ...], entries: int
) -> str | None:
    """Return what is wrong with the places of entries, or None."""
    for axis, (at, size) in enumerate(zip(places, shape, strict=True)):
        if np.asarray(at).dtype.kind not in "iu" or np.shape(at) != (entries,):
            return f"{np.size(at)} places along axis {axis} for {entries} entries"
        if entries and (at.min() < 0 or at.max() >= size):
            worst = at.min() if at.min() < 0 else at.max()
            return f"an entry is at place {worst} of axis {axis}, which has {size}"
    return None


def _lists_outside(matrix: Any) -> str | None:
    """Return what is wrong with a matrix of lists, or None."""
    rows, data = matrix.rows, matrix.data
    if len(rows) != matrix.shape[0] or len(data) != matrix.shape[0]:
        return f"{len(rows)} lists of places and {len(data)} of values for {matrix.shape[0]} rows"
    for row, (places, values) in enumerate(zip(rows, data, strict=True)):
        if len(places) != len(values):
            return f"row {row} has {len(places)} places and {len(values)} values"
        fault = _places_outside((np.asarray(places, np.int64),), matrix.shape[1:], len(values))
        if fault:
            return f"in row {row} {fault}"
    return None
