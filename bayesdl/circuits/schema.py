"""How the table of a circuit is read: numbers, categories, and the shape that was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesdl.circuits.writing import fill_series, from_numbers, holds_truth
from bayesdl.data.cells import CATEGORY, NUMBER
from bayesdl.data.columns import SPREAD, columns_by_name, without_columns
from bayesdl.data.encoding import Encoding
from bayesdl.data.frames import as_table
from bayesdl.data.reading import Reading
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, Problems, did_you_mean, is_frame
from bayesdl.typing import DataFrame, TableLike, Values
from inference.circuits.layout import Layout

# text columns have at most so many levels
MOST_LEVELS = 1000
# numbers are at most so many standard deviations from the mean, that their squares are numbers
FARTHEST = 1e100


@dataclasses.dataclass(frozen=True)
class CircuitColumn:
    """One column.

    Attributes:
        name: its name.
        encoding: how its cells are read.
        labels: its categories as they are given back; None for numbers.
        shift: the number subtracted from numbers, their mean.
        scale: the number that numbers are divided by, their standard deviation.
        truth: whether its cells are truth values.
    """

    name: str
    encoding: Encoding
    labels: tuple | None
    shift: float = 0.0
    scale: float = 1.0
    truth: bool = False

    @classmethod
    def learn(
        cls, name: str, column: Values, named: bool, as_category: bool, reading: Reading
    ) -> CircuitColumn:
        """Learn how to read a column.

        Args:
            name: its name.
            column: its cells.
            named: whether the columns have names.
            as_category: whether numbers are categories.
            reading: how tables are read.

        Raises:
            DataError: for a column without a cell, a constant one, identifiers, or text with
                too many levels.
        """
        encoding = Encoding.learn(name, column, reading, named)
        values = encoding.codes(name, column)
        known = values[~np.isnan(values)]
        if not known.size:
            raise DataError(
                f"Column '{name}' has no value: got {len(values)} missing cells. Leave it out by "
                f"drop=[{name!r}]."
            )
        found, counts = np.unique(known, return_counts=True)
        if len(found) == 1 and encoding.kind == NUMBER and _is_truth(column, found[0]):
            # a yes or no that was always the same is one that may be otherwise
            return cls(name, encoding, (0.0, 1.0), truth=holds_truth(column))
        rounding = encoding.levels is None and np.ptp(known) <= SPREAD * np.abs(known).max()
        if len(found) == 1 or rounding:
            raise DataError(
                f"Column '{name}' is constant: got one value in {known.size} rows, expected at "
                f"least two. Leave it out by drop=[{name!r}]."
            )
        if encoding.levels is not None:
            _refuse_levels(name, encoding.levels, known.size, int(counts.max()))
            return cls(name, encoding, encoding.levels)
        if as_category or len(found) == 2:
            labels = tuple(found.tolist())
            _refuse_levels(name, labels, known.size, int(counts.max()))
            return cls(name, encoding, labels, truth=holds_truth(column))
        return cls(name, encoding, None, float(known.mean()), float(known.std()))

    def read(self, column: Values) -> np.ndarray:
        """Return cells as the circuit sees them, NaN where they are missing.

        Raises:
            DataError: for unseen categories, or cells of another kind.
        """
        values = self.encoding.codes(self.name, column)
        if self.labels is None:
            found = (values - self.shift) / self.scale
            far = np.flatnonzero(np.abs(found) > FARTHEST)
            if far.size:
                raise DataError(
                    f"Column '{self.name}', row {far[0]} is {values[far[0]]:g}, more than "
                    f"{FARTHEST:g} standard deviations from the training rows' mean: correct the "
                    "cell, or empty it."
                )
            return found
        if self.encoding.levels is not None:
            return values
        known = np.array(self.labels)
        place = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
        strange = np.flatnonzero(~np.isnan(values) & (known[place] != values))
        if strange.size:
            raise DataError(
                f"Column '{self.name}', row {strange[0]} has the unseen category "
                f"{values[strange[0]]:g}: expected one of {list(self.labels)[:10]}. Map it to one "
                "of these, or fit again with such rows."
            )
        return np.where(np.isnan(values), np.nan, place)

    def write(self, values: np.ndarray) -> np.ndarray:
        """Return cells in the user's units; the inverse of `read`."""
        if self.labels is None:
            return from_numbers(self.encoding, values * self.scale + self.shift)
        if self.encoding.levels is not None:
            return np.array(self.labels, dtype=object)[values.astype(int)]
        labels = np.array(self.labels)
        labels = labels.astype(bool) if self.truth else from_numbers(self.encoding, labels)
        return labels[values.astype(int)]

    @property
    def target(self) -> Target:
        """The column as what is predicted."""
        if self.labels is None:
            return Target((self.name,), "real", True, None, (self.shift,), (self.scale,))
        return Target((self.name,), "class", True, self.labels, (0.0,), (1.0,))


