"""What models of frozen predictors share: the predictor is asked on the host, and is not stored."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from bayesdl.data.frames import as_table, as_target, same_index
from bayesdl.data.table import AbstractSchema, same_labels
from bayesdl.data.validation import ModelError, is_frame, is_series
from bayesdl.frozen.schema import FrozenSchema, some_rows
from bayesdl.model.examples import CommandLine
from bayesdl.model.table import AbstractTableModel
from bayesdl.typing import TableLike, Values
from bayesdl.warnings import DataWarning
from inference.core.problem import Problem

# what stands in files for a predictor
ASKED = "asked for at load"

Spec = TypeVar("Spec", bound="AbstractFrozen")


@dataclasses.dataclass(frozen=True)
class AbstractFrozen(AbstractTableModel):
    """A model of y given what a predictor says.

    Final classes have a field `predictor`.
    """

    multi_output: ClassVar[bool] = False

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        # a predictor is code
        return ()

    @property
    @abc.abstractmethod
    def predictor(self) -> Any:
        """The predictor; None where there is none, and the word `ASKED` in files."""

    @abc.abstractmethod
    def _table(self, X: TableLike) -> Any:
        """Return what the program takes of rows: a DataFrame or an array, before scaling."""

    @abc.abstractmethod
    def _answers(self, table: TableLike) -> np.ndarray:
        """Return the predictor's own answers in such a table, shape (rows, answers)."""

    def _schema(self, found: AbstractSchema, X: TableLike, table: TableLike) -> FrozenSchema:
        """Return the schema with some answers, by which the predictor is recognised."""
        if self.predictor is None:
            return FrozenSchema(found.columns, found.target, found.reading)
        rows, names, kept = some_rows(as_table(X))
        answers = tuple(map(tuple, self._answers(table)[kept].tolist()))
        return FrozenSchema(found.columns, found.target, found.reading, rows, names, answers)

    def problem(
        self, schema: FrozenSchema, X: Values, y: Values, *, weights: Values = None, **options: Any
    ) -> Problem:
        self._check_labels(X, y, weights)
        return super().problem(schema, self._table(X), y, weights=weights, **options)

    @staticmethod
    def _check_labels(X: Values, y: Values, weights: Values) -> None:
        """Refuse targets or weights of pandas whose rows have other labels than those of X.

        The table of predictions has no labels: this is the last place that sees them.

        Raises:
            DataError: with the first row that differs.
        """
        if not (is_frame(X) or is_series(X)):
            return
        if y is not None and not isinstance(y, str):
            same_labels(X, y)
        if weights is not None:
            table: Any = as_table(X)
            column: Any = as_target(weights, "weights")
            if table.shape[:1] == column.shape[:1]:
                same_index(table, column, ("X", "weights"))

    def inputs(self, schema: FrozenSchema, X: TableLike) -> tuple[tuple, dict]:
        return (schema.columns.read(self._table(X)),), {}

    def without_code(self: Spec) -> Spec:
        return self if self.predictor is None else dataclasses.replace(self, predictor=ASKED)

    def with_code(self: Spec, code: object, schema: FrozenSchema) -> Spec:
        if not isinstance(self.predictor, str):
            if code is not None:
                raise ModelError("The fit has no predictor: it takes predictions. Leave it out.")
            return self
        if code is None:
            raise ModelError(
                "The fit is of a predictor, which is not stored: give the same one, "
                "bdl.load(path, predictor=...)."
            )
        found = dataclasses.replace(self, predictor=code)
        if schema.rows:
            schema.check_answers(found._answers(found._table(schema.probe())))
        else:
            warnings.warn(
                "Whether the predictor is the one that was fitted is not checked: the file holds "
                "none of its rows, since no training row had numbers and texts only.",
                DataWarning,
                stacklevel=2,
            )
        return found

    def _refuse_none(self) -> None:
        """Refuse to predict where the predictor is missing, or only its path is there."""
        if not isinstance(self.predictor, str | bytes | Path):
            return
        if self.predictor == ASKED:
            raise ModelError("The predictor is missing: bdl.load(path, predictor=...).")
        raise ModelError(
            f"{type(self).__name__}({self.predictor!r:.60}): expected the predictor itself, not "
            "where it is: load it first."
        )
