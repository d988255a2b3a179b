"""The rows that calibrate: whether they are new, enough, in order, and which group each is in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bayesdl.data.cells import DATE
from bayesdl.data.columns import Columns
from bayesdl.data.frames import as_table, as_target, same_index
from bayesdl.data.target import missing_targets
from bayesdl.data.validation import DataError, is_frame, is_series
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import ColumnLike, TableLike
from bayesdl.warnings import DataWarning

# rows that are named in a message
SHOWN = 5


def refuse_training_rows(posterior: AbstractPosterior, X: np.ndarray, y: np.ndarray) -> None:
    """Refuse calibration rows that the model was fitted to.

    Tables whose rows repeat may share some rows by accident: as many as the training rows repeat
    among themselves are allowed.

    Args:
        posterior: the posterior of a model of tables.
        X: the inputs of the rows, as the program sees them.
        y: the targets, as the program sees them.

    Raises:
        DataError: naming the first rows.
    """
    trained = _hashes(*posterior.problem.args[:2])
    known, counts = np.unique(trained, return_counts=True)
    repeated = float(np.sum(counts[counts > 1])) / len(trained)
    same = np.isin(_hashes(X, y), known)
    share = same.mean()
    if share <= repeated + 3 * np.sqrt(repeated * (1 - repeated) / len(same)):
        return
    rows = np.flatnonzero(same)
    listed = ", ".join(map(str, rows[:SHOWN])) + (", ..." if rows.size > SHOWN else "")
    raise DataError(
        f"{rows.size} of {len(same)} calibration rows are training rows (rows {listed}): what is "
        "known of them says nothing about new ones. Give rows that the fit has not seen, or none: "
        "then the training rows are used as they can be."
    )


def _hashes(X: TableLike, y: ColumnLike) -> np.ndarray:
    """Return a hash for each row of inputs and targets."""
    inputs, targets = np.asarray(X, np.float64), np.asarray(y, np.float64)
    table = np.concatenate([inputs.reshape(len(inputs), -1), targets.reshape(len(targets), -1)], 1)
    return np.array([hash(row.tobytes()) for row in np.ascontiguousarray(table + 0.0)])


def warn_of_time(columns: Columns | None, X: np.ndarray, given: TableLike | None) -> None:
    """Warn where the rows stand in the order of a date: they may depend on each other.

    Args:
        columns: the input columns; None for those of a formula, which are no dates.
        X: the rows as the program sees them, shape (rows, encoded columns).
        given: the table as it was given, where it was.
    """
    name = None if columns is None else _date_in_order(columns, X)
    index: Any = getattr(given, "index", None)
    if name is None and type(index).__name__ == "DatetimeIndex" and len(index) > 2:
        monotone = index.is_monotonic_increasing or index.is_monotonic_decreasing
        name = "the index" if monotone else None
    if name is not None:
        warnings.warn(
            f"The rows are in the order of {name}: rows that follow each other in time depend on "
            "each other, and what held for the past need not hold for what comes. Sets hold what "
            "they say for rows whose order means nothing; calibrate on the latest rows, and often.",
            DataWarning,
            stacklevel=4,
        )


def _date_in_order(columns: Columns, X: np.ndarray) -> str | None:
    """Return the name of a date column whose values rise or fall along the rows."""
    if columns.shape or len(X) < 3:
        return None
    names = columns.encoded_names
    for name, encoding in zip(columns.names, columns.encodings, strict=True):
        if encoding.kind != DATE or name not in names:
            continue
        steps = np.diff(X[:, names.index(name)])
        if steps.any() and ((steps >= 0).all() or (steps <= 0).all()):
            return f"the date {name!r}"
    return None


def labels_of(groups: ColumnLike, X: TableLike | None, rows: int) -> tuple[np.ndarray, Any]:
    """Return the group of each row, and the columns that hold it where they are columns of X.

    Args:
        groups: the name of a column of X, a list of names, or a label for each row.
        X: the table.
        rows: the number of rows.

    Raises:
        DataError: for a name that is no column, or labels that are not one per row.
    """
    names = [groups] if isinstance(groups, str) else groups
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        table: Any = as_table(X) if X is not None else None
        if is_frame(table) and all(name in table.columns for name in names):
            return labels_in(list(names), table), list(names)
        if isinstance(groups, str) or len(names) != rows:
            got = list(table.columns)[:10] if is_frame(table) else "no names of columns"
            raise DataError(
                f"groups={groups!r}: expected names of columns of X ({got}), or an array with a "
                f"label for each of the {rows} rows."
            )
    return given_labels(groups, rows, X), None


def given_labels(groups: ColumnLike, rows: int | None, X: TableLike | None) -> np.ndarray:
    """Return labels of groups that were given as such: numbers, or texts.

    Args:
        groups: a label for each row.
        rows: the number of rows; None where it is not known.
        X: the table of the rows, whose index theirs must be.

    Raises:
        DataError: for labels that are not one per row, are missing, or are those of other rows.
    """
    column: Any = as_target(groups, "groups")
    labels = np.asarray(column)
    if labels.ndim != 1 or (rows is not None and len(labels) != rows):
        expected = "each row" if rows is None else f"each of the {rows} rows"
        raise DataError(f"groups has shape {labels.shape}: expected a label for {expected}.")
    if is_series(column) and X is not None:
        same_index(as_table(X), column, ("X", "groups"))
    _refuse_missing(missing_targets(labels), "groups")
    return labels if labels.dtype.kind in "iufb" else labels.astype(str)


def _refuse_missing(missing: np.ndarray, what: str) -> None:
    """Refuse rows without a group."""
    if missing.any():
        raise DataError(
            f"{what} has no label in row {int(np.flatnonzero(missing)[0])} ({int(missing.sum())} "
            "such rows): give each row a group, such as 'unknown', or leave these rows out."
        )


def labels_in(names: list[str], X: TableLike | None) -> np.ndarray:
    """Return the group of each row from columns of its table.

    Raises:
        DataError: where the table lacks a column.
    """
    table: Any = as_table(X) if X is not None else None
    missing = [name for name in names if not is_frame(table) or name not in table.columns]
    if missing:
        raise DataError(
            f"The groups of the sets are in column {missing[0]!r}, which the new rows lack: give a "
            "DataFrame that has it."
        )
    for name in names:
        _refuse_missing(table[name].isna().to_numpy(), f"The column {name!r}")
    return table[names].astype(str).agg(", ".join, axis=1).to_numpy(dtype=str)


def group_numbers(
    labels: ColumnLike | None, known: np.ndarray, rows: int | None, X: TableLike | None
) -> np.ndarray:
    """Return the number of each row's group among the known ones.

    Args:
        labels: the group of each row.
        known: the groups, in ascending order.
        rows: the number of rows; None where it is not known.
        X: the table of the rows, where it was given.

    Raises:
        DataError: for missing labels, or a group that is not known.
    """
    if labels is None:
        raise DataError(
            "The sets were made for groups: give the group of each new row, "
            "post.predict(X, groups=...)."
        )
    found = given_labels(labels, rows, X)
    if (found.dtype.kind == "U") != (known.dtype.kind == "U"):
        raise DataError(
            f"groups are {_kind(found)} such as {found[:1].tolist()}, and those of the calibration "
            f"rows are {_kind(known)}: expected one of {known[:10].tolist()}."
        )
    strange = ~np.isin(found, known)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise DataError(
            f"Row {row} is in the group {found[row]!r}, which the calibration rows did not have: "
            f"expected one of {known[:10].tolist()}."
        )
    return np.searchsorted(known, found)


def _kind(labels: np.ndarray) -> str:
    """Return what labels are, in words."""
    return "text" if labels.dtype.kind == "U" else "numbers"
