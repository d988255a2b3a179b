"""Cells that a circuit gives, as cells of the user's table: dates, truth values and types stay."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.data.cells import DATE, DAY, DURATION
from bayesdl.data.encoding import Encoding
from bayesdl.typing import Series, Values


def holds_truth(column: Values) -> bool:
    """Return whether the known cells of a column are truth values."""
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if kind != "O" or not hasattr(column, "dropna"):
        return kind == "b"
    known = column.dropna()
    return bool(len(known)) and all(isinstance(cell, bool | np.bool_) for cell in known)


def from_numbers(encoding: Encoding, values: np.ndarray) -> np.ndarray:
    """Return numbers as they are, days of dates and durations as these.

    Args:
        encoding: how the column is read.
        values: numbers as the column is read.
    """
    if encoding.kind not in (DATE, DURATION):
        return values
    micros = np.round((values + encoding.origin) * DAY).astype("int64")
    return micros.astype("datetime64[us]" if encoding.kind == DATE else "timedelta64[us]")


def fill_series(column: Series, found: np.ndarray) -> Series:
    """Return a column whose missing cells are filled, of the same type where that can be.

    Args:
        column: the column.
        found: what its cells are where they are missing.
    """
    import pandas as pd

    at = np.flatnonzero(column.isna().to_numpy())
    if not at.size:
        return column
    cells: Any = pd.Series(found[at])
    if cells.dtype.kind == "M":
        cells = _as_dates(column, cells)
    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        # labels are texts of what the cells were
        known = column.dtype.categories if column.dtype != object else column.dropna().unique()
        were = {str(value): value for value in known}
        cells = cells.map(lambda cell: were.get(str(cell), cell))
    try:
        cells = cells.astype(column.dtype)
    except (TypeError, ValueError):
        # whole numbers whose mean is not whole
        column = column.astype(cells.dtype)
    filled = column.copy()
    filled.iloc[at] = cells.to_numpy() if column.dtype == object else cells.array
    return filled


def _as_dates(column: Series, cells: Series) -> Any:
    """Return times as the dates of a column are written; whole days where all known ones are."""
    import pandas as pd

    known = column.dropna()
    dtype: Any = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        return cells.dt.to_period(dtype.freq)
    if dtype.kind == "M":
        if getattr(dtype, "tz", None) is not None:
            cells = cells.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)
        return cells.dt.round("D") if (known == known.dt.normalize()).all() else cells
    if known.map(lambda cell: isinstance(cell, str)).all():
        form = "%Y-%m-%d" if known.str.len().max() <= len("2024-01-31") else "%Y-%m-%d %H:%M:%S"
        return cells.dt.strftime(form)
    return cells.dt.date if known.map(lambda cell: type(cell).__name__ == "date").all() else cells
