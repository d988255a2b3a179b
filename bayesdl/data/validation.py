"""Cells of data as finite numbers, and the errors for data and models that cannot be used.

All arithmetic on data is NumPy's in double precision, before anything is rounded to the precision
of the engine. What is wrong with a column (missing, unknown, a date, a new category) is said in
`bayesdl.data.columns`.
"""

from __future__ import annotations

import sys

import numpy as np

from bayesdl.typing import Values


class DataError(ValueError):
    """Data that cannot be used as they are; the message says what to do."""


class ModelError(ValueError):
    """A model that cannot be used as asked; the message says what to do."""


def rectangular(name: str, values: Values) -> np.ndarray:
    """Return values as an array.

    Args:
        name: the name of the values in messages.
        values: an array, a table, or nested lists.

    Raises:
        DataError: for nested lists of different lengths.
    """
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(
            f"{name} is ragged: got rows of different lengths, expected as many entries in every "
            "row."
        ) from None


def is_frame(X: Values) -> bool:
    """Return whether X is a pandas DataFrame; pandas is not imported to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


def is_number(column: Values) -> bool:
    """Return whether a column has a dtype of numbers."""
    if _is_extension(column):
        return _numeric_extension(column)
    return np.dtype(getattr(column, "dtype", object)).kind in "iufb"


def _is_extension(column: Values) -> bool:
    """Return whether a column has a dtype of pandas' own.

    Such are categories, strings, nullable numbers and zoned dates.
    """
    return not isinstance(getattr(column, "dtype", None), np.dtype)


def _numeric_extension(column: Values) -> bool:
    """Return whether a column with a dtype of pandas' own holds numbers or truth values."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype)


def refuse_dates(name: str, column: Values) -> None:
    """Refuse dates and durations, which NumPy would turn into numbers of nanoseconds.

    Raises:
        DataError: naming the column.
    """
    if getattr(getattr(column, "dtype", None), "kind", None) in ("m", "M"):
        raise DataError(
            f"Column '{name}' holds dates: turn it into numbers first, e.g. days since a start, or "
            "the month."
        )


def numbers(name: str, column: Values) -> np.ndarray:
    """Return a column as finite doubles.

    Raises:
        DataError: for dates, or naming the first row that is not a finite number.
    """
    refuse_dates(name, column)
    try:
        plain_column = (
            column.to_numpy(dtype=float, na_value=np.nan) if _is_extension(column) else column
        )
        values = np.asarray(plain_column, dtype=np.float64)
    except (TypeError, ValueError):
        for row, value in enumerate(column.tolist() if isinstance(column, np.ndarray) else column):
            try:
                float(value)
            except (TypeError, ValueError):
                raise DataError(
                    f"Column '{name}', row {row} is not a number: got {value!r}. Give numbers, or "
                    "a DataFrame whose text columns are categories."
                ) from None
        raise
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"Column '{name}', row {bad[0]} is {_spell(values[bad[0]])} ({bad.size} such cells in "
            "the column): NaN and infinity cannot be used, fill them in or drop the rows."
        )
    return values


def _spell(value: Values) -> str:
    """Return the name of a number that is not finite."""
    return "NaN" if np.isnan(value) else "infinity"


def finite_array(values: np.ndarray) -> np.ndarray:
    """Return values as doubles.

    Raises:
        DataError: naming the first index that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"X is NaN or infinite at index {tuple(map(int, bad[0]))}: fill it in or drop the row."
        )
    return values
