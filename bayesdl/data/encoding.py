"""One column of cells as columns of numbers: what stands for missing cells, dates and categories.

    number    x, or its training median where it is missing          [+ "x is missing": 0 or 1]
    category  a column of zeros and ones per level, all 0 if missing [+ "x is missing": 0 or 1]
    date      days since the first training date                     [+ sine and cosine of periods]
    duration  days

The column that says what is missing is there if a training row lacked the cell, and
missing="indicator". Where no training row lacked it, a later cell that is missing is read as the
training median or the most frequent category, and a warning names the column.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from bayesdl.data import cells
from bayesdl.data.reading import PERIODS, Reading
from bayesdl.data.validation import DataError, check_magnitudes, some_rows
from bayesdl.typing import Series, Values

GAP = "fill it in, drop the row, or fit with missing='indicator'"
NEW_GAP = "the fit refuses missing cells. Fill it in, or fit with missing='indicator'"


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How one column of cells becomes columns of numbers.

    Attributes:
        kind: "number", "category", "date" or "duration".
        levels: the categories; None for a column of numbers.
        fill: the number that stands for missing cells, the training median; None where they are
            refused.
        most_common: the category that stands for missing cells, the most frequent one; None where
            they are refused, or have a column of their own.
        gaps: the number of training rows that lacked the cell.
        flagged: whether a column says which cells are missing.
        asked: whether the user asked that missing cells be filled in, without a word.
        origin: the first training date, in days since 1970.
        zoned: whether dates have a time zone; their days are then those of UTC.
        periods: the periods of dates that have a sine and a cosine.
        other: whether unseen categories are read as none of the known ones.
    """

    kind: str
    levels: tuple[str, ...] | None = None
    fill: float | None = None
    most_common: str | None = None
    gaps: int = 0
    flagged: bool = False
    asked: bool = False
    origin: float = 0.0
    zoned: bool = False
    periods: tuple[str, ...] = ()
    other: bool = False

    @classmethod
    def learn(cls, name: str, column: Values, reading: Reading, named: bool) -> Encoding:
        """Learn how to read a column from its training cells.

        Args:
            name: the name of the column.
            column: the cells: a Series, or an array of numbers.
            reading: how tables are read.
            named: whether the columns have names; without them text is no category.

        Raises:
            DataError: for cells that cannot be used, naming the row.
        """
        plain = isinstance(column, np.ndarray)
        kind = cells.NUMBER if plain else cells.kind_of(name, column, named)
        if kind == cells.CATEGORY:
            labels = cells.as_labels(column)
            known = [label for label in labels if label is not None]
            learned = cls(kind, tuple(sorted(set(known))), other=reading.unseen == "other")
            missing = np.array([label is None for label in labels])
            filled: dict[str, Any] = {"most_common": _most_frequent(known)}
            if reading.missing == "indicator" and missing.any():
                filled = {}
        else:
            learned, values = cls._of_values(kind, name, column, reading)
            check_magnitudes(f"Column '{name}'", values)
            missing = np.isnan(values)
            filled = {"fill": float(np.median(values[~missing])) if not missing.all() else 0.0}
        if reading.missing == "error":
            _refuse_missing(name, missing, GAP)
            filled = {}
        flagged = reading.missing == "indicator" and bool(missing.any())
        return dataclasses.replace(
            learned,
            gaps=int(missing.sum()),
            flagged=flagged,
            asked=reading.missing == "median",
            **filled,
        )

    @classmethod
    def _of_values(
        cls, kind: str, name: str, column: Values, reading: Reading
    ) -> tuple[Encoding, np.ndarray]:
        """Return the encoding of a column that is no category, and its numbers."""
        if kind == cells.NUMBER:
            return cls(kind), cells.as_numbers(name, column)
        if kind == cells.DURATION:
            return cls(kind), cells.as_durations(name, column)
        days, zoned = cells.as_days(name, column)
        origin = float(np.nanmin(days)) if not np.isnan(days).all() else 0.0
        return cls(kind, origin=origin, zoned=zoned, periods=reading.periods), days - origin

    def names(self, name: str) -> list[str]:
        """Return the names of the columns of numbers."""
        names = [name] if self.levels is None else [f"{name}={level}" for level in self.levels]
        for period in self.periods:
            names += [f"{name} {wave} of {period}" for wave in ("sine", "cosine")]
        return names + ([f"{name} is missing"] if self.flagged else [])

    def encode(self, name: str, column: Values) -> np.ndarray:
        """Return columns of numbers, shape (rows, columns).

        Raises:
            DataError: for cells of another kind, unseen categories, or missing cells where the
                fit refuses them.
        """
        if self.levels is not None:
            return self._encode_labels(name, column)
        values = self._values(name, column)
        missing = np.isnan(values)
        check_magnitudes(f"Column '{name}'", values)
        if missing.any():
            if self.fill is None:
                _refuse_missing(name, missing, NEW_GAP)
            fill: Any = self.fill
            values = np.where(missing, fill, values)
        parts = [values[:, None]]
        for period in self.periods:
            phase = 2 * np.pi * (values + self.origin) / PERIODS[period]
            parts.append(np.stack([np.sin(phase), np.cos(phase)], axis=1))
        return np.concatenate([*parts, *self._flag(missing)], axis=1)

    def codes(self, name: str, column: Values) -> np.ndarray:
        """Return numbers, or the index of each category; NaN where cells are missing.

        Unseen categories, where they are allowed, are missing too.

        Raises:
            DataError: for cells of another kind, or unseen categories.
        """
        if self.levels is None:
            values = self._values(name, column)
            check_magnitudes(f"Column '{name}'", values)
            return values
        series = _as_series(column)
        missing = np.array([label is None for label in cells.as_labels(series)], dtype=bool)
        coded = self._encode_labels(name, series)[:, : len(self.levels)]
        known = coded.any(axis=1) & ~missing
        return np.where(known, coded.argmax(axis=1), np.nan)

    def _values(self, name: str, column: Values) -> np.ndarray:
        """Return the cells of a column that is no category as numbers."""
        # a column without any cell has whatever type its library gives it
        if not isinstance(column, np.ndarray) and _as_series(column).isna().all():
            return np.full(len(column), np.nan)
        if self.kind == cells.NUMBER:
            return cells.as_numbers(name, column)
        column = _as_series(column)
        if self.kind == cells.DURATION:
            return cells.as_durations(name, column)
        days, zoned = cells.as_days(name, column)
        if zoned != self.zoned and not np.isnan(days).all():
            had = ("had a time zone, and these have none", "had no time zone, and these have one")
            raise DataError(f"Column '{name}': the training dates {had[not self.zoned]}.")
        return days - self.origin

    def _encode_labels(self, name: str, column: Values) -> np.ndarray:
        """Return zeros and ones, a column per level."""
        assert self.levels is not None
        column = _as_series(column)
        values = cells.as_labels(column)
        missing = np.array([value is None for value in values], dtype=bool)
        if missing.any() and not self.flagged:
            if self.most_common is None:
                _refuse_missing(name, missing, NEW_GAP)
            values[missing] = self.most_common
        coded = np.stack([values == level for level in self.levels], axis=1)
        for row in np.flatnonzero(~coded.any(axis=1) & ~(missing & self.flagged)):
            spelled = _other_spelling(values[row])
            if spelled in self.levels:
                coded[row, self.levels.index(spelled)] = True
            elif not self.other:
                raise DataError(
                    f"Column '{name}', row {row} has the unseen category {values[row]!r}: "
                    f"expected one of {list(self.levels)[:10]}. Map it to one of these, fit again "
                    "with such rows, or with unseen='other'."
                )
        return np.concatenate([coded.astype(np.float64), *self._flag(missing)], axis=1)

    def surprise(self, name: str, column: Values) -> str | None:
        """Say how missing cells are read where no training row lacked one; None without any."""
        if self.gaps or self.asked or (self.fill is None and self.most_common is None):
            return None
        if isinstance(column, np.ndarray) and column.dtype.kind in "iufb":
            missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(1, dtype=bool)
        else:
            missing = _as_series(column).isna().to_numpy()
        return f"'{name}' ({self._stand_in})" if missing.any() else None

    def _flag(self, missing: np.ndarray) -> list[np.ndarray]:
        """Return the column that says where cells were missing, if there is one."""
        return [missing[:, None].astype(np.float64)] if self.flagged else []

    def note(self, name: str) -> str | None:
        """Say in a sentence how the column is read, where that is not plain."""
        said = []
        if self.kind in (cells.DATE, cells.DURATION):
            start = np.datetime64(0, "us") + np.timedelta64(round(self.origin * cells.DAY), "us")
            since = f" since {start.astype('datetime64[s]')}" if self.kind == cells.DATE else ""
            said.append(f"is read as days{since}{' (UTC)' if self.zoned else ''}")
        if self.gaps:
            cells_ = "1 cell" if self.gaps == 1 else f"{self.gaps} cells"
            beside = f", with a column '{name} is missing' beside it" if self.flagged else ""
            said.append(f"lacks {cells_}, read as {self._stand_in}{beside}")
        return f"column '{name}' {' and '.join(said)}" if said else None

    @property
    def _stand_in(self) -> str:
        """What stands for a missing cell, in words."""
        if self.levels is not None:
            common = self.most_common
            return "none of its categories" if common is None else f"the most frequent, {common!r}"
        unit = {cells.DATE: " days after the first date", cells.DURATION: " days"}
        return f"the median, {self.fill:g}{unit.get(self.kind, '')}"


def _most_frequent(labels: list[str]) -> str:
    """Return the most frequent label, the first in order among equals; "" where there is none."""
    return max(sorted(set(labels)), key=Counter(labels).__getitem__, default="")


def _other_spelling(label: object) -> str:
    """Return a whole number among labels in its other spelling: 1 for 1.0, and 1.0 for 1."""
    text = str(label)
    return text.removesuffix(".0") if text.endswith(".0") else f"{text}.0"


def _as_series(column: Values) -> Series:
    import pandas as pd

    return column if isinstance(column, pd.Series) else pd.Series(column)


def _refuse_missing(name: str, missing: np.ndarray, cure: str) -> None:
    """Refuse missing cells.

    Raises:
        DataError: naming the rows.
    """
    rows = np.flatnonzero(missing)
    if rows.size:
        more = f" ({rows.size} such cells: {some_rows(rows)})" if rows.size > 1 else ""
        raise DataError(f"Column '{name}', row {rows[0]} is NaN or missing{more}: {cure}.")
