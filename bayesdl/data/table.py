"""The schema of a table: learned once from the training data, applied to everything after.

It is plain data, so it is saved with a fit.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np

from bayesdl.data.columns import Columns
from bayesdl.data.frames import as_table, as_target, same_index
from bayesdl.data.reading import Reading
from bayesdl.data.target import Target, missing_targets
from bayesdl.data.validation import DataError, Problems, is_frame
from bayesdl.typing import ColumnLike, TableLike, TargetKind


@dataclasses.dataclass(frozen=True)
class AbstractSchema(abc.ABC):
    """What is learned of any table: its columns and its target.

    Attributes:
        columns: the input columns.
        target: the target.
        reading: how tables are read.
    """

    columns: Columns
    target: Target
    reading: Reading = Reading()

    @property
    def notes(self) -> list[str]:
        """How the table was read, a sentence for each column that is not read as it is."""
        pairs = zip(self.columns.names, self.columns.encodings, strict=True)
        return [note for name, encoding in pairs if (note := encoding.note(name))]

    @property
    def concerns(self) -> list[str]:
        """What a user should look at before trusting the fit."""
        constant = self.columns.constant(self.reading.drop)
        if not constant:
            return []
        shown = ", ".join(f"'{name}'" for name in constant[:10])
        more = f" and {len(constant) - 10} more" if len(constant) > 10 else ""
        if len(constant) == 1:
            return [f"Column {shown} is constant in the training rows and left out."]
        return [f"Columns {shown}{more} are constant in the training rows and left out."]


@dataclasses.dataclass(frozen=True)
class TableSchema(AbstractSchema):
    """The columns and the target of a table (X, y).

    Attributes:
        columns: the input columns.
        target: the target.
        reading: how tables are read.
    """

    @classmethod
    def learn(
        cls,
        X: TableLike,
        y: ColumnLike,
        target: tuple[TargetKind, bool, bool],
        standardize: bool,
        reading: Reading,
    ) -> TableSchema:
        """Learn columns and target.

        Args:
            X: the training inputs.
            y: the training targets.
            target: the kind of target, whether it is standardised, and whether no more than two
                classes are allowed.
            standardize: whether inputs are standardised.
            reading: how the table is read.

        Raises:
            DataError: listing all that is wrong with the table.
        """
        problems = Problems()
        columns = problems.gather(lambda: Columns.learn(X, standardize, reading))
        found = problems.gather(lambda: Target.learn(y, *target))
        problems.refuse()
        assert columns is not None and found is not None
        return cls(columns, found, reading)


def known_rows(
    X: TableLike, y: ColumnLike, weights: ColumnLike | None, reading: Reading
) -> tuple[Any, Any, np.ndarray | None]:
    """Return inputs, targets and weights of the rows that count.

    Rows without a target are left out where `missing_target="drop"` asks for it, and so are rows
    of weight zero. Rows whose weights are whole numbers are repeated as often; then no weights are
    returned.

    Raises:
        DataError: where rows do not belong together, or weights make no sense.
    """
    table: Any = as_table(X)
    target: Any = as_target(y)
    same_rows(table, target)
    counts = None if weights is None else _read_weights(weights, table)
    kept = np.ones(len(target), dtype=bool) if counts is None else counts > 0
    if reading.missing_target == "drop":
        kept &= ~missing_targets(target)
    if len(kept) and not kept.any():
        raise DataError("No row is left: every target is missing, or every weight is zero.")
    if not kept.all():
        table, target = table[kept], target[kept]
    counts = None if counts is None else counts[kept]
    rows = len(target)
    if counts is None or not np.all(counts == np.round(counts)) or counts.sum() > MOST * rows:
        return table, target, counts
    index = np.repeat(np.arange(rows), counts.astype(int))
    take = (
        (table.iloc[index] if is_frame(table) else table[index]),
        (target.iloc[index] if hasattr(target, "iloc") else target[index]),
    )
    return *take, None


HEAVIEST = 1e12  # sums of larger weights lose the others in single precision
MOST = 20  # mean number of repetitions of a row


def _read_weights(weights: ColumnLike, X: Any) -> np.ndarray:
    """Return weights as doubles, shape (rows,).

    Raises:
        DataError: for weights that are not one number of at least 0 per row.
    """
    column = as_target(weights, "weights")
    values = np.asarray(column)
    if values.ndim != 1 or len(values) != len(X):
        raise DataError(
            f"weights has shape {values.shape}: expected one for each of the {len(X)} rows, shape "
            f"({len(X)},)."
        )
    same_index(X, column, ("X", "weights"))
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError("weights holds cells that are no numbers: expected numbers >= 0.") from None
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if bad.size or np.iscomplexobj(values):
        row = int(bad[0]) if bad.size else 0
        raise DataError(f"weights in row {row} is {values[row]}: expected a number >= 0.")
    extreme = np.flatnonzero((numbers > HEAVIEST) | ((numbers > 0) & (numbers < 1 / HEAVIEST)))
    if extreme.size:
        raise DataError(
            f"weights in row {extreme[0]} is {numbers[extreme[0]]:g}: expected 0, or a number from "
            f"{1 / HEAVIEST:g} to {HEAVIEST:g}. A weight is how many rows the row counts as."
        )
    return numbers


def _num_rows(name: str, values: Any) -> int:
    """Return the number of rows of a table or column.

    Raises:
        DataError: for what has no rows.
    """
    if not values.shape:
        raise DataError(
            f"{name} has no rows: got {name}={values.tolist()!r:.60}, expected an array or "
            "DataFrame with a row per sample."
        )
    return values.shape[0]


def same_rows(X: TableLike, y: ColumnLike) -> None:
    """Refuse X and y of different lengths, or of pandas with different labels of rows.

    Raises:
        DataError: saying what differs.
    """
    X, y = as_table(X), as_target(y)
    rows, targets = _num_rows("X", X), _num_rows("y", y)
    if rows != targets:
        raise DataError(
            f"Found input variables with inconsistent numbers of samples: X has {rows} rows and y "
            f"has {targets}."
        )
    same_index(X, y, ("X", "y"))


def same_labels(X: TableLike, y: ColumnLike) -> None:
    """Refuse X and y of pandas with different labels of rows, where they are of one length.

    Raises:
        DataError: with the first row that differs.
    """
    table: Any = as_table(X)
    target: Any = as_target(y)
    if table.shape[:1] == target.shape[:1]:
        same_index(table, target, ("X", "y"))
