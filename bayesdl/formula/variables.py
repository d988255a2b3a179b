"""The columns that a formula names: read once from the training data, checked in new data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from bayesdl.data.cells import as_numbers, refuse_dates
from bayesdl.data.frames import as_table
from bayesdl.data.validation import DataError, did_you_mean, is_frame, is_number
from bayesdl.model.registry import register_spec
from bayesdl.typing import Cells, DataFrame, TableLike

SHOWN = 10


@register_spec("formula.Variable")
@dataclasses.dataclass(frozen=True)
class Variable:
    """A column of the training data.

    Attributes:
        name: its name.
        levels: the levels of a column of categories, in their order; None for numbers.
        ordered: whether the levels have an order.
        whole: whether all numbers are whole.
    """

    name: str
    levels: tuple | None
    ordered: bool
    whole: bool = False

    @classmethod
    def learn(cls, name: str, column: Cells) -> Variable:
        """Learn whether a column holds numbers or categories, and which."""
        present(name, column)
        if _holds_numbers(column):
            values = as_numbers(name, column)
            return cls(name, None, False, bool(np.all(values == np.round(values))))
        refuse_dates(name, column)
        return cls(name, *levels_of(column))

    def read(self, column: Cells) -> Cells:
        """Return a column as numbers, or as a pandas Categorical with the known levels.

        Raises:
            DataError: for missing cells, text in place of numbers, and unseen levels.
        """
        import pandas as pd

        present(self.name, column)
        if self.levels is None:
            return pd.Series(as_numbers(self.name, column), index=column.index)
        place = {level: k for k, level in enumerate(self.levels)}
        rows, labels = numbered(column)
        codes = np.array([place.get(one, -1) for one in labels])[rows]
        unseen = np.flatnonzero(codes < 0)
        if unseen.size:
            row = unseen[0]
            raise DataError(
                f"Column {self.name!r}, row {row} has the level {labels[rows[row]]!r}, which the "
                f"training data had not: expected one of {shown(self.levels)}."
            )
        cells = pd.Categorical.from_codes(codes, list(self.levels), ordered=self.ordered)
        return pd.Series(cells, index=column.index)

    def codes(self, read: Cells) -> np.ndarray:
        """Return a column that `read` gave as numbers, of categories the places of the levels."""
        return np.asarray(read.cat.codes if self.levels is not None else read, np.float64)

    def decode(self, values: np.ndarray) -> Any:
        """Return the column that `codes` gave numbers for."""
        import pandas as pd

        if self.levels is None:
            return values.astype(np.int64) if self.whole else values
        codes = values.astype(int)
        return pd.Categorical.from_codes(codes, list(self.levels), ordered=self.ordered)


def table_of(data: TableLike) -> DataFrame:
    """Return a table with named columns.

    Raises:
        DataError: for a table without names or rows.
    """
    table = as_table(data)
    if not is_frame(table):
        raise DataError(
            "A formula names columns: got a table without names, expected a DataFrame or a "
            "dictionary of columns, as in bdl.fit(bdl.Formula('y ~ x'), df)."
        )
    if not len(table):
        raise DataError("The table has no rows.")
    return table


def column_of(table: DataFrame, name: str) -> Cells:
    """Return a column by its name.

    Raises:
        DataError: where there is none, with the nearest name.
    """
    names = [str(label) for label in table.columns]
    if names.count(name) == 1:
        return table.iloc[:, names.index(name)]
    if name in names:
        raise DataError(f"The table has {names.count(name)} columns named {name!r}: rename them.")
    hint = did_you_mean(name, names)
    raise DataError(f"There is no column {name!r}: {hint}The columns are {shown(names)}.")


def present(name: str, column: Cells) -> None:
    """Refuse a column with missing cells.

    Raises:
        DataError: naming the first such row.
    """
    missing = np.flatnonzero(np.asarray(column.isna()))
    if missing.size:
        raise DataError(
            f"Column {name!r}, row {missing[0]} is missing ({missing.size} such rows): fill the "
            f"cells in, or leave the rows out with df.dropna(subset=[{name!r}])."
        )


def _holds_numbers(column: Cells) -> bool:
    """Return whether all cells are numbers or truth values; complex ones are refused later."""
    if is_number(column) or getattr(column.dtype, "kind", "O") == "c":
        return True
    if getattr(column.dtype, "kind", "") != "O":
        return False
    import pandas as pd

    kinds = ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "complex")
    return pd.api.types.infer_dtype(column) in kinds


def numbered(column: Cells) -> tuple[np.ndarray, list]:
    """Return the number of each cell's value among the distinct ones, and these."""
    import pandas as pd

    try:
        rows, found = pd.factorize(column)
    except TypeError:
        # cells such as lists have no hash, their texts have
        rows, found = pd.factorize(column.map(plain))
    return rows, [plain(value) for value in found]


def levels_of(column: Cells) -> tuple[tuple, bool]:
    """Return the levels of a column that occur, in order, and whether the order has a meaning."""
    values = set(numbered(column)[1])
    if hasattr(column, "cat"):
        levels = [plain(level) for level in column.cat.categories]
        return tuple(level for level in levels if level in values), bool(column.cat.ordered)
    kinds = {type(value) for value in values}
    numeric = kinds <= {int, float, bool}
    return tuple(sorted(values, key=None if numeric or len(kinds) == 1 else str)), False


def plain(value: object) -> Any:
    """Return a cell as a value of Python."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, bool | int | float | str) else str(value)


def shown(names: Iterable[Any]) -> str:
    """Return a list of names for messages, cut where it is long."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{names[:SHOWN]}{more}"


def groups_of(table: DataFrame, columns: tuple[str, ...]) -> list[tuple]:
    """Return the group of each row."""
    found = []
    for name in columns:
        column = column_of(table, name)
        present(name, column)
        rows, labels = numbered(column)
        found.append([labels[k] for k in rows])
    return list(zip(*found, strict=True))


def label(level: tuple) -> Any:
    """Return the label of a group."""
    return level[0] if len(level) == 1 else ":".join(map(str, level))


def group_order(level: tuple) -> tuple:
    """Return what groups are sorted by: numbers as numbers, then texts."""
    return tuple(
        (0, part, "") if isinstance(part, int | float) else (1, 0, str(part)) for part in level
    )
