"""The abstract model: a spec of plain data that reads data, writes a program and predicts.

Data flow one way: data -> schema (what the data look like) -> problem (program and arrays) ->
engine -> result.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import numpy as np
from numpyro import handlers
from numpyro.distributions import Distribution

from bayesdl.data.fields import Field, fields_of
from bayesdl.data.target import Target
from bayesdl.data.validation import ModelError, check_call
from bayesdl.model.examples import CommandLine, Example
from bayesdl.model.names import Names, site_in
from bayesdl.typing import Frame, Schema, TargetKind
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive
from inference.core.typing import Arguments, NewEntries, Program
from inference.settings import AbstractSettings

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shapes of sites by name."""


class NewData(NamedTuple):
    """New inputs of a program.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
        entries: the latent sites that have entries without draws.
    """

    args: Arguments
    kwargs: dict
    entries: NewEntries = NewEntries()


@dataclasses.dataclass(frozen=True)
class AbstractModel(AbstractSettings, abc.ABC):
    """A model spec. Final classes are frozen dataclasses of plain data.

    Attributes:
        rows_are_independent: whether inputs are rows of a table that can be predicted in any
            chunks, and whose observed values are the program's second argument.
        multi_output: whether y may have several target columns.
        needs_target: whether units and classes are learned from y, so that even the prior needs it.
        holds_code: whether the model holds functions, which are not stored in files.
        rows_correlated: whether rows depend on each other given the latent sites; the predictive
            then takes `joint=True`.
        predicts_columns: whether `predict(rows, of=...)` names the column that is predicted.
        no_other_engine: whether a `PFN` alone can answer, as draws of the model differ in kind.
    """

    rows_are_independent: ClassVar[bool] = False
    multi_output: ClassVar[bool] = True
    needs_target: ClassVar[bool] = False
    holds_code: ClassVar[bool] = False
    rows_correlated: ClassVar[bool] = False
    predicts_columns: ClassVar[bool] = False
    no_other_engine: ClassVar[bool] = False

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return small problems, each a column of the table of engines and models.

        The contract tests run every engine on the first one.
        """
        return ()

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        """Return how the command line makes this model, a value of `--model` each."""
        return ()

    @property
    def name(self) -> str:
        """The model's name in messages and files."""
        return type(self).__name__

    @property
    def kind(self) -> TargetKind | None:
        """What targets are: "real", "class" or "count"; None where only the data tell."""
        return None

    @property
    def standardize(self) -> bool:
        """Whether inputs and real targets are standardised before the program sees them."""
        return False

    @property
    def double_precision(self) -> bool:
        """Whether the model's arithmetic needs 64 bits, as Cholesky factors do."""
        return False

    def in_double(self) -> AbstractModel:
        """Return the model with its arithmetic in double precision.

        Raises:
            ModelError: for a model whose precision is that of JAX.
        """
        if self.double_precision:
            return self
        raise ModelError(
            f"double=True is for NumPyro functions, got {type(self).__name__}: set "
            "jax.config.update('jax_enable_x64', True) instead."
        )

    @abc.abstractmethod
    def learn_schema(self, *data: object, **named: object) -> Schema:
        """Learn what the data look like.

        Args:
            *data: the data as `fit` takes them.
            **named: data by the names of a program's arguments.

        Raises:
            DataError: where the data cannot be used.
        """

    def notes(self, schema: Schema) -> list[str]:
        """Return how the data were read, a clause for each part that was not read as it is."""
        return []

    def text_columns(self, schema: Schema) -> list[str]:
        """Return the columns of a table that are text, also where some rows look like numbers."""
        return []

    def concerns(self, schema: Schema) -> list[str]:
        """Return what a user should look at in the data before trusting a fit, a sentence each."""
        return []

    @abc.abstractmethod
    def problem(self, schema: Schema, *data: object, **named: object) -> Problem:
        """Return the program with the data, as engines take it."""

    def learn(self, *data: object, **named: object) -> tuple[Schema, Problem]:
        """Return what the data look like, and the program with them; see `learn_schema`."""
        check_call("fit", self.name, self.learn_schema, *data, **named)
        schema = self.learn_schema(*data, **named)
        return schema, self.problem(schema, *data, **named)

    @abc.abstractmethod
    def build_problem(self, schema: Schema, args: Arguments, kwargs: dict) -> Problem:
        """Return the problem from arguments that are already as the program takes them."""

    @abc.abstractmethod
    def inputs(self, schema: Schema, *data: object, **named: object) -> tuple[Arguments, dict]:
        """Return the program's arguments for predicting new data, without observations."""

    def check_new_data(
        self,
        problem: Problem,
        args: Arguments,
        kwargs: dict,
        drawn: Callable[[], Shapes],
        sample: bool,
    ) -> NewData:
        """Return new inputs as the program takes them, checked against the training data.

        Args:
            problem: the problem with the training data.
            args: the new inputs, as `inputs` gives them.
            kwargs: the new inputs by name.
            drawn: gives the shapes of the draws of latent sites by name.
            sample: whether entries of latent sites that were not in the training data are drawn.

        Raises:
            DataError: where the draws do not fit the new data.
        """
        if sample:
            raise ModelError(
                f"new_levels='sample' is for NumPyro functions, got {type(self).__name__}."
            )
        return NewData(args, kwargs)

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        """Return functions of a posterior that its fits have as methods, by name."""
        return {}

    def remarks(self, problem: Problem) -> list[str]:
        """Return lines that tell the user, before a fit, what the data leave open."""
        return []

    @abc.abstractmethod
    def training_inputs(self, problem: Problem) -> tuple[Arguments, dict]:
        """Return the program's arguments for predicting at the training data."""

    @abc.abstractmethod
    def target(self, schema: Schema, problem: Problem) -> Target:
        """Return what is predicted, in the user's units."""

    @abc.abstractmethod
    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        """Return the distribution of new data given one draw of the latent sites.

        Args:
            problem: the problem with the training data.
            around: the values of the latent sites around which the model's network, if it has
                one, is replaced by its linearisation.
        """

    @abc.abstractmethod
    def inputs_and_target(
        self, problem: Problem, *data: object, **named: object
    ) -> tuple[tuple, dict, Any]:
        """Split data, given as to `fit`, into inputs (args, kwargs) and the target."""

    @abc.abstractmethod
    def target_site(self, problem: Problem) -> str:
        """Return the name of the site that is predicted."""

    def at_site(self, problem: Problem, site: str) -> AbstractModel:
        """Return the model that predicts another of its observed sites.

        Raises:
            ModelError: for a site that is not observed, listing those that are.
        """
        if site != self.target_site(problem):
            raise ModelError(
                f"No observed site {site!r}: expected site={self.target_site(problem)!r}."
            )
        return self

    def predicts_one(self, problem: Problem) -> bool:
        """Return whether it is settled which of the observed sites is predicted."""
        return True

    def takes(self, name: str) -> bool:
        """Return whether the program has an argument of this name, which it is then given."""
        return False

    def target_title(self, problem: Problem) -> str:
        """Return what pictures call the target; empty where by the name of its site."""
        return ""

    def with_target_site(self, problem: Problem) -> AbstractModel:
        """Return the model with the site to predict settled, where no observations were given.

        Raises:
            ModelError: where more than one site may be meant.
        """
        return self

    def names(self, schema: Schema) -> Names:
        """Return the labels of what sites hold, where the model knows them."""
        return Names()

    def training_frame(self, schema: Schema, problem: Problem) -> Frame | None:
        """Return the training inputs as a table in the user's columns, where that is possible."""
        return None

    def fields(self, schema: Schema, problem: Problem) -> tuple[Field, ...]:
        """Return the columns of new rows; none for a model that does not predict rows."""
        table = self.training_frame(schema, problem)
        return () if table is None else fields_of(table)

    def typical_settings(self, along: tuple[str, ...]) -> dict[str, Any]:
        """Return what `predict` is told for typical rows, which belong to no group.

        Args:
            along: the columns that do not have a typical value.
        """
        return {}

    def predictor_predictive(self, problem: Problem) -> AbstractPredictive:
        """Return the predictive of the linear predictor, one value a row given each draw.

        Raises:
            ModelError: for a model without one.
        """
        raise ModelError(
            f"linear_predictor is of formulas, got {self.name}: see post.predict(..., kind='mean')."
        )

    def predictor_names(self, problem: Problem) -> tuple[str, ...]:
        """Return the names of the linear predictors; empty where there is one."""
        return ()

    def observed_values(self, schema: Schema, problem: Problem) -> dict[str, np.ndarray] | None:
        """Return the observed sites' values in the units of y, classes as their indices.

        None where only a run of the program tells them.
        """
        return None

    def log_unit(self, schema: Schema) -> float:
        """Return what a row's log density loses when y is given in its own units."""
        return 0.0

    def input_column(self, schema: Schema, problem: Problem) -> tuple[np.ndarray | None, str]:
        """Return the input as it was given and its name, where it is one column of numbers."""
        return None, "x"

    def simulator(self, num_classes: int) -> tuple[Program, int]:
        """Return the program of (X, y=None) that draws data sets, and the number of classes.

        The number is 0 for real targets.

        Args:
            num_classes: the number of classes where the likelihood leaves it open.

        Raises:
            ModelError: if the model has no such program.
        """
        raise ModelError(
            f"PFN.train takes a table model or a NumPyro function, got {type(self).__name__}."
        )

    def for_simulated_data(self) -> AbstractModel:
        """Return the same model for many data sets that `simulator` drew.

        It takes data in its own units, and data sets of one shape share what is compiled.
        """
        return self

    def exact_predictive(self, num_inputs: int) -> Callable[..., jax.Array] | None:
        """Return a function (X, y, X_new, y_new) -> log p(y_new | X_new, X, y).

        None where no exact one is known.
        """
        return None

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        """Return whether columns of zeros leave the model unchanged.

        Args:
            fewest: the smallest number of columns for which that must hold.
            most: the largest number of columns.
        """
        return False

    def without_code(self) -> AbstractModel:
        """Return the model as it stands in files: without a predictor that is not stored."""
        return self

    def with_code(self, code: object, schema: Schema) -> AbstractModel:
        """Return the model of a file with the predictor that it was fitted with.

        Args:
            code: the predictor that the user gave, or None.
            schema: what the training data looked like, by which the predictor is recognised.

        Raises:
            ModelError: where a predictor is lacking, or none is wanted.
            DataError: for another predictor.
        """
        if code is not None:
            raise ModelError(f"{type(self).__name__} has no predictor: leave it out.")
        return self

    def identified(self, site: str) -> bool:
        """Return whether the data can pin down this site, so that chains must agree on it."""
        return True

    def shows(self, site: str) -> bool:
        """Return whether summaries and pictures show this site."""
        return self.identified(site)

    def _repr_html_(self) -> str:
        from bayesdl.plots.html import model_html

        return model_html(self)


def site_distribution(
    program: Program,
    site: str,
    latents: dict,
    key: jax.Array,
    args: Arguments,
    kwargs: Mapping[str, Any],
) -> Distribution:
    """Return the distribution of an unobserved site of a program given its latent sites.

    Args:
        program: the program.
        site: the name of the site.
        latents: the values of the latent sites.
        key: the key from which other unobserved sites are drawn.
        args: the program's arguments.
        kwargs: the program's keyword arguments.
    """
    conditioned = handlers.substitute(handlers.seed(program, key), data=latents)
    trace = handlers.trace(conditioned).get_trace(*args, **kwargs)
    return trace[site_in(trace, site)]["fn"]
