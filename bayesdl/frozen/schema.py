"""What a model of a frozen predictor learned of its data: columns, target, and some answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.data.table import AbstractSchema
from bayesdl.data.validation import DataError, is_frame
from bayesdl.typing import TableLike

# rows whose answers are kept, by which a predictor is recognised
PROBED = 8
# rows among which those that can be kept are looked for
SEARCHED = 1000
# how far answers may be apart on other machines, relative to them and to their spread
ROUNDING = 1e-4
SMALLEST = 1e-6


@dataclasses.dataclass(frozen=True)
class FrozenSchema(AbstractSchema):
    """The schema of a table of predictions, and the answers of the predictor to some rows.

    Attributes:
        columns: the columns of predictions and features.
        target: the target.
        reading: how tables are read.
        rows: some rows as the predictor took them; empty where they cannot be kept.
        names: the names of their columns; empty for an array.
        answers: what the predictor said of them.
    """

    rows: tuple = ()
    names: tuple[str, ...] = ()
    answers: tuple = ()

    @property
    def concerns(self) -> list[str]:
        """Nothing: columns that do not vary are of no concern here."""
        return []

    def probe(self) -> Any:
        """Return the rows that are kept, as the predictor took them."""
        if not self.names:
            return np.array(self.rows)
        import pandas as pd

        return pd.DataFrame([list(row) for row in self.rows], columns=list(self.names))

    def check_answers(self, answers: np.ndarray) -> None:
        """Refuse a predictor whose answers to the rows that are kept are others.

        Raises:
            DataError: with the first row that differs.
        """
        known = np.array(self.answers, np.float64)
        found = np.asarray(answers, np.float64)
        near = ROUNDING * np.std(known) + SMALLEST * np.abs(known).max(initial=0.0)
        same = found.shape == known.shape and np.allclose(found, known, rtol=ROUNDING, atol=near)
        if not same:
            raise DataError(
                "The predictor given is not the one that was fitted: it answers "
                f"{found.ravel()[:3].tolist()} to rows to which the other answered "
                f"{known.ravel()[:3].tolist()}. Give the same predictor."
            )


def some_rows(X: TableLike) -> tuple[tuple, tuple[str, ...], list[int]]:
    """Return a few rows as plain values, the names of their columns, and their positions.

    Rows with cells that files cannot hold, such as dates, are passed over.

    Args:
        X: the table as the predictor takes it.
    """
    table: Any = X
    part: Any = table.iloc[:SEARCHED] if is_frame(X) else np.asarray(X)[:SEARCHED]
    names = tuple(map(str, part.columns)) if is_frame(part) else ()
    values = part.to_numpy(dtype=object).tolist() if is_frame(part) else part.tolist()
    rows = list(map(_as_plain, values))
    kept = [k for k, row in enumerate(rows) if _is_storable(row)][:PROBED]
    return tuple(rows[k] for k in kept), names, kept


def _as_plain(value: object) -> Any:
    """Return lists in lists as tuples in tuples, and NumPy's numbers as those of Python."""
    if isinstance(value, list):
        return tuple(map(_as_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _is_storable(value: object) -> bool:
    """Return whether all cells of a row are numbers or texts."""
    if isinstance(value, tuple):
        return all(map(_is_storable, value))
    return isinstance(value, bool | int | float | str)