def _refuse_levels(name: str, levels: tuple, rows: int, most: int) -> None:
    """Refuse identifiers, and columns with a thousand levels.

    Raises:
        DataError: saying how to leave the column out.
    """
    if len(levels) > MOST_LEVELS:
        raise DataError(
            f"Column '{name}' has {len(levels)} categories, expected at most {MOST_LEVELS}: leave "
            f"it out by drop=[{name!r}], or join rare ones."
        )
    if most == 1 and rows > 2:
        raise DataError(
            f"Column '{name}' has another category in each of its {rows} rows, as identifiers do: "
            f"leave it out by drop=[{name!r}]."
        )


@dataclasses.dataclass(frozen=True)
class CircuitSchema:
    """The columns of a table and the circuit that was chosen for it.

    Attributes:
        columns: the columns.
        named: whether their names came with the data.
        given: all columns of the training table, in its order.
        parents: the parent of each node; see `inference.circuits.layout.Layout`.
        states: the number of states of a node.
        categories: the leaves of categories.
        blocks: the leaves of numbers.
        kept: the columns of a marginal; () for all.
    """

    columns: tuple[CircuitColumn, ...]
    named: bool
    given: tuple[str, ...]
    parents: tuple[int, ...] = (-1,)
    states: int = 1
    categories: tuple = ()
    blocks: tuple = ()
    kept: tuple[str, ...] = ()

    @classmethod
    def learn(cls, table: TableLike, reading: Reading, kinds: Mapping[str, str]) -> CircuitSchema:
        """Learn the columns of a table.

        Args:
            table: the training rows.
            reading: the columns to leave out, and what unseen categories are.
            kinds: "category" or "number" by column, where the cells do not tell.

        Raises:
            DataError: listing all that is wrong.
        """
        table = as_table(table)
        named, columns = is_frame(table), columns_by_name(table)
        rows = len(next(iter(columns.values()), ()))
        if rows < 2:
            raise DataError(f"The table has {rows} rows: expected at least 2.")
        given = tuple(columns)
        columns = without_columns(columns, reading.drop)
        for name in kinds:
            if name not in columns:
                asked = did_you_mean(name, columns)
                raise DataError(
                    f"kinds={dict(kinds)!r}: the table has no column {name!r}. {asked}"
                    f"Its columns are {list(columns)[:10]}."
                )
        problems, learned = Problems(), []
        for name, column in columns.items():
            if kinds.get(name) == CATEGORY and not _is_plain(column):
                column = column.map(str, na_action="ignore") if column.dtype == object else column
            learned.append(
                problems.gather(
                    lambda n=name, c=column: CircuitColumn.learn(
                        n, c, named, kinds.get(n) == CATEGORY, reading
                    )
                )
            )
        problems.refuse()
        made = cls(tuple(learned), named, given)
        empty = np.flatnonzero(np.isnan(made.read(table)).all(axis=1))
        if len(empty) == rows:
            raise DataError("The table has no cell that is known.")
        return made

    @property
    def levels(self) -> tuple[int, ...]:
        """The number of categories of each column, 0 for numbers."""
        return tuple(len(column.labels or ()) for column in self.columns)

    @property
    def layout(self) -> Layout:
        """The circuit."""
        return Layout(self.parents, self.states, self.categories, self.blocks)

    def with_layout(self, layout: Layout) -> CircuitSchema:
        """Return the schema with a circuit."""
        return dataclasses.replace(
            self,
            parents=layout.parents,
            states=layout.states,
            categories=tuple(tuple(leaf) for leaf in layout.categories),
            blocks=tuple((leaf.columns, leaf.node) for leaf in layout.blocks),
        )

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def shown(self) -> list[str]:
        """The names of the columns that questions may be about."""
        return [name for name in self.names if not self.kept or name in self.kept]

    def only_kept(self, rows: np.ndarray) -> np.ndarray:
        """Return rows without the cells of columns that a marginal leaves out."""
        left = [name in self.shown for name in self.names]
        return np.where(left, rows, np.nan)

    def number(self, name: object) -> int:
        """Return the number of a column.

        Raises:
            DataError: for a name that no column has.
        """
        if isinstance(name, int | np.integer) and not self.named:
            name = f"x{name}"
        if name not in self.shown:
            raise DataError(
                f"The table has no column {name!r}: {did_you_mean(name, self.shown)}expected one "
                f"of {self.shown[:20]}."
            )
        return self.names.index(str(name))

    def read(self, table: TableLike) -> np.ndarray:
        """Return rows as the circuit sees them, NaN where cells are missing.

        Columns that a table with names lacks are missing in every row.

        Raises:
            DataError: for unseen categories, cells of another kind, or other columns.
        """
        table = as_table(table)
        columns = columns_by_name(table)
        rows = len(next(iter(columns.values()), ()))
        if rows == 0:
            raise DataError("The table has no rows: got 0 rows, expected at least 1.")
        if self.named and is_frame(table):
            if not set(columns) & set(self.names):
                raise DataError(
                    f"The table has none of the training columns: got {list(columns)[:10]}, "
                    f"expected some of {self.names[:10]}."
                )
        elif len(columns) != len(self.given):
            raise DataError(
                f"X has {len(columns)} features, but this model is expecting {len(self.given)} "
                f"features as input ({', '.join(self.given[:10])})."
            )
        else:
            columns = dict(zip(self.given, columns.values(), strict=True))
        problems, parts = Problems(), []
        for column in self.columns:
            if column.name not in columns:
                parts.append(np.full(rows, np.nan))
                continue
            cells = columns[column.name]
            parts.append(problems.gather(lambda c=column, v=cells: c.read(v)))
        problems.refuse()
        return self.only_kept(np.stack(parts, axis=1))

    def write(self, values: np.ndarray, like: TableLike | None = None) -> Any:
        """Return rows in the user's units: a DataFrame, or an array where one was given.

        Args:
            values: rows as the circuit sees them, none of them missing.
            like: the table whose known cells, other columns and index are kept.
        """
        cells = [column.write(values[:, j]) for j, column in enumerate(self.columns)]
        if like is None:
            found = dict(zip(self.names, cells, strict=True))
            return self._frame({name: found[name] for name in self.shown})
        table = as_table(like)
        if not is_frame(table):
            filled = np.array(table, dtype=float if self._all_numbers else object)
            for column, found in zip(self.columns, cells, strict=True):
                at = self.given.index(column.name)
                missing = np.isnan(column.encoding.codes(column.name, _cells(table, at)))
                filled[missing, at] = found[missing]
            return filled
        filled = table.copy()
        for column, found in zip(self.columns, cells, strict=True):
            if column.name in filled.columns and column.name in self.shown:
                filled[column.name] = fill_series(filled[column.name], found)
        return filled

    @property
    def _all_numbers(self) -> bool:
        return all(column.encoding.kind == NUMBER for column in self.columns)

    def _frame(self, cells: dict[str, np.ndarray]) -> DataFrame:
        import pandas as pd

        return pd.DataFrame(cells)


def _is_truth(column: Values, value: float) -> bool:
    """Return whether cells are truth values, or whole numbers that are all 0 or all 1."""
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    return value in (0.0, 1.0) and kind in "bui"


def _is_plain(column: Values) -> bool:
    return isinstance(column, np.ndarray)


def _cells(table: np.ndarray, at: int) -> Any:
    """Return one column of an array as it was learned."""
    return list(columns_by_name(table).values())[at]
