"""What a table of data looked like, learned once from the training data and applied to everything after.

It is plain data, so it is saved with a fit.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bayesdl.data.columns import Columns
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, rectangular


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """Columns and target of a table (X, y)."""

    columns: Columns
    target: Target


def num_rows(name: str, values: Any) -> int:
    """The length of an array, a table, a sparse matrix or nested lists.

    Raises:
        DataError: for what has no rows.
    """
    shape = values.shape if hasattr(values, "shape") else rectangular(name, values).shape
    if not shape:
        raise DataError(
            f"{name} has no rows: got {name}={values!r}, expected an array or DataFrame with a row per sample."
        )
    return shape[0]


def same_rows(X: Any, y: Any) -> None:
    """Refuses X and y of different lengths."""
    rows, targets = num_rows("X", X), num_rows("y", y)
    if rows != targets:
        raise DataError(
            f"Found input variables with inconsistent numbers of samples: X has {rows} rows and y has {targets}."
        )
