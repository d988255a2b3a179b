"""Functional tensors (FunBaT): y at tuples of real-valued indexes.

    y_n ~ p(y | f(i_n)),    f(i) = sum_{j_1..j_K} W_{j_1..j_K} prod_k u^k_{j_k}(i_k),
    u^k_j ~ GP(0, s_kj^2 k_k),

with a core W of independent N(0, 1) ("tucker"), or f(i) = sum_j prod_k u^k_j(i_k) ("cp"). A mode is
one index, such as the day or the temperature. Its Gaussian processes are Matern, plus a constant if
asked for, so they are Markov: their cost is linear in the number of distinct indexes.
Reference: Fang et al. (2024), arXiv:2311.04829.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jax.typing import ArrayLike

from bayesdl.data.cells import CATEGORY, NUMBER, refuse_dates
from bayesdl.data.columns import Columns
from bayesdl.data.frames import as_table, as_target
from bayesdl.data.reading import Reading
from bayesdl.data.table import TableSchema, same_rows
from bayesdl.data.target import Target, plain
from bayesdl.data.validation import DataError, ModelError, is_frame, rectangular
from bayesdl.gp import kernels
from bayesdl.model import likelihoods
from bayesdl.model.examples import CommandLine, Example, Parts, tensor_rows
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.model.table import AbstractTableModel
from bayesdl.tensor.mode import Mode
from bayesdl.tensor.program import DrawnTensorPredictive, TensorProgram
from bayesdl.typing import ColumnLike, TableLike, TensorForm
from inference.core.problem import Problem
from inference.core.program import unwrap
from inference.core.result import AbstractPredictive
from inference.core.structure import StateSpaceTensor
from inference.messages import pseudo_observations as scalar
from inference.messages.forms import FORMS


@dataclasses.dataclass(frozen=True)
class FunBaT(AbstractTableModel):
    """A functional tensor: products of functions of one index each.

    Args:
        modes: a tuple of two or more indexes; a name stands for a mode with the defaults of `Mode`.
        form: "cp", the sum of as many products as each mode has functions, or "tucker", all
            products with a core, for which modes may have different ranks.
        likelihood: `Normal()`, `StudentT(df=...)`, `Bernoulli()` or `Poisson()`.
        relevance: whether functions have scales s, with prior HalfNormal(1), so that those that
            are not needed go to zero: one for each product in the form "cp", one for each function
            of each mode in the form "tucker".
        standardize: whether the target is standardised; indexes are taken as they are.

    Data are `fit(model, X, y)` with X a DataFrame that has columns of the modes' names (other
    columns are ignored), a dictionary of arrays, or an array with a column for each mode in this
    order. Rows may repeat; rows whose y is missing are left out.

    Beyond the data, predictions return to the mean. Counts have a log-normal rate, whose mean is
    meaningless where its log is poorly known: a warning says so, and `quantile(0.5)` still holds.

    Example:
        >>> FunBaT(("row", "column")).ranks
        (2, 2)
    """

    modes: Any
    form: TensorForm = "cp"
    likelihood: AbstractLikelihood = likelihoods.Normal()
    relevance: bool = True
    standardize: bool = True
    multi_output: ClassVar[bool] = False

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("FunBaT", cls(("i", "j"), relevance=False), tensor_rows()),)

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        help_text = "a functional tensor; needs --modes"
        parts = Parts("modes", "mode", Mode, {"kernel": kernels})
        return (CommandLine("funbat", cls, help_text, parts=parts),)

    def __post_init__(self) -> None:
        # a string is not taken as a tuple of its letters
        given = self.modes if isinstance(self.modes, tuple | list) else ()
        modes = tuple(Mode(mode) if isinstance(mode, str) else mode for mode in given)
        if len(modes) < 2 or not all(isinstance(mode, Mode) for mode in modes):
            raise ModelError(
                f"FunBaT(modes={self.modes!r}): expected a tuple of two or more of bdl.Mode or "
                "names of columns, e.g. ('day', 'price')."
            )
        object.__setattr__(self, "modes", modes)
        names = [mode.name for mode in modes]
        if len(set(names)) < len(names):
            raise ModelError(f"FunBaT(modes=...): got the names {names}, expected different ones.")
        if self.form not in FORMS:
            raise ModelError(
                f"FunBaT(form={self.form!r}): expected one of {', '.join(map(repr, FORMS))}."
            )
        if self.form == "cp" and len(set(self.ranks)) > 1:
            raise ModelError(
                f"FunBaT(form='cp') needs equal ranks, got {self.ranks}: make them equal, or use "
                "form='tucker'."
            )
        able = (
            likelihoods.Normal | likelihoods.StudentT | likelihoods.Bernoulli | likelihoods.Poisson
        )
        if (
            not isinstance(self.likelihood, able)
            or getattr(self.likelihood, "scale", None) == "heteroscedastic"
        ):
            raise ModelError(
                "FunBaT takes likelihood=bdl.Normal(), StudentT(), Bernoulli() or Poisson() with "
                f"one scale, got {self.likelihood}."
            )

    @property
    def double_precision(self) -> bool:
        """True: Kalman filters need it."""
        return True

    @property
    def ranks(self) -> tuple[int, ...]:
        """The number of functions of each mode."""
        return tuple(mode.rank for mode in self.modes)

    # data

    def indexes(self, X: Any) -> Any:
        """Return the columns of the modes, in their order.

        Raises:
            DataError: for a missing column, or columns that make no table.
        """
        names = [mode.name for mode in self.modes]
        X = X if isinstance(X, Mapping) else as_table(X)
        if isinstance(X, Mapping) or is_frame(X):
            missing = [name for name in names if name not in X]
            if missing:
                raise DataError(
                    f"X lacks column {', '.join(map(repr, missing))}: got "
                    f"{list(map(str, X))[:10]}, expected {names}."
                )
            import pandas as pd

            columns = {name: _read_index_column(name, X[name]) for name in names}
            rows = {name: len(column) for name, column in columns.items()}
            if len(set(rows.values())) > 1:
                raise DataError(
                    f"X is ragged: got {rows} entries in its columns, expected as many in every "
                    "one."
                )
            return pd.DataFrame(columns)
        return X

    def learn_schema(
        self, X: TableLike | None = None, y: ColumnLike | None = None, **options: Any
    ) -> TableSchema:
        if options:
            raise DataError(
                f"FunBaT reads indexes, and takes no {', '.join(options)}: give the columns of its "
                "modes; rows whose target is missing are left out."
            )
        if X is None or y is None or isinstance(y, str):
            raise DataError(
                f"Expected bdl.fit(model, X, y) with indexes X and a target y: got X={X!r:.40}, "
                f"y={y!r:.40}."
            )
        X, y = self.known_entries(X, y)
        likelihood = self.likelihood
        target = Target.learn(y, likelihood.kind, self.standardize, likelihood.two_classes)
        schema = TableSchema(Columns.learn(X, False, Reading(missing="error")), target)
        if schema.target.num_targets > 1 and schema.target.kind != "class":
            raise DataError(
                f"FunBaT takes one target column, y has {schema.target.num_targets}: fit one "
                "tensor per column."
            )
        columns = schema.columns
        for name, encoding in zip(columns.names, columns.encodings, strict=True):
            if encoding.kind != NUMBER:
                holds = "text" if encoding.kind == CATEGORY else "dates"
                raise DataError(
                    f"Column '{name}' holds {holds}, and an index is a number: use its position, "
                    "such as days since a start."
                )
        given, modes = columns.given or columns.names, self.modes
        if len(given) != len(modes):
            raise DataError(
                f"X has {len(given)} columns, expected {len(modes)}: one for each mode."
            )
        for mode, name in zip(modes, given, strict=True):
            if name in columns.constant(()):
                self._refuse_indexes(mode, 1)
        names = tuple(mode.name for mode in modes)
        columns = dataclasses.replace(columns, names=names, given=names)
        for mode, values in zip(modes, columns.read(X).T, strict=True):
            self._refuse_indexes(mode, len(np.unique(values)))
        return dataclasses.replace(schema, columns=columns)

    def _refuse_indexes(self, mode: Mode, distinct: int) -> None:
        """Refuse a mode whose indexes are too few.

        Raises:
            DataError: naming the mode, the number of its indexes, and the cure.
        """
        if distinct >= max(2, mode.rank):
            return
        indexes = "index" if distinct == 1 else "indexes"
        raise DataError(
            f"Mode '{mode.name}' has {distinct} distinct {indexes} and rank {mode.rank}: expected "
            "at least two, and as many as its rank. Leave the mode out, or lower its rank."
        )

    def known_entries(self, X: TableLike, y: ColumnLike) -> tuple[Any, Any]:
        """Return the rows whose target is not missing.

        Raises:
            DataError: if every target is missing.
        """
        table, y = self.indexes(X), as_target(y)
        same_rows(table, y)
        values = plain(y)
        if values.dtype.kind != "f" or values.ndim != 1 or not np.isnan(values).any():
            return table, y
        kept = ~np.isnan(values)
        if not kept.any():
            raise DataError("Every y is missing (NaN): got none, expected some.")
        # a Series keeps its name
        parts: list[Any] = [table, y]
        table, target = (
            part[kept] if hasattr(part, "shape") else np.asarray(part)[kept] for part in parts
        )
        return table, target

    def problem(self, schema: TableSchema, X: TableLike, y: ColumnLike) -> Problem:
        return super().problem(schema, *self.known_entries(X, y))

    def inputs(self, schema: TableSchema, X: TableLike) -> tuple[tuple, dict]:
        return super().inputs(schema, self.indexes(X))

    def inputs_and_target(
        self, problem: Problem, X: TableLike, y: ColumnLike
    ) -> tuple[tuple, dict, Any]:
        return super().inputs_and_target(problem, *self.known_entries(X, y))

    # the model

    def build_problem(self, schema: TableSchema, args: tuple, kwargs: dict) -> Problem:
        model = dataclasses.replace(self, likelihood=self.likelihood.in_units(schema.target.scale))
        pairs = [np.unique(column, return_inverse=True) for column in np.asarray(args[0]).T]
        program = TensorProgram(model, tuple(values for values, _ in pairs))
        scale = getattr(model.likelihood, "scale", None)
        likelihood, reason = _scalar(model.likelihood)
        structure = StateSpaceTensor(
            names=tuple(mode.name for mode in self.modes),
            ranks=self.ranks,
            smoothness=tuple(mode.smoothness for mode in self.modes),
            form=self.form,
            positions=program.positions,
            entry_positions=tuple(places for _, places in pairs),
            likelihood=likelihood,
            kernels=program.kernels_at,
            hyperparameters=program.hyperparameters,
            scale=scale if isinstance(scale, int | float) else None,
            no_likelihood=reason,
        )
        return Problem(program, args, structure=structure)

    def program(self, X: ArrayLike, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the program with the distinct indexes of X as positions."""
        TensorProgram(self, tuple(np.unique(column) for column in np.asarray(X).T))(X, y)

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        program: Any = unwrap(problem.program)
        return DrawnTensorPredictive(program)

    def identified(self, site: str) -> bool:
        """Whether the data can pin down a site: only the noise, as functions may be exchanged."""
        return site in ("sigma", "df")


def _read_index_column(name: str, column: object) -> np.ndarray:
    """Return a column of indexes as it was given.

    Raises:
        DataError: for dates, which NumPy would take for numbers, and for anything but one index per
            row.
    """
    refuse_dates(name, column)
    column = rectangular(f"Column '{name}'", column)
    if column.ndim != 1:
        got = repr(column.item()) if column.ndim == 0 else f"shape {column.shape}"
        raise DataError(
            f"Column '{name}' is not a column: got {got}, expected shape (rows,), such as a list "
            "of numbers."
        )
    return column


def _scalar(
    likelihood: AbstractLikelihood,
) -> tuple[scalar.AbstractScalarLikelihood | None, str | None]:
    """Return the likelihood as message passing takes it, or None and the reason why it cannot."""
    if isinstance(likelihood, likelihoods.StudentT):
        if not isinstance(likelihood.df, int | float):
            return None, "its degrees of freedom are learned; give bdl.StudentT(df=...) a number"
        return scalar.StudentT(float(likelihood.df)), None
    scalars = {
        likelihoods.Normal: scalar.Normal,
        likelihoods.Bernoulli: scalar.Bernoulli,
        likelihoods.Poisson: scalar.Poisson,
    }
    return scalars[type(likelihood)](), None
