"""Cells of one column as numbers or labels; NaN and None stand for cells that are missing.

What a column holds is found out once, from the training rows (`kind_of`); later rows are read as
that kind, or refused.
"""

from __future__ import annotations

import datetime
import fractions
from typing import Any

import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.typing import Series, Values

NUMBER, CATEGORY, DATE, DURATION = "number", "category", "date", "duration"
DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")  # in microseconds

# 2024-01-31, 31/1/2024, 1.31.24, each with or without a time after it
DATE_LIKE = r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))"
TIME = r"(?:[T ]\d{1,2}:\d{2}.*)?"
YEAR_FIRST = r"\s*\d{4}([-/.])\d{1,2}\1\d{1,2}" + TIME


def kind_of(name: str, column: Series, named: bool) -> str:
    """Return what a column of training cells holds.

    Args:
        name: the name of the column.
        column: the cells, a Series of pandas.
        named: whether the columns have names; without them text is no category.

    Raises:
        DataError: for cells that are neither numbers, texts, dates nor durations, and for texts
            that are no categories.
    """
    from pandas.api.types import infer_dtype, is_bool_dtype, is_numeric_dtype

    _refuse_complex(name, column)
    if column.dtype.kind in "mM":
        return DATE if column.dtype.kind == "M" else DURATION
    if type(column.dtype).__name__ == "PeriodDtype":
        return DATE
    if type(column.dtype).__name__ == "CategoricalDtype":
        return CATEGORY
    if is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype):
        return NUMBER
    inferred = infer_dtype(column.astype(object), skipna=True)
    if inferred in ("date", "datetime", "datetime64", "period"):
        return DATE
    if inferred in ("timedelta", "timedelta64"):
        return DURATION
    _refuse_nested(name, column)
    known, as_number = column.notna().to_numpy(), _to_numbers(column)
    strays = np.flatnonzero(known & as_number.isna().to_numpy())
    if not strays.size:
        return NUMBER
    texts = column[known].astype(str)
    if texts.str.fullmatch(YEAR_FIRST).all():
        return DATE
    if texts.str.fullmatch(DATE_LIKE + TIME).all():
        raise DataError(
            f"Column '{name}' holds dates (e.g. {texts.iloc[0]!r}) whose order of day and month is "
            "not told: write the year first (2024-01-31), read them with pd.to_datetime(..., "
            f"format=...), or leave the column out by drop=[{name!r}]."
        )
    # a few numbers among texts may be labels: 0, 1, 2, 3+
    if not named or as_number.nunique() > min(10, len(column) // 2):
        _refuse_row(name, column, int(strays[0]), named)
    _refuse_free_text(name, texts)
    return CATEGORY


def _refuse_complex(name: str, column: Series) -> None:
    """Refuse complex numbers.

    Raises:
        DataError: naming the column.
    """
    found = column.dtype.kind == "c"
    if column.dtype.kind == "O":
        found = any(isinstance(value, complex | np.complexfloating) for value in column)
    if found:
        raise DataError(
            f"Complex data not supported: column '{name}' has complex numbers; give real and "
            "imaginary part as columns."
        )


def as_numbers(name: str, column: Values) -> np.ndarray:
    """Return cells as doubles, NaN where they are missing.

    Raises:
        DataError: naming the first row that is not a number.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind in "iufb":
        return np.asarray(column, dtype=np.float64)
    import pandas as pd

    column = column if isinstance(column, pd.Series) else pd.Series(column)
    _refuse_complex(name, column)
    if column.dtype.kind in "mM":
        raise DataError(
            f"Column '{name}' holds dates: expected numbers, e.g. days since a start, as in "
            "training."
        )
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan)
    as_number = _to_numbers(column).to_numpy(dtype=float, na_value=np.nan)
    strays = np.flatnonzero(column.notna().to_numpy() & np.isnan(as_number))
    if strays.size:
        _refuse_row(name, column, int(strays[0]), False)
    return as_number


def finite_numbers(name: str, column: Values) -> np.ndarray:
    """Return cells as doubles, none of them missing.

    Raises:
        DataError: for dates, or naming the first row that is not a finite number.
    """
    refuse_dates(name, column)
    values = as_numbers(name, column)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        spelled = "NaN" if np.isnan(values[bad[0]]) else "infinity"
        raise DataError(
            f"Column '{name}', row {bad[0]} is {spelled} ({bad.size} such cells in the column): "
            "NaN and infinity cannot be used, fill them in or drop the rows."
        )
    return values


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


def as_days(name: str, column: Series) -> tuple[np.ndarray, bool]:
    """Return dates as days since 1970, NaN where they are missing, and whether they have a zone.

    Dates with a time zone are read in Coordinated Universal Time.

    Raises:
        DataError: naming the first row that is no date.
    """

    if type(column.dtype).__name__ == "PeriodDtype":
        column = column.dt.to_timestamp()
    if column.dtype.kind != "M":
        column = _parsed_dates(name, column)
    zoned = column.dt.tz is not None
    if zoned:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return _in_days(column.astype("datetime64[us]").to_numpy()), zoned


def as_durations(name: str, column: Series) -> np.ndarray:
    """Return durations in days, NaN where they are missing.

    Raises:
        DataError: where the column holds something else.
    """
    import pandas as pd

    if column.dtype.kind != "m":
        try:
            column = pd.to_timedelta(column)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"Column '{name}' held durations in training, and now {column.iloc[0]!r}: {error}."
            ) from None
    return _in_days(column.astype("timedelta64[us]").to_numpy())


def as_labels(column: Series) -> np.ndarray:
    """Return the texts of categories, None where they are missing."""
    known = column.notna().to_numpy()
    values = column.astype(object).tolist()
    labels = np.empty(len(values), dtype=object)
    labels[:] = [
        _text(value) if there else None for value, there in zip(values, known, strict=True)
    ]
    return labels


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _in_days(stamps: np.ndarray) -> np.ndarray:
    """Return microseconds as days, NaN where there is no time."""
    days = stamps.astype(np.int64).astype(np.float64) / DAY
    return np.where(np.isnat(stamps), np.nan, days)


def _to_numbers(column: Series) -> Series:
    """Return cells as numbers, NaN where they are none."""
    import pandas as pd

    texts = column.map(_text_of_bytes)
    if texts.map(lambda value: isinstance(value, fractions.Fraction)).any():
        # pandas knows no fractions
        return texts.map(_number_or_nan).astype(float)
    try:
        return pd.to_numeric(texts, errors="coerce")
    except (TypeError, ValueError, OverflowError):
        return texts.map(_number_or_nan).astype(float)


def _text_of_bytes(value: object) -> Any:
    return _text(value) if isinstance(value, bytes) else value


def _number_or_nan(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _parsed_dates(name: str, column: Series) -> Series:
    """Return dates from texts with the year first, or from Python's dates.

    Raises:
        DataError: naming the first row that is no date.
    """
    import pandas as pd

    def one(value: object) -> Any:
        return value.replace("/", "-").replace(".", "-", 2) if isinstance(value, str) else value

    known = column.notna()
    cells = column.astype(object).where(known, None).map(one, na_action="ignore")
    zones = {_has_zone(value) for value in cells[known]}
    if len(zones) > 1:
        raise DataError(
            f"Column '{name}' has dates with and without a time zone: give all of them one, or "
            "none."
        )
    padded = cells.map(_padded, na_action="ignore")
    parsed = pd.to_datetime(padded, errors="coerce", format="ISO8601", utc=True in zones)
    bad = np.flatnonzero((known & parsed.isna()).to_numpy())
    if bad.size:
        raise DataError(
            f"Column '{name}', row {bad[0]} is not a date: got {column.iloc[bad[0]]!r}, and the "
            "column holds dates. Correct it or drop the row."
        )
    return parsed


def _padded(value: object) -> Any:
    """Return 2024-1-5 as 2024-01-05; other cells as they are."""
    if not isinstance(value, str):
        return value
    day, *time = value.strip().replace("T", " ").split(" ", 1)
    parts = day.split("-")
    day = "-".join([parts[0], *(part.zfill(2) for part in parts[1:])])
    return "T".join([day, *time])


def _has_zone(value: object) -> bool:
    if isinstance(value, str):
        time = value.partition(":")[2]
        return "+" in time or "-" in time or time.endswith("Z")
    return isinstance(value, datetime.datetime) and value.tzinfo is not None


def _refuse_nested(name: str, column: Series) -> None:
    """Refuse cells that hold lists, arrays or dictionaries.

    Raises:
        DataError: naming the first row.
    """
    for row, value in enumerate(column.astype(object).tolist()):
        if isinstance(value, list | tuple | dict | set | np.ndarray) or callable(value):
            raise DataError(
                f"Column '{name}', row {row} holds a {type(value).__name__}: expected one number "
                "or text in a cell. Make columns of its entries, or leave it out by "
                f"drop=[{name!r}]."
            )


def _refuse_row(name: str, column: Series, row: int, named: bool) -> None:
    """Refuse a cell that is not a number.

    Raises:
        DataError: naming the row.
    """
    cure = (
        ", and most of the column is numbers. Correct it or drop the row."
        if named
        else ". Give numbers, or a DataFrame whose text columns are categories."
    )
    raise DataError(
        f"Column '{name}', row {row} is not a number: got {column.iloc[row]!r:.60}{cure}"
    )


def _refuse_free_text(name: str, texts: Series) -> None:
    """Refuse texts that name or describe single rows.

    Raises:
        DataError: naming the column, and how to leave it out.
    """
    levels = sorted(set(texts))
    each_its_own = len(levels) == len(texts) > 10
    if len(levels) > max(20, len(texts) // 2) or each_its_own:
        raise DataError(
            f"Column '{name}' holds {len(levels)} different texts in {len(texts)} rows "
            f"(e.g. {levels[0]!r:.60}), which is not a category: leave it out by drop=[{name!r}], "
            "or turn it into numbers."
        )
