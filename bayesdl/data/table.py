"""The schema of a table: learned once from the training data, applied to everything after.

It is plain data, so it is saved with a fit.
"""

from __future__ import annotations

import dataclasses

from bayesdl.data.columns import Columns
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, rectangular
from bayesdl.typing import ColumnLike, TableLike, Values


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """The columns and the target of a table (X, y).

    Attributes:
        columns: the input columns.
        target: the target.
    """

    columns: Columns
    target: Target


def _num_rows(name: str, values: Values) -> int:
    """Return the number of rows of an array, a table, a sparse matrix or nested lists.

    Raises:
        DataError: for what has no rows.
    """
    shape = getattr(values, "shape", None)
    shape = rectangular(name, values).shape if shape is None else shape
    if not shape:
        raise DataError(
            f"{name} has no rows: got {name}={values!r}, expected an array or DataFrame with a row "
            "per sample."
        )
    return shape[0]


def same_rows(X: TableLike, y: ColumnLike) -> None:
    """Refuse X and y of different lengths.

    Raises:
        DataError: saying both lengths.
    """
    rows, targets = _num_rows("X", X), _num_rows("y", y)
    if rows != targets:
        raise DataError(
            f"Found input variables with inconsistent numbers of samples: X has {rows} rows and y "
            f"has {targets}."
        )
