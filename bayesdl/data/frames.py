"""Tables and targets of any library, as pandas DataFrames or NumPy arrays.

Named columns come from pandas, polars, pyarrow, xarray and whatever speaks Arrow's C stream or the
dataframe interchange protocol; from dictionaries of columns, lists of dictionaries, and structured
arrays. Everything else is an array.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesdl.data.validation import DataError, is_frame, is_series, rectangular, unmasked
from bayesdl.typing import ColumnLike, Frame, TableLike, Values
from inference.process.quiet import quiet


def as_table(X: TableLike) -> Any:
    """Return X as a DataFrame where its columns have names, otherwise as an array.

    A matrix of `scipy.sparse` is returned as it is; what reads its columns refuses it.

    Raises:
        DataError: for what is no table.
    """
    X = from_other_libraries("X", X)
    if is_frame(X) or hasattr(X, "tocsr"):
        return X
    if isinstance(X, Mapping):
        return _from_columns(X)
    if isinstance(X, list | tuple) and X and all(isinstance(row, Mapping) for row in X):
        import pandas as pd

        return pd.DataFrame(list(X))
    array = rectangular("X", X)
    if array.dtype.names:
        fields: Any = X if isinstance(X, np.ndarray) else array
        return _from_columns({name: fields[name] for name in array.dtype.names})
    return array


def as_target(y: ColumnLike, name: str = "y") -> Any:
    """Return y as a Series or DataFrame where it was one, otherwise as an array.

    Raises:
        DataError: for what is no column.
    """
    y = from_other_libraries(name, y)
    if isinstance(y, Mapping):
        y = _from_columns(y)
    if is_frame(y) or is_series(y):
        return y
    if isinstance(y, list | tuple) and any(isinstance(value, str) for value in y):
        # NumPy would make texts of the numbers beside a text
        plain = np.empty(len(y), dtype=object)
        plain[:] = y
        return plain
    array = rectangular(name, y)
    if array.dtype.names:
        return _from_columns({field: array[field] for field in array.dtype.names})
    return array


def same_index(one: Any, other: Any, names: tuple[str, str]) -> None:
    """Refuse tables of pandas whose rows have different labels, or the same in another order.

    Args:
        one: a table or column.
        other: another one of as many rows.
        names: their names in messages.

    Raises:
        DataError: with the first row that differs.
    """
    if not all(is_frame(part) or is_series(part) for part in (one, other)):
        return
    if one.index.equals(other.index):
        return
    left, right = list(one.index), list(other.index)
    row = next(row for row, (a, b) in enumerate(zip(left, right, strict=True)) if a is not b != a)
    first, second = names
    reordered = one.index.is_unique and set(left) == set(right)
    how = "in another order" if reordered else "of their own"
    cure = f"{second}.loc[{first}.index]" if reordered else f"{second}.to_numpy()"
    raise DataError(
        f"{first} and {second} have rows with labels {how}: row {row} is {left[row]!r} in the "
        f"index of {first} and {right[row]!r} in that of {second}. Give {cure}"
        + ("." if reordered else f" if row k of {first} belongs to row k of {second}.")
    )


def same_order(parts: Mapping[str, Any]) -> None:
    """Refuse tables and columns of pandas whose rows have the same labels in another order.

    Args:
        parts: what may be such tables, by name; those of other labels may be of something else.

    Raises:
        DataError: with the first row that differs.
    """
    tables = {name: part for name, part in parts.items() if is_frame(part) or is_series(part)}
    for (first, one), (second, other) in itertools.combinations(tables.items(), 2):
        if len(one) != len(other) or not (one.index.is_unique and other.index.is_unique):
            continue
        if not one.index.equals(other.index) and one.index.isin(other.index).all():
            same_index(one, other, (first, second))


def from_other_libraries(name: str, values: Values) -> Any:
    """Return tables and columns of other libraries as those of pandas; the rest as it is.

    Raises:
        DataError: where they cannot be converted.
    """
    plain = (np.ndarray, list, tuple, dict, str, bytes, int, float, type(None))
    if isinstance(values, plain) or is_frame(values) or is_series(values):
        return values
    try:
        if _is_xarray(values):
            return _from_xarray(values)
        if hasattr(values, "to_pandas"):
            return values.to_pandas()
        if hasattr(values, "__arrow_c_stream__"):
            import pyarrow as pa  # pyright: ignore

            return pa.table(values).to_pandas()
        if hasattr(values, "__dataframe__"):
            return _by_interchange(values)
    except ImportError as error:
        raise DataError(
            f"{name} is a table of {type(values).__module__.partition('.')[0]}, which is read "
            f'through pyarrow ({error}): pip install "bayesdl[parquet]", or give a DataFrame of '
            "pandas."
        ) from None
    # another library may fail in any way
    except Exception as error:
        raise DataError(
            f"{name} cannot be read as a table: got {type(values).__name__} ({error}). Give a "
            "pandas DataFrame."
        ) from None
    return values


def _by_interchange(values: Values) -> Frame:
    """Return a DataFrame by the dataframe interchange protocol."""
    import pandas as pd

    # pandas deprecates the protocol, which other libraries still speak
    with quiet():
        return pd.api.interchange.from_dataframe(values)


def _is_xarray(values: Values) -> bool:
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(values, xarray.Dataset | xarray.DataArray)


def _from_xarray(values: Any) -> Any:
    """Return a Dataset of columns, or an array whose columns have coordinates, as a DataFrame."""
    if hasattr(values, "data_vars"):
        return values.to_dataframe()
    named = values.ndim == 2 and values.dims[1] in values.coords
    return values.to_pandas() if named else values.values


def _from_columns(columns: Mapping[Any, Any]) -> Frame:
    """Return a DataFrame of columns by name.

    Raises:
        DataError: for columns of different lengths.
    """
    import pandas as pd

    read = {name: _column(name, values) for name, values in columns.items()}
    rows = {name: len(values) for name, values in read.items()}
    if len(set(rows.values())) > 1:
        raise DataError(
            f"X is ragged: got {dict(list(rows.items())[:10])} entries in its columns, expected as "
            "many in every one."
        )
    series = {name: values for name, values in read.items() if is_series(values)}
    for name, values in series.items():
        first = next(iter(series))
        same_index(series[first], values, (f"Column '{first}'", f"column '{name}'"))
        read[name] = values.reset_index(drop=True)
    index = next(iter(series.values())).index if series else None
    table = pd.DataFrame(read)
    return table if index is None else table.set_axis(index)


def _column(name: object, values: Values) -> Any:
    """Return one column of a dictionary.

    Raises:
        DataError: for a column that has no rows.
    """
    values = from_other_libraries(f"Column '{name}'", values)
    if is_series(values):
        return values
    if isinstance(values, np.ma.MaskedArray):
        values = unmasked(values)
    if isinstance(values, list | tuple | range):
        return list(values)
    array = rectangular(f"Column '{name}'", values)
    if array.ndim != 1:
        raise DataError(
            f"Column '{name}' has shape {array.shape}: expected one cell a row, a list or an array "
            "of one dimension."
        )
    return array


def index_labels(data: tuple) -> tuple:
    """Return the labels of the rows of new data, where these are a table with an index."""
    index = getattr(data[0], "index", None) if data else None
    # lists and tuples have a method of this name
    return () if index is None or callable(index) else tuple(index)
