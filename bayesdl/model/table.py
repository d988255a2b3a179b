"""Models of a table: rows of inputs X and targets y."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.fields import Field
from bayesdl.data.reading import Reading
from bayesdl.data.table import AbstractSchema, TableSchema, known_rows, same_labels
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError
from bayesdl.model.base import AbstractModel, site_distribution
from bayesdl.model.examples import CommandLine
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.model.weights import RowWeights
from bayesdl.typing import ColumnLike, TableLike, TargetKind, Values
from inference.core.problem import Problem
from inference.core.program import AbstractTraceable, unwrap
from inference.core.result import AbstractPredictive, Conditional
from inference.core.structure import AbstractStructure
from inference.core.typing import Params

RowsLike: TypeAlias = Any
"""Rows as a program sees them: a NumPy array, a JAX array, or a tensor of Pyro's."""


@dataclasses.dataclass(frozen=True)
class AbstractTableModel(AbstractModel):
    """Models of a table of rows X and targets y.

    The program is `program(X, y)` with the observed site "y". Final classes have fields
    `likelihood` and `standardize`, with defaults, or compute them as properties.

    Attributes:
        keeps_numpy: whether the program gets NumPy arrays as they are. By default it gets JAX
            arrays, which the index of a plate can index. Models that had checkpoints before this
            keep NumPy's, since the fingerprint of a run depends on it.
    """

    rows_are_independent: ClassVar[bool] = True
    needs_target: ClassVar[bool] = True
    keeps_numpy: ClassVar[bool] = False

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        return (CommandLine(cls.__name__.lower(), cls),)

    @property
    @abc.abstractmethod
    def likelihood(self) -> AbstractLikelihood:
        """The distribution of targets around the model's function."""

    @property
    @abc.abstractmethod
    def standardize(self) -> bool:
        """Whether inputs and real targets are standardised with the training data's mean and sd."""

    @property
    def kind(self) -> TargetKind:
        return self.likelihood.kind

    @abc.abstractmethod
    def program(self, X: jax.Array, y: jax.Array | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program.

        Args:
            X: the standardised inputs, shape (rows, columns).
            y: the standardised targets or class indices, shape (rows,) or (rows, targets); None
                where they are drawn.
            num_targets: the number of target columns, or of classes.
        """

    @property
    def takes_weights(self) -> bool:
        """Whether each row has a density of its own in the program, which a weight multiplies."""
        return not self.rows_correlated

    def structure(self, schema: AbstractSchema) -> AbstractStructure | None:
        """Return what the problem offers to special engines; None for nothing."""
        return None

    def simulator(self, num_classes: int) -> tuple[TableProgram, int]:
        likelihood: AbstractLikelihood = self.likelihood
        if likelihood.kind == "count":
            raise ModelError(
                f"PFN predicts real numbers and classes, got {likelihood}: use bdl.NUTS() or "
                "bdl.VI() for counts."
            )
        if self.standardize and likelihood.in_units((2.0,)) != likelihood:
            raise ModelError(
                f"{likelihood} fixes a scale in the units of y, which are not known before the "
                "data: learn it (bdl.Normal()), or give the model standardize=False."
            )
        classes = 0 if likelihood.kind == "real" else 2 if likelihood.two_classes else num_classes
        return TableProgram(self, classes or 1), classes

    def for_simulated_data(self) -> AbstractTableModel:
        return dataclasses.replace(self, standardize=False)

    def covers_classes(self, num_trained: int, num_classes: int) -> bool:
        """Return whether a network for `num_trained` classes can answer for `num_classes`."""
        return num_classes == num_trained

    def learn_schema(
        self, X: Values = None, y: Values = None, *, weights: Values = None, **options: Any
    ) -> AbstractSchema:
        """Learn columns, target and scaling.

        Args:
            X: the training inputs.
            y: the training targets.
            weights: how much each row counts.
            **options: how the table is read, the settings of `Reading`.
        """
        if X is None:
            raise DataError(
                "The inputs are missing: got X=None, expected bdl.fit(model, X, y) with an array "
                "or DataFrame X."
            )
        if y is None or isinstance(y, str):
            raise DataError(
                f"The target is missing: got y={y!r}, expected bdl.fit(model, X, y) with an array "
                "or column y."
            )
        reading = Reading.from_options(options)
        X, y, _ = known_rows(X, y, weights, reading)
        likelihood = self.likelihood
        target = (likelihood.kind, self.standardize, likelihood.two_classes)
        return TableSchema.learn(X, y, target, self.standardize, reading)

    def problem(
        self,
        schema: AbstractSchema,
        X: Values,
        y: Values,
        *,
        weights: Values = None,
        **options: Any,
    ) -> Problem:
        X, y, counts = known_rows(X, y, weights, schema.reading)
        named = {} if counts is None else {"weights": counts}
        return self.build_problem(schema, (schema.columns.read(X), schema.target.read(y)), named)

    def notes(self, schema: AbstractSchema) -> list[str]:
        return schema.notes

    def text_columns(self, schema: AbstractSchema) -> list[str]:
        return schema.columns.categories if schema.columns.named else []

    def fields(self, schema: AbstractSchema, problem: Problem) -> tuple[Field, ...]:
        columns = schema.columns
        known = dict(zip(columns.names, columns.encodings, strict=True))
        # columns without names are known by their places, and all of them are needed
        needed = columns.names if columns.named else columns.given or columns.names
        return tuple(
            Field(name, one.kind, one.levels) if (one := known.get(name)) else Field(name)
            for name in needed
        )

    def concerns(self, schema: AbstractSchema) -> list[str]:
        return schema.concerns

    def build_problem(self, schema: AbstractSchema, args: tuple, kwargs: dict) -> Problem:
        standardised = self.in_units(schema.target.scale)
        program = standardised.program_for(schema)
        if "weights" not in kwargs:
            return Problem(program, args, structure=standardised.structure(schema))
        if not self.takes_weights:
            raise ModelError(
                f"{self.name} has one distribution for all rows, which takes no weights but whole "
                "numbers: give weights as counts, or fit a BNN."
            )
        # what engines exploit beyond the program knows nothing of weights
        return Problem(program, args, kwargs)

    def in_units(self, scale: tuple[float, ...]) -> AbstractTableModel:
        """Return the model with the likelihood's scales in units of standardised targets.

        Args:
            scale: the standard deviation that each target column was divided by.
        """
        return dataclasses.replace(self, likelihood=self.likelihood.in_units(scale))

    def split_params(self) -> tuple[AbstractTableModel, Params]:
        """Return the model without the numbers that may be traced, and these numbers."""
        return self, None

    def merge_params(self, numbers: Params) -> AbstractTableModel:
        """Return the model with its numbers again."""
        return self

    def program_for(self, schema: AbstractSchema) -> TableProgram:
        """Return the program for as many targets as the schema has."""
        return TableProgram(self, schema.target.num_targets)

    def inputs(self, schema: AbstractSchema, X: TableLike) -> tuple[tuple, dict]:
        return (schema.columns.read(X),), {}

    def training_inputs(self, problem: Problem) -> tuple[tuple, dict]:
        return (problem.args[0],), {}

    def target(self, schema: AbstractSchema, problem: Problem) -> Target:
        return schema.target

    def target_site(self, problem: Problem) -> str:
        return "y"

    def observed_values(self, schema: AbstractSchema, problem: Problem) -> dict[str, np.ndarray]:
        return {"y": schema.target.in_units(problem.args[1])}

    def log_unit(self, schema: AbstractSchema) -> float:
        return float(np.log(schema.target.scale).sum())

    def input_column(
        self, schema: AbstractSchema, problem: Problem
    ) -> tuple[np.ndarray | None, str]:
        columns, X = schema.columns, np.asarray(problem.args[0])
        if X.ndim != 2 or X.shape[1] != 1:
            return None, "x"
        name = columns.names[0] if columns.named else "x"
        return columns.shift[0] + X[:, 0] * columns.scale[0], name

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        settings = {} if around is None else {"around": around}
        program = unwrap(problem.program)
        if not isinstance(program, AbstractTraceable):
            return RowPredictive(problem.program, None, settings)
        return RowPredictive(*program.split_params(), settings)

    def inputs_and_target(
        self, problem: Problem, X: TableLike, y: ColumnLike
    ) -> tuple[tuple, dict, Any]:
        same_labels(X, y)
        return (X,), {}, y


@dataclasses.dataclass(frozen=True)
class TableProgram(AbstractTraceable):
    """The program of a table model; equal models give equal programs.

    Attributes:
        model: the model, its likelihood's scales in units of standardised targets.
        num_targets: the number of target columns, or of classes.
    """

    model: AbstractTableModel
    num_targets: int

    def __call__(
        self,
        X: RowsLike,
        y: RowsLike | None = None,
        weights: RowsLike | None = None,
        **settings: object,
    ) -> None:
        if not self.model.keeps_numpy:
            X, y = _as_jax(X), _as_jax(y)
        if weights is None:
            self.model.program(X, y, num_targets=self.num_targets, **settings)
            return
        weighted = RowWeights(self.model.program, _as_jax(weights))
        weighted(X, y, num_targets=self.num_targets, **settings)

    def split_params(self) -> tuple[TableProgram, Params]:
        model, numbers = self.model.split_params()
        return TableProgram(model, self.num_targets), numbers

    def merge_params(self, numbers: Params) -> TableProgram:
        return TableProgram(self.model.merge_params(numbers), self.num_targets)


def _as_jax(values: object) -> Any:
    """Return a NumPy array as a JAX array, which the index of a plate can index.

    Anything else is returned as it is.
    """
    if not isinstance(values, np.ndarray):
        return values
    # outside of what is being traced, so that compiled programs hold the array and not its copying
    with jax.ensure_compile_time_eval():
        return jnp.asarray(values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class RowPredictive(AbstractPredictive):
    """The distribution of new rows of a table, which are independent given the latent sites.

    Attributes:
        program: the program without its numbers.
        numbers: the numbers of the program.
        settings: keyword arguments of the program.
    """

    program: Callable = dataclasses.field(metadata={"static": True})
    numbers: Params
    settings: dict

    def __call__(self, latents: dict, key: jax.Array, X: RowsLike) -> Conditional:
        program = self.program
        if isinstance(program, AbstractTraceable):
            program = program.merge_params(self.numbers)
        distribution = site_distribution(program, "y", latents, key, (X,), self.settings)
        return Conditional(distribution, jnp.zeros(X.shape[0]))
