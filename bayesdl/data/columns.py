"""The input columns: names, categories and scaling, learned once and applied to every row after."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from bayesdl.data.cells import CATEGORY, NUMBER
from bayesdl.data.encoding import Encoding
from bayesdl.data.frames import as_table
from bayesdl.data.reading import Reading
from bayesdl.data.validation import (
    DataError,
    Problems,
    check_distances,
    finite_array,
    is_frame,
)
from bayesdl.typing import Values
from bayesdl.warnings import DataWarning

SPREAD = 4 * np.finfo(np.float64).eps  # a smaller spread, relative to the numbers, is rounding


@dataclasses.dataclass(frozen=True)
class Columns:
    """The input columns.

    Attributes:
        names: the columns that are read, by the names of a DataFrame, otherwise "x0", "x1", ...
        named: whether the names came with the data.
        encodings: how each of them becomes columns of numbers.
        shape: the shape of one row, for inputs that are not a table (images); None for a table.
        shift: the number subtracted from each encoded column; one number for images.
        scale: the number that each encoded column is divided by; one number for images.
        given: all columns of the training table, in its order.
        kept: the encoded columns that vary; None for all.
    """

    names: tuple[str, ...]
    named: bool
    encodings: tuple[Encoding, ...]
    shape: tuple[int, ...] | None
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    given: tuple[str, ...] = ()
    kept: tuple[int, ...] | None = None

    @classmethod
    def learn(cls, X: Values, standardize: bool, reading: Reading = Reading()) -> Columns:
        """Learn names, categories and scaling.

        Columns that are constant are left out where columns are standardised.

        Args:
            X: the training inputs, a table or images.
            standardize: whether columns are standardised with their mean and standard deviation.
            reading: how tables are read.

        Raises:
            DataError: for data that cannot be used, listing all that is wrong.
        """
        X = as_table(X)
        columns = columns_by_name(X)
        _refuse_few_rows(columns)
        given, named = tuple(columns), is_frame(X)
        columns = without_columns(columns, reading.drop)
        shape = tuple(np.shape(X)[1:]) if np.ndim(X) > 2 else None
        problems, encodings = Problems(), []
        for name, column in columns.items():
            if shape:
                encodings.append(Encoding(NUMBER))
                continue
            learned = problems.gather(lambda n=name, c=column: Encoding.learn(n, c, reading, named))
            encodings.append(learned)
        problems.refuse()
        learned = cls(tuple(columns), named, tuple(encodings), shape, (), (), given)
        encoded = learned.encode(columns)
        return learned._scaled(encoded, standardize)

    def _scaled(self, encoded: np.ndarray, standardize: bool) -> Columns:
        """Return the columns with their scaling, and without those that are constant."""
        width = 1 if self.shape else encoded.shape[1]
        if not standardize:
            check_distances(self._labels, encoded.reshape(len(encoded), -1))
            return dataclasses.replace(self, shift=(0.0,) * width, scale=(1.0,) * width)
        axis = None if self.shape else 0
        spread, largest = np.ptp(encoded, axis=axis), np.abs(encoded).max(axis)
        varies = np.flatnonzero(np.atleast_1d(spread > SPREAD * largest))
        if not varies.size:
            raise DataError(
                f"Column {', '.join(map(repr, self.encoded_names[:5]))} is constant and tells "
                "nothing, and there is no other: got no input that varies, expected at least one."
            )
        if varies.size < width:
            return self._only(varies)._scaled(encoded[:, varies], standardize)
        shift, scale = np.atleast_1d(encoded.mean(axis)), np.atleast_1d(encoded.std(axis))
        return dataclasses.replace(
            self, shift=tuple(map(float, shift)), scale=tuple(map(float, scale))
        )

    def _only(self, varies: np.ndarray) -> Columns:
        """Return the columns with some of the encoded columns only."""
        owners = [
            j
            for j, (name, encoding) in enumerate(zip(self.names, self.encodings, strict=True))
            for _ in encoding.names(name)
        ]
        used = sorted({owners[j] for j in varies})
        inside = [j for j, owner in enumerate(owners) if owner in used]
        kept = tuple(inside.index(j) for j in varies)
        return dataclasses.replace(
            self,
            names=tuple(self.names[j] for j in used),
            encodings=tuple(self.encodings[j] for j in used),
            kept=None if len(kept) == len(inside) else kept,
        )

    @property
    def levels(self) -> tuple[tuple[str, ...] | None, ...]:
        """The categories of each column, None for a column of numbers."""
        return tuple(encoding.levels for encoding in self.encodings)

    @property
    def categories(self) -> list[str]:
        """The names of the columns that hold categories."""
        pairs = zip(self.names, self.encodings, strict=True)
        return [name for name, encoding in pairs if encoding.kind == CATEGORY]

    @property
    def encoded_names(self) -> list[str]:
        """The names of the columns of numbers, after categories became zeros and ones."""
        names: list[str] = []
        for name, encoding in zip(self.names, self.encodings, strict=True):
            names += encoding.names(name)
        return names if self.kept is None else [names[j] for j in self.kept]

    @property
    def _labels(self) -> list[str]:
        """What each encoded column is called in messages."""
        if self.shape:
            return [f"Entry {j}" for j in range(int(np.prod(self.shape)))]
        return [f"Column '{name}'" for name in self.encoded_names]

    def constant(self, dropped: tuple[str, ...]) -> list[str]:
        """Return the training columns that are left out since they are constant.

        Args:
            dropped: the columns that the user left out.
        """
        return [name for name in self.given if name not in self.names and name not in dropped]

    def read(self, X: Values) -> np.ndarray:
        """Return standardised rows in double precision, in the order of the training columns.

        A warning names columns that lack cells here and lacked none in training.

        Raises:
            DataError: for no rows, other columns, unknown categories, or cells that are not finite
                numbers; it lists all that is wrong.
        """
        X = as_table(X)
        columns = self._chosen(columns_by_name(X), is_frame(X))
        self._warn_of_gaps(columns)
        rows = (self.encode(columns) - np.array(self.shift)) / np.array(self.scale)
        check_distances(self._labels, rows.reshape(len(rows), -1))
        return rows

    def _warn_of_gaps(self, columns: dict[str, Values]) -> None:
        """Warn of missing cells in columns that lacked none in training."""
        pairs = zip(columns.items(), self.encodings, strict=True)
        found = [said for (name, column), e in pairs if (said := e.surprise(name, column))]
        if found:
            shown = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
            warnings.warn(
                "Missing cells where no training row lacked one, read as the training median or "
                f"the most frequent category: {shown}. The fit knows nothing of rows that lack "
                "them; missing='error' refuses them.",
                DataWarning,
                stacklevel=5,
            )

    def _chosen(self, columns: dict[str, Values], named: bool) -> dict[str, Values]:
        """Return the columns that are read, by name where there are names.

        Raises:
            DataError: for no rows, or columns that are missing.
        """
        given = self.given or self.names
        if columns and len(next(iter(columns.values()))) == 0:
            raise DataError("X has no rows: got 0 rows, expected at least 1.")
        if self.named and named:
            missing = [name for name in self.names if name not in columns]
            if missing:
                raise DataError(
                    f"X lacks column {', '.join(map(repr, missing[:5]))}: "
                    f"got {list(columns)[:10]}, "
                    f"expected the training columns {list(self.names)[:10]}."
                )
        elif len(columns) != len(given):
            raise DataError(
                f"X has {len(columns)} features, but this model is expecting {len(given)} "
                f"features as input ({', '.join(given[:10])})."
            )
        else:
            columns = dict(zip(given, columns.values(), strict=True))
        return {name: columns[name] for name in self.names}

    def encode(self, columns: dict[str, Values]) -> np.ndarray:
        """Return numbers as they are, and categories as zeros and ones.

        Raises:
            DataError: listing all cells that cannot be read.
        """
        if self.shape:
            return finite_array(np.stack(list(columns.values()), axis=1)).reshape(-1, *self.shape)
        problems, parts = Problems(), []
        for (name, column), encoding in zip(columns.items(), self.encodings, strict=True):
            parts.append(problems.gather(lambda n=name, c=column, e=encoding: e.encode(n, c)))
        problems.refuse()
        encoded = np.concatenate(parts, axis=1)
        return encoded if self.kept is None else encoded[:, list(self.kept)]


def from_older_files(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `Columns` from those that earlier versions stored."""
    if "levels" not in fields:
        return fields
    encodings = tuple(
        Encoding(NUMBER) if levels is None else Encoding(CATEGORY, levels)
        for levels in fields["levels"]
    )
    kept = {name: value for name, value in fields.items() if name != "levels"}
    return {**kept, "encodings": encodings}


