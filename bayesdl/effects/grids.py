"""Rows at which effects are asked for: those of the data, or a grid of typical ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bayesdl.data.frames import as_table
from bayesdl.data.validation import DataError, did_you_mean, is_frame, is_number
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import Cells, DataFrame, TableLike

Conditional: TypeAlias = str | Sequence[str] | Mapping[str, Any] | None
"""A column, a list of columns, or values by column."""

POINTS = 50  # values along a column of numbers
SPREAD = 3  # values of a further column: the mean, and a standard deviation to both sides


def frame_of(posterior: AbstractPosterior, data: TableLike | None) -> tuple[DataFrame, bool]:
    """Return the rows as a table, and whether they were an array without names.

    Raises:
        DataError: where the model does not keep its training data as a table.
    """
    import pandas as pd

    found = posterior.model.training_frame(posterior.schema, posterior.problem)
    if data is None:
        if found is None:
            raise DataError(
                f"{type(posterior.model).__name__} does not keep its training data as a table: "
                "give the rows, as in bdl.effects.comparisons(post, 'x', data=X)."
            )
        return found, False
    table = as_table(data)
    if is_frame(table):
        return _named_as(table.reset_index(drop=True), found), False
    array = np.asarray(table)
    if array.ndim != 2:
        raise DataError(f"data has shape {array.shape}, expected rows and columns.")
    return pd.DataFrame(array, columns=[f"x{j}" for j in range(array.shape[1])]), True


def _named_as(table: DataFrame, known: DataFrame | None) -> DataFrame:
    """Return a table in which numbers are names where they are in the training data."""
    import pandas as pd

    if known is None:
        return table
    names = [one for one in known.columns if one in table.columns]
    cells = {name: column_in(table, name) for name in names}
    return table.assign(
        **{
            name: pd.Categorical(one)
            for name, one in cells.items()
            if hasattr(column_in(known, name), "cat") and is_number(one)
        }
    )


def check_column(frame: DataFrame, name: object, what: str) -> str:
    """Return the name of a column that there is.

    Raises:
        DataError: with the nearest name.
    """
    names = [str(column) for column in frame.columns]
    if name in names:
        return str(name)
    hint = did_you_mean(name, names)
    raise DataError(f"{what}: there is no column {name!r}: {hint}The columns are {names}.")


def columns_of(given: object, frame: DataFrame, what: str) -> list[str]:
    """Return one or more columns by name."""
    several: Any = given if is_several(given) else [given]
    names = list(several)
    return [check_column(frame, name, what) for name in names]


def is_several(given: object) -> bool:
    """Return whether something is a list of names."""
    return isinstance(given, Iterable) and not isinstance(given, str)


def grid(frame: DataFrame, conditional: Conditional) -> tuple[DataFrame, tuple[str, ...]]:
    """Return all combinations of values of some columns, the others at typical values.

    Typical are the mean of numbers (of whole ones the nearest there is) and the most frequent of
    other values. Of the first column that
    is named there are many values, of the others few.

    Args:
        frame: the data.
        conditional: a column, a list of columns, or values by column (None for values chosen so).
    """
    import pandas as pd

    if isinstance(conditional, Mapping):
        wanted = dict(conditional)
        columns_of(list(wanted), frame, "conditional")
    else:
        wanted = dict.fromkeys(columns_of(conditional, frame, "conditional"))
    values = {
        name: _values(column_in(frame, name), POINTS if k == 0 else SPREAD)
        if given is None
        else given
        for k, (name, given) in enumerate(wanted.items())
    }
    lists = [list(np.atleast_1d(np.asarray(one, dtype=object))) for one in values.values()]
    rows = list(itertools.product(*lists))
    columns: dict[str, Any] = {}
    for name in frame.columns:
        if name in values:
            place = list(values).index(name)
            cells = [row[place] for row in rows]
        else:
            cells = [typical(column_in(frame, name))] * len(rows)
        columns[name] = like(column_in(frame, name), cells)
    return pd.DataFrame(columns), tuple(values)


def column_in(frame: DataFrame, name: str) -> Cells:
    """Return one column of a table."""
    found: Any = frame[name]
    return found


def typical(column: Cells) -> Any:
    """Return the mean of numbers (of whole ones the nearest one), else the most frequent value."""
    if is_number(column):
        values = np.asarray(column)
        mean = float(values.mean())
        return mean if values.dtype.kind == "f" else values[np.argmin(np.abs(values - mean))].item()
    return column.mode().iloc[0]


def like(column: Cells, cells: Sequence[Any]) -> Any:
    """Return cells as a column of the same kind."""
    import pandas as pd

    if hasattr(column, "cat"):
        known = list(column.cat.categories)
        new = [cell for cell in dict.fromkeys(cells) if cell not in known]
        return pd.Categorical(cells, categories=known + new, ordered=bool(column.cat.ordered))
    return pd.Series(cells).infer_objects()


def levels(column: Cells) -> list[Any]:
    """Return the values of a column that is no number, in order."""
    if hasattr(column, "cat"):
        present = set(column)
        return [level for level in column.cat.categories if level in present]
    return sorted(set(column.tolist()))


def _values(column: Cells, points: int) -> Any:
    """Return values that show how something depends on a column."""
    if not is_number(column):
        return levels(column)
    numbers = np.asarray(column, np.float64)
    distinct = np.unique(numbers)
    if len(distinct) <= min(points, 10):
        return distinct
    if points == SPREAD:
        return numbers.mean() + np.array([-1.0, 0.0, 1.0]) * numbers.std()
    return np.linspace(numbers.min(), numbers.max(), points)
