"""Errors for data and models that cannot be used, and arrays of cells from whatever holds them.

All arithmetic on data is NumPy's in double precision, before anything is rounded to the precision
of the engine. What is wrong with a column (missing, unknown, a date, a new category) is said in
`bayesdl.data.columns`.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from bayesdl.typing import Values
from inference.arguments import is_frame as is_frame
from inference.sparse_matrices import fault_of

Result = TypeVar("Result")

SHOWN = 10  # problems, rows and names in one message
LARGEST = 1e150  # squares of larger numbers overflow double precision
FARTHEST = 1e18  # squares of larger standardised numbers overflow single precision


class DataError(ValueError):
    """Data that cannot be used as they are; the message says what to do.

    Args:
        *problems: what is wrong, a sentence or two each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{n}. {problem}" for n, problem in enumerate(self.problems[:SHOWN], 1)]
        more = len(self.problems) - len(lines)
        return "\n".join(
            [
                f"The data have {len(self.problems)} problems:",
                *lines,
                *([f"... and {more} more."] if more else []),
            ]
        )


class ModelError(ValueError):
    """A model that cannot be used as asked; the message says what to do."""


class Problems:
    """The problems of a table, gathered so that one error can list them all."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def gather(self, read: Callable[[], Result]) -> Result | None:
        """Return what `read` returns, or None where it refuses the data."""
        try:
            return read()
        except DataError as error:
            self.found += error.problems
            return None

    def refuse(self) -> None:
        """Refuse the data if there are problems.

        Raises:
            DataError: listing them all.
        """
        if self.found:
            raise DataError(*dict.fromkeys(self.found))


def rectangular(name: str, values: Values) -> np.ndarray:
    """Return values as an array; masked cells become NaN, or None among labels.

    Args:
        name: the name of the values in messages.
        values: an array, a table, or nested lists.

    Raises:
        DataError: for nested lists of different lengths, or what no array can hold.
    """
    try:
        array = np.asanyarray(values)
        return unmasked(array) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)
    except ValueError:
        raise DataError(
            f"{name} is ragged: got rows of different lengths, expected as many entries in every "
            "row."
        ) from None
    # tensors on other devices or with gradients, and objects that pretend to be arrays
    except (TypeError, RuntimeError, AttributeError, BufferError) as error:
        raise DataError(
            f"{name} cannot be read as an array: got {type(values).__name__} ({error}). "
            "Give a NumPy array or a DataFrame."
        ) from None


def check_call(verb: str, owner: str, method: Callable, *args: object, **named: object) -> None:
    """Refuse arguments that a method of a model does not take, in the words of the verb.

    Args:
        verb: what the user called, such as "predict".
        owner: the name of the model.
        method: the method that takes the arguments, the schema or the problem first.
        *args: these arguments.
        **named: those given by name.

    Raises:
        TypeError: naming the arguments that it takes.
    """
    signature = inspect.signature(method)
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        names = [str(parameter).partition(":")[0] for parameter in signature.parameters.values()]
        names = [name for name in names if name not in ("schema", "problem")]
        shown = ", ".join(names)
        raise TypeError(f"{verb}: {error}; {owner} takes {verb}({shown}).") from None


def unmasked(array: np.ma.MaskedArray) -> np.ndarray:
    """Return a masked array with NaN, or None among labels, where it is masked."""
    if array.dtype.names:
        plain = np.ma.getdata(array).astype([(name, object) for name in array.dtype.names])
        for name in array.dtype.names:
            plain[name] = unmasked(array[name])
        return plain
    if not np.ma.getmaskarray(array).any():
        return np.ma.getdata(array)
    if array.dtype.kind == "f":
        return np.where(np.ma.getmaskarray(array), np.nan, np.ma.getdata(array))
    if array.dtype.kind == "M":
        return np.where(np.ma.getmaskarray(array), np.datetime64("NaT"), np.ma.getdata(array))
    if array.dtype.kind in "iub":
        return np.ma.filled(array.astype(np.float64), np.nan)
    missing: Any = None
    return np.where(np.ma.getmaskarray(array), missing, np.ma.getdata(array).astype(object))


def check_sparse(matrix: Any, name: str = "The matrix") -> None:
    """Refuse a matrix of `scipy.sparse` whose parts do not fit together.

    Raises:
        DataError: saying what is wrong.
    """
    fault = fault_of(matrix)
    if fault:
        raise DataError(f"{name} is damaged ({fault}). Build it again.")


def is_number(column: Values) -> bool:
    """Return whether a column has a dtype of numbers or truth values."""
    dtype = getattr(column, "dtype", np.dtype(object))
    if isinstance(dtype, np.dtype):
        return dtype.kind in "iufb"
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(dtype) or is_bool_dtype(dtype)


def is_series(y: Values) -> bool:
    """Return whether y is a pandas Series."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(y, pandas.Series)


def check_magnitudes(what: str, values: np.ndarray) -> None:
    """Refuse infinite numbers, and those whose squares are beyond double precision.

    Args:
        what: what the numbers are, such as "Column 'age'".
        values: the numbers, NaN where they are missing.

    Raises:
        DataError: naming the first row.
    """
    for bad, name, cure in (
        (np.isinf(values), "infinity", "fill it in or drop the row"),
        (np.abs(values) > LARGEST, "", "its square overflows: give it in a larger unit"),
    ):
        rows = np.flatnonzero(bad)
        if rows.size:
            raise DataError(
                f"{what}, row {rows[0]} is {name or f'{values[rows[0]]:g}'} ({rows.size} such "
                f"cells in the column): {cure}."
            )


def check_distances(names: Sequence[str], standardised: np.ndarray, summed: bool = False) -> None:
    """Refuse standardised numbers whose squares overflow in single precision.

    Args:
        names: what each column is, such as "Column 'age'".
        standardised: the numbers, shape (rows, columns).
        summed: whether the squares of all rows are summed, as those of targets are.

    Raises:
        DataError: naming the first row and column.
    """
    farthest = FARTHEST / max(1.0, np.sqrt(len(standardised)) if summed else 1.0)
    bad = np.argwhere(np.abs(standardised) > farthest)
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{names[column]}, row {row} is {abs(standardised[row, column]):.1g} away from what "
            "training knew, in units of its standard deviation, and its square overflows: check "
            "the number and its unit."
        )


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


def some_rows(bad: np.ndarray) -> str:
    """Return the first of some row numbers in words, such as "row 3" or "rows 3, 5, 9, ..."."""
    shown = ", ".join(map(str, bad[:SHOWN].tolist())) + (", ..." if len(bad) > SHOWN else "")
    return f"row {shown}" if len(bad) == 1 else f"rows {shown}"


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """Return a question that has the nearest of some names; empty where none is near.

    Example:
        >>> did_you_mean("Days", ["days", "subject"])
        "did you mean 'days'? "
    """
    by_lower = {str(one).lower(): str(one) for one in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower, 1, 0.5)
    return f"did you mean {by_lower[near[0]]!r}? " if near else ""