def _refuse_few_rows(columns: dict[str, Values]) -> None:
    """Refuse tables without columns, or with fewer than two rows.

    Raises:
        DataError: saying what was got.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    if not columns or rows == 0:
        raise DataError(
            f"X is empty: got {rows} rows and {len(columns)} columns, expected at least 2 rows "
            "and 1 column."
        )
    if rows == 1:
        raise DataError(
            "X has one row: got 1, expected at least 2 rows (1 sample says nothing about spread)."
        )


def without_columns(columns: dict[str, Values], drop: tuple[str, ...]) -> dict[str, Values]:
    """Return the columns but those to leave out.

    Raises:
        DataError: for a name that is no column, or no columns that remain.
    """
    unknown = [name for name in drop if name not in columns]
    if unknown:
        raise DataError(
            f"drop={list(drop)!r}: X has no column {unknown[0]!r}, got {list(columns)[:10]}."
        )
    left = {name: column for name, column in columns.items() if name not in drop}
    if not left:
        raise DataError(f"drop={list(drop)!r} leaves no column of X: expected at least one.")
    return left


def columns_by_name(X: Values) -> dict[str, Values]:
    """Return the columns of a DataFrame or array by name.

    Columns of numbers of an array are arrays, all others are Series of pandas.

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
        return {str(name): X[name].reset_index(drop=True) for name in X.columns}
    if hasattr(X, "tocsr"):
        raise DataError(
            "X is a sparse matrix: got scipy.sparse, and a table of dense rows is expected. Use "
            "X.toarray() where it fits in memory, or write the model as a NumPyro program, which "
            "gets sparse rows as a jax BCOO matrix."
        )
    if np.iscomplexobj(X):
        raise DataError(
            "Complex data not supported: X has complex numbers; give real and imaginary part as "
            "columns."
        )
    if X.ndim < 2:
        raise DataError(
            f"Expected 2D array, got {X.ndim}D array instead: X has shape {X.shape}. "
            "Reshape your data, X.reshape(-1, 1) for one column or X.reshape(1, -1) for one row."
        )
    flat = X.reshape(len(X), int(np.prod(X.shape[1:])))
    columns = {f"x{j}": flat[:, j] for j in range(flat.shape[1])}
    if flat.dtype.kind in "iufb" or X.ndim > 2:
        return columns
    import pandas as pd

    kind = object if flat.dtype.kind in "OUSTV" else flat.dtype
    return {name: pd.Series(column.astype(kind)) for name, column in columns.items()}
