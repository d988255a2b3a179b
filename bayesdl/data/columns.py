"""The input columns: names, categories and scaling, learned once and applied to every row after."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from bayesdl.data.validation import (
    DataError,
    finite_array,
    is_frame,
    is_number,
    numbers,
    rectangular,
    refuse_dates,
)
from bayesdl.typing import Series, Values

# 2024-01-31, 31/1/2024, 1.31.24, each with or without a time after it
DAY = r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))"
DATE = DAY + r"(?:[T ]\d{1,2}:\d{2}.*)?"


@dataclasses.dataclass(frozen=True)
class Columns:
    """The input columns.

    Attributes:
        names: the names that a DataFrame gave, otherwise "x0", "x1", ...
        named: whether the names came with the data.
        levels: the categories of each categorical column, None for a column of numbers.
        shape: the shape of one row, for inputs that are not a table (images); None for a table.
        shift: the number subtracted from each encoded column; one number for images.
        scale: the number that each encoded column is divided by; one number for images.
    """

    names: tuple[str, ...]
    named: bool
    levels: tuple[tuple[str, ...] | None, ...]
    shape: tuple[int, ...] | None
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def learn(cls, X: Values, standardize: bool) -> Columns:
        """Learn names, categories and scaling.

        Args:
            X: the training inputs, a table or images.
            standardize: whether columns are standardised with their mean and standard deviation.

        Raises:
            DataError: for data that cannot be used, naming row and column.
        """
        columns = _columns_by_name(X)
        rows = len(next(iter(columns.values()))) if columns else 0
        if not columns or rows == 0:
            raise DataError(
                f"X is empty: got {rows} rows and {len(columns)} columns, expected at least 2 rows "
                "and 1 column."
            )
        if rows == 1:
            raise DataError(
                "X has one row: got 1, expected at least 2 rows (1 sample says nothing about "
                "spread)."
            )
        shape = tuple(np.shape(X)[1:]) if np.ndim(X) > 2 else None
        levels = tuple(_categories(name, column) for name, column in columns.items())
        learned = cls(tuple(columns), is_frame(X), levels, shape, (), ())
        encoded = learned.encode(columns)
        width = 1 if shape else encoded.shape[1]
        if not standardize:
            return dataclasses.replace(learned, shift=(0.0,) * width, scale=(1.0,) * width)
        axis = None if shape else 0
        shift, scale = np.atleast_1d(encoded.mean(axis)), np.atleast_1d(encoded.std(axis))
        constant = np.flatnonzero(scale <= 1e-12 * np.abs(encoded).max(axis))
        if constant.size:
            names = ", ".join(f"'{name}'" for name in np.array(learned.encoded_names)[constant][:5])
            raise DataError(
                f"Column {names} is constant and tells nothing: drop it, or use standardize=False."
            )
        return dataclasses.replace(
            learned, shift=tuple(map(float, shift)), scale=tuple(map(float, scale))
        )

    @property
    def encoded_names(self) -> list[str]:
        """The names of the columns after categories became columns of zeros and ones."""
        names: list[str] = []
        for name, levels in zip(self.names, self.levels, strict=True):
            names += [name] if levels is None else [f"{name}={level}" for level in levels]
        return names

    def read(self, X: Values) -> np.ndarray:
        """Return standardised rows in double precision, in the order of the training columns.

        Raises:
            DataError: for no rows, other columns, unknown categories, or cells that are not finite
                numbers.
        """
        columns = _columns_by_name(X)
        if columns and len(next(iter(columns.values()))) == 0:
            raise DataError("X has no rows: got 0 rows, expected at least 1.")
        if self.named and is_frame(X):
            missing = [name for name in self.names if name not in columns]
            if missing:
                raise DataError(
                    f"X lacks column {', '.join(map(repr, missing[:5]))}: "
                    f"got {list(columns)[:10]}, "
                    f"expected the training columns {list(self.names)[:10]}."
                )
            columns = {name: columns[name] for name in self.names}
        elif len(columns) != len(self.names):
            raise DataError(
                f"X has {len(columns)} features, but this model is expecting {len(self.names)} "
                f"features as input ({', '.join(self.names[:10])})."
            )
        else:
            columns = dict(zip(self.names, columns.values(), strict=True))
        return (self.encode(columns) - np.array(self.shift)) / np.array(self.scale)

    def encode(self, columns: dict[str, Values]) -> np.ndarray:
        """Return numbers as they are, and categories as zeros and ones."""
        if self.shape:
            return finite_array(np.stack(list(columns.values()), axis=1)).reshape(-1, *self.shape)
        parts = []
        for (name, column), levels in zip(columns.items(), self.levels, strict=True):
            parts.append(
                numbers(name, column)[:, None] if levels is None else _one_hot(name, column, levels)
            )
        return np.concatenate(parts, axis=1)


def _columns_by_name(X: Values) -> dict[str, Values]:
    """Return the columns of a DataFrame or array by name.

    Raises:
        DataError: for anything that is not a table of real cells with names of their own.
    """
    if is_frame(X):
        names = X.columns.map(str)
        if names.has_duplicates:
            raise DataError(
                f"X has two columns named {names[names.duplicated()][0]!r} (names are read as "
                "text): rename one."
            )
        return {str(name): X[name] for name in X.columns}
    if hasattr(X, "tocsr"):
        raise DataError(
            "X is a sparse matrix: got scipy.sparse, and a table of dense rows is expected. Use "
            "X.toarray() where it fits in memory, or write the model as a NumPyro program, which "
            "gets sparse rows as a jax BCOO matrix."
        )
    array = rectangular("X", X)
    if np.iscomplexobj(array):
        raise DataError(
            "Complex data not supported: X has complex numbers; give real and imaginary part as "
            "columns."
        )
    if array.ndim < 2:
        raise DataError(
            f"Expected 2D array, got {array.ndim}D array instead: X has shape {array.shape}. "
            "Reshape your data, X.reshape(-1, 1) for one column or X.reshape(1, -1) for one row."
        )
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    return {f"x{j}": flat[:, j] for j in range(flat.shape[1])}


def _categories(name: str, column: Values) -> tuple[str, ...] | None:
    """Return the levels of a text or categorical column of a DataFrame; None for numbers.

    Raises:
        DataError: for missing values, dates, and texts that are no categories.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(column, pandas.Series) or is_number(column):
        return None
    refuse_dates(name, column)
    as_number = pandas.to_numeric(column, errors="coerce")
    if not isinstance(column.dtype, pandas.CategoricalDtype) and as_number.notna().all():
        return None
    missing = np.flatnonzero(column.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"Column '{name}' has no value in row {missing[0]}: fill it in or drop the row."
        )
    levels = tuple(sorted({str(value) for value in column}))
    _refuse_disguised(name, column, as_number)
    if len(levels) > max(20, len(column) // 2):
        raise DataError(
            f"Column '{name}' holds {len(levels)} different texts in {len(column)} rows "
            f"(e.g. {levels[0]!r}), which is not a category: drop it, or turn it into numbers."
        )
    return levels


def _refuse_disguised(name: str, column: Series, as_number: Series) -> None:
    """Refuse text that holds dates, or numbers with a stray text among them.

    Args:
        name: the name of the column.
        column: the column of text.
        as_number: the cells as numbers, NaN where they are none.

    Raises:
        DataError: naming the column.
    """
    if column.astype(str).str.fullmatch(DATE).all():
        raise DataError(
            f"Column '{name}' holds dates (e.g. {str(column.iloc[0])!r}): turn it into numbers "
            "first, e.g. days since a start, or the month."
        )
    # a few numbers among texts may be labels: 0, 1, 2, 3+
    some = min(10, len(column) // 2)
    if as_number.isna().any() and as_number.nunique() > some:
        row = int(np.flatnonzero(as_number.isna())[0])
        raise DataError(
            f"Column '{name}', row {row} is not a number: got {column.iloc[row]!r}, and most of "
            "the column is numbers. Correct it or drop the row."
        )


def _one_hot(name: str, column: Values, levels: tuple[str, ...]) -> np.ndarray:
    """Return zeros and ones, a column per level.

    Raises:
        DataError: for a category that was not in the training data.
    """
    values = np.array([str(value) for value in column], dtype=object)
    coded = np.stack([values == level for level in levels], axis=1)
    unseen = np.flatnonzero(~coded.any(axis=1))
    if unseen.size:
        raise DataError(
            f"Column '{name}', row {unseen[0]} has the unseen category {values[unseen[0]]!r}: "
            f"expected one of {list(levels)[:10]}. Map it to one of these, or fit again with such "
            "rows."
        )
    return coded.astype(np.float64)
