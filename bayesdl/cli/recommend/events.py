"""Events in tables, as the command line reads them: a user, an item, and perhaps a rating a row."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bayesdl.cli.tables import UsageError, read_table
from bayesdl.recommend.evaluation.split import THRESHOLD
from bayesdl.recommend.rows import CSR, event_matrix
from bayesdl.typing import DataFrame

if TYPE_CHECKING:
    import pandas as pd

    Column: TypeAlias = pd.Series
else:
    # pandas is imported only where a table is read.
    Column = object

# The column that is read as ratings unless the user names another.
RATING = "rating"


@dataclasses.dataclass(frozen=True)
class Events:
    """The columns of a table of events.

    Attributes:
        users: the label of the user of each event, whole numbers or text, shape (events,).
        items: the label of the item of each event; in a history a row may lack it.
        counts: whether each event counts: its rating is above the threshold, or there are no
            ratings.
        what: which events count, in words.
    """

    users: np.ndarray
    items: np.ndarray
    counts: np.ndarray
    what: str


@dataclasses.dataclass(frozen=True)
class History:
    """Users to recommend to.

    Attributes:
        users: the labels of the users in the order of the table, shape (users,).
        rows: their rows, users x items.
        events: the number of rows of the table.
        unknown: the number of events with items that the recommender does not know.
        below: the number of events that do not count.
        without: the labels of users of whom nothing is known.
    """

    users: np.ndarray
    rows: CSR
    events: int
    unknown: int
    below: int
    without: np.ndarray


def read_events(path: Path, options: Namespace, optional_items: bool = False) -> Events:
    """Read the events of a table.

    Args:
        path: the path of a CSV or Parquet file.
        options: the options with the columns' names and the threshold.
        optional_items: whether a row may have a user alone.

    Raises:
        UsageError: for absent columns, missing labels, or ratings that are not numbers.
    """
    table = read_table(path)
    users = _read_labels(_find_column(table, options.user, "--user", path), "user", path)
    given = _find_column(table, options.item, "--item", path)
    items = given if optional_items else _read_labels(given, "item", path)
    if options.rating is None and RATING not in table.columns:
        if options.threshold is not None:
            raise UsageError(
                f"--threshold {options.threshold:g}: {path} has no column {RATING!r}; name one by "
                "--rating."
            )
        return Events(users, np.asarray(items), np.ones(len(table), bool), "every row")
    name = options.rating or RATING
    ratings = _find_column(table, name, "--rating", path)
    bad = np.flatnonzero(~_is_finite(ratings))
    if len(bad):
        raise UsageError(
            f"{path}: column {name!r}, row {bad[0]} is not a number: got {ratings.iloc[bad[0]]!r}."
        )
    threshold = THRESHOLD if options.threshold is None else options.threshold
    counts = ratings.to_numpy(float) > threshold
    return Events(users, np.asarray(items), counts, f"rows whose {name} is above {threshold:g}")


def _find_column(table: DataFrame, name: str, option: str, path: Path) -> Column:
    """Return a column by its name.

    Args:
        table: the table.
        name: the name of the column.
        option: the option that gives the name, for the error.
        path: the path of the table, for the error.

    Raises:
        UsageError: with the columns that are there.
    """
    if name not in table.columns:
        raise UsageError(
            f"{path} has no column {name!r}: got {list(table.columns)[:20]}; name it by {option}."
        )
    found: Any = table[name]
    return found


def _is_finite(values: Column) -> np.ndarray:
    """Return whether each value is a finite number."""
    if values.dtype.kind not in "iufb":
        return np.zeros(len(values), bool)
    return np.isfinite(values.to_numpy(float, na_value=np.nan))


def _read_labels(values: Column, what: str, path: Path) -> np.ndarray:
    """Return labels as whole numbers where all of them are, else as text.

    Args:
        values: the column of labels.
        what: the name of what they label, for the error.
        path: the path of the table, for the error.

    Raises:
        UsageError: where a label is missing.
    """
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise UsageError(f"{path}: the {what} of row {missing[0]} is missing.")
    numbers: Any = values
    if numbers.dtype.kind in "iu":
        return numbers.to_numpy(np.int64)
    if numbers.dtype.kind == "f":
        # Above 2^53 a float does not tell whole numbers apart.
        whole = (numbers == numbers.round()).all() and (numbers.abs() < 2**53).all()
        if whole:
            return numbers.to_numpy(np.int64)
    return np.array([str(value) for value in values], dtype=str)


def _item_columns(items: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the columns of items by their labels, -1 for a label that is unknown or missing.

    Args:
        items: the labels of the items, shape (events,).
        among: the labels of all columns, shape (items,).
    """
    import pandas as pd

    if among.dtype.kind in "iu":
        numbers = pd.to_numeric(pd.Series(items), errors="coerce")
        return pd.Index(among).get_indexer(pd.Index(numbers))
    texts = [
        str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
        for item in items.tolist()
    ]
    return pd.Index(among.astype(object)).get_indexer(pd.Index(texts, dtype=object))


def make_history(events: Events, items: np.ndarray) -> History:
    """Turn events of new users into rows of the recommender's items; repeated events are one.

    Args:
        events: the events.
        items: the labels of the recommender's items, shape (items,).
    """
    import pandas as pd

    user, names = pd.factorize(events.users)
    item = _item_columns(events.items, items)
    given = ~pd.isna(events.items)
    kept = given & (item >= 0) & events.counts
    rows = event_matrix(user[kept], item[kept], (len(names), len(items)))
    lone = np.asarray(names)[np.diff(rows.indptr) == 0]
    unknown, below = given & events.counts & (item < 0), ~events.counts
    return History(np.asarray(names), rows, len(user), int(unknown.sum()), int(below.sum()), lone)
