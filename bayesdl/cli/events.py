"""Events in tables, as the command line reads them: a user, an item, and perhaps a rating in each row."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.cli.tables import UsageError, read_table
from bayesdl.recommend.evaluation.split import THRESHOLD
from bayesdl.recommend.rows import event_matrix

RATING = "rating"  # the column that is read as ratings unless the user names another


@dataclasses.dataclass(frozen=True)
class Events:
    """Columns of a table.

    Attributes:
        users: labels, whole numbers or text.
        items: likewise; in a history a row may lack it.
        counts: whether each event counts: its rating is above the threshold, or there are no ratings.
        what: which events count, in words.
    """

    users: np.ndarray
    items: np.ndarray
    counts: np.ndarray
    what: str


def read_events(path: Path, options: Namespace, optional_items: bool = False) -> Events:
    """The events in a table.

    Args:
        path: of a CSV or Parquet file.
        options: with the columns' names and the threshold.
        optional_items: whether a row may have a user alone.

    Raises:
        UsageError: for absent columns, missing labels, or ratings that are not numbers.
    """
    table = read_table(path)
    users = labels(column(table, options.user, "--user", path), "user", path)
    given = column(table, options.item, "--item", path)
    items = given if optional_items else labels(given, "item", path)
    if options.rating is None and RATING not in table.columns:
        if options.threshold is not None:
            raise UsageError(
                f"--threshold {options.threshold:g}: {path} has no column {RATING!r}; name one by --rating."
            )
        return Events(users, np.asarray(items), np.ones(len(table), bool), "every row")
    name = options.rating or RATING
    ratings = column(table, name, "--rating", path)
    bad = np.flatnonzero(~finite(ratings))
    if len(bad):
        raise UsageError(
            f"{path}: column {name!r}, row {bad[0]} is not a number: got {ratings.iloc[bad[0]]!r}."
        )
    threshold = THRESHOLD if options.threshold is None else options.threshold
    counts = ratings.to_numpy(float) > threshold
    return Events(users, np.asarray(items), counts, f"rows whose {name} is above {threshold:g}")


def column(table: Any, name: str, option: str, path: Path) -> Any:
    """A column by its name.

    Raises:
        UsageError: listing the columns that are there.
    """
    if name not in table.columns:
        raise UsageError(
            f"{path} has no column {name!r}: got {list(table.columns)[:20]}; name it by {option}."
        )
    return table[name]


def finite(values: Any) -> np.ndarray:
    """Which values are finite numbers."""
    if values.dtype.kind not in "iufb":
        return np.zeros(len(values), bool)
    return np.isfinite(values.to_numpy(float, na_value=np.nan))


def labels(values: Any, what: str, path: Path) -> np.ndarray:
    """Labels as whole numbers where all are, else as text.

    Raises:
        UsageError: where one is missing.
    """
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise UsageError(f"{path}: the {what} of row {missing[0]} is missing.")
    if values.dtype.kind in "iu":
        return values.to_numpy(np.int64)
    if (
        values.dtype.kind == "f"
        and (values == values.round()).all()
        and (values.abs() < 2**53).all()
    ):
        return values.to_numpy(np.int64)
    return np.array([str(value) for value in values], dtype=str)


def columns_of(items: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Columns of items by their labels, -1 where a label is unknown or missing."""
    import pandas as pd

    if among.dtype.kind in "iu":
        numbers = pd.to_numeric(pd.Series(items), errors="coerce")
        return pd.Index(among).get_indexer(pd.Index(numbers))
    texts = [
        str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
        for item in items.tolist()
    ]
    return pd.Index(among.astype(object)).get_indexer(pd.Index(texts, dtype=object))


@dataclasses.dataclass(frozen=True)
class History:
    """Users to recommend to.

    Attributes:
        users: labels in the order of the table.
        rows: users x items.
        events: number of rows of the table.
        unknown: number of events with items that the recommender does not know.
        below: number of events that do not count.
        without: labels of users of whom nothing is known.
    """

    users: np.ndarray
    rows: scipy.sparse.csr_array
    events: int
    unknown: int
    below: int
    without: np.ndarray


def history_of(events: Events, items: np.ndarray) -> History:
    """Events of new users as rows of the recommender's items; repeated events are one."""
    import pandas as pd

    user, names = pd.factorize(events.users)
    item = columns_of(events.items, items)
    given = ~pd.isna(events.items)
    kept = given & (item >= 0) & events.counts
    rows = event_matrix(user[kept], item[kept], (len(names), len(items)))
    lone = np.asarray(names)[np.diff(rows.indptr) == 0]
    unknown, below = given & events.counts & (item < 0), ~events.counts
    return History(np.asarray(names), rows, len(user), int(unknown.sum()), int(below.sum()), lone)
