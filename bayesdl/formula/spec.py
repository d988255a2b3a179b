"""Models written as formulas: `bdl.Formula("reaction ~ days + (days | subject)")`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from bayesdl.data.frames import as_target
from bayesdl.data.reading import Reading
from bayesdl.data.table import known_rows
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError, did_you_mean
from bayesdl.formula.families import Family, family_of
from bayesdl.formula.learning import Learner, variables_in
from bayesdl.formula.parsing import Predictor, parse
from bayesdl.formula.priors import Choice
from bayesdl.formula.program import FormulaProgram, Plan, arrays_of, source_of
from bayesdl.formula.schema import (
    FormulaSchema,
    Priors,
    censored_rows,
    check_sites,
    learn_response,
    read_response,
    read_variables,
    refuse_response,
)
from bayesdl.formula.terms import merged
from bayesdl.formula.variables import Variable, column_of, table_of
from bayesdl.model.examples import CommandLine, Example
from bayesdl.model.names import Names
from bayesdl.model.table import AbstractTableModel, RowPredictive
from bayesdl.typing import ColumnLike, DataFrame, TableLike, TargetKind
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive

WeightsLike: TypeAlias = ColumnLike | str | None
"""How much each row counts, or the name of a column."""

GROUPS = ("error", "sample", "population")


@dataclasses.dataclass(frozen=True)
class Formula(AbstractTableModel):
    """A regression model written as a formula; `fit(Formula(...), df)` takes one table.

    The left side names the response: `y`, `k | trials(n)` for binomial counts, `t | cens(c)` for
    times that are right-censored where c is true. The right side may have:

    - fixed terms in the language of formulaic: `x * g`, `log(x)`, `poly(x, 2)`, `bs(x, df=5)`,
      `C(g, contr.sum)`, `0 + g`;
    - group terms `(1 | g)`, `(x | g)` with correlated effects, `(x || g)` with independent ones,
      `(1 | g1:g2)`, and `(1 | g1/g2)` for `(1 | g1) + (1 | g1:g2)`;
    - `s(x)`, a smooth function (a Gaussian process of low rank; `s(x, m=30)` takes more
      functions), and `gp(x)`, an exact process;
    - `mo(x)`, a monotone effect of an ordered factor;
    - `offset(log(n))`, a term without a coefficient.

    Default priors are weakly informative, as those of rstanarm and Bambi. With s = sd(y - offset)
    where the mean of a real response has the link identity, s = sd(y) / (1 - exp(-mean(y))) for
    softplus, and s = 1 otherwise: coefficients Normal(0, 2.5 s / sd(x)); the intercept, at the
    means of the columns, Normal(m, 2.5 s) with m the link of mean(y), or 0 for probabilities, less
    the mean of the offset (for the link log, less log(mean(exp(offset)))); standard deviations of
    effects of groups HalfNormal(2.5 s / sd(x)), correlations LKJ(1); sigma Exponential(1 / s).
    Without an intercept coefficients are Normal(0, 2.5 sqrt(s^2 + m^2) / sqrt(mean(x^2))), and so
    are groups if the columns cannot add up to a constant. Formulas of other parameters have s = 1
    and coefficients Normal(0, 1 / sd(x)); their intercept is Normal(m, 2.5), with the link "logit"
    Normal(m, 1.5), with m the link of a typical value. `priors(df)` lists them.

    Args:
        formula: the formula of the mean.
        parameters: formulas of other parameters, such as "sigma ~ x" or "zi ~ x".
        likelihood: "normal", "student_t", "lognormal", "gamma", "weibull", "beta", "bernoulli",
            "binomial", "poisson", "negative_binomial", "zero_inflated_poisson",
            "zero_inflated_negative_binomial", "ordered" or "categorical"; or `bdl.Normal()` and
            the like.
        priors: NumPyro distributions, or numbers that fix them, by the names that `priors(df)`
            lists; for correlations the concentration of LKJ.
        link: the link of the mean, such as "log" or "probit"; None for that of the likelihood.
        centred: whether effects of groups are drawn themselves (True), or as standard normals times
            their scale (False). None chooses: themselves where half of the groups have 50 rows or
            more of numbers or counts.

    Example:
        >>> import numpy as np
        >>> import bayesdl as bdl
        >>> df = {"x": np.arange(8.0), "y": 2 * np.arange(8.0) + np.tile([0.1, -0.1], 4)}
        >>> post = bdl.fit(bdl.Formula("y ~ x"), df, engine=bdl.Laplace(), progress=False)
        >>> list(post.summary().index)
        ['Intercept', 'sigma', 'x']
    """

    formula: str
    parameters: Any = ()
    likelihood: Any = "normal"
    priors: Any = dataclasses.field(default_factory=dict)
    link: str | None = None
    centred: bool | None = None
    standardize: ClassVar[bool] = False  # pyright: ignore
    multi_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.formula, str):
            raise ModelError(f"Formula({self.formula!r}): expected text such as 'y ~ x'.")
        given = (self.parameters,) if isinstance(self.parameters, str) else self.parameters
        object.__setattr__(self, "parameters", tuple(given))
        parse(self.formula)
        family, _ = self.family
        for text in self.parameters:
            response, _ = parse(text)
            if response.name not in family.parameters or response.trials or response.censored:
                known = list(family.parameters) or "none"
                raise ModelError(
                    f"Formula {text!r}: likelihood={family.name!r} has no parameter "
                    f"{response.name!r} beside its mean, expected one of {known}."
                )
        if self.link is not None and self.link not in family.links:
            raise ModelError(
                f"Formula(link={self.link!r}): likelihood={family.name!r} takes one of "
                f"{', '.join(map(repr, family.links))}."
            )
        if not hasattr(self.priors, "keys"):
            raise ModelError(f"Formula(priors={self.priors!r:.60}): expected a dictionary by site.")
        object.__setattr__(self, "priors", Priors(self.priors, self.learn_schema))

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        import pandas as pd

        random = np.random.default_rng(0)
        g, x = np.repeat(list("abcd"), 8), random.normal(size=32)
        y = x + np.repeat([0.5, -0.5, 0.2, -0.2], 8) + 0.5 * random.normal(size=32)
        return (
            Example("Formula", cls("y ~ x + (1 | g)"), (pd.DataFrame({"x": x, "g": g, "y": y}),)),
        )

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        return ()

    @property
    def family(self) -> tuple[Family, dict[str, Any]]:
        """The likelihood, and the priors that it sets."""
        return family_of(self.likelihood)

    @property
    def kind(self) -> TargetKind:
        return self.family[0].kind

    @property
    def double_precision(self) -> bool:
        return True

    # what a user asks of a formula

    def source(self, data: TableLike, weights: WeightsLike = None) -> str:
        """Return the NumPyro program as text that runs on its own.

        It takes the arrays of `arrays`, and has the log density of the program that is fitted.

        Args:
            data: the training data.
            weights: how much each row counts, as in `bdl.fit`.
        """
        plan = self.learn_schema(data, weights=weights).plan
        return source_of(plan, self._table((data,), weights, {})[1] is not None)

    def arrays(self, data: TableLike, weights: WeightsLike = None) -> dict[str, Any]:
        """Return the arguments of the printed program by name, the response "y" included.

        Args:
            data: the training data.
            weights: how much each row counts, as in `bdl.fit`.
        """
        schema = self.learn_schema(data, weights=weights)
        problem = self.problem(schema, data, weights=weights)
        return {**arrays_of(schema.plan, problem.args[0]), "y": problem.args[1], **problem.kwargs}

    # data

    def learn_schema(
        self, *data: object, weights: WeightsLike = None, **named: object
    ) -> FormulaSchema:
        """Learn columns, levels and default priors.

        Args:
            *data: the training data, one table.
            weights: how much each row counts, as numbers or as the name of a column.
            **named: nothing else.

        Raises:
            DataError: where the data cannot be used.
            ModelError: where the formula cannot be.
        """
        table, _ = self._table(data, weights, named)
        response, predictor = parse(self.formula)
        others = {left.name: right for left, right in map(parse, self.parameters)}
        family, own = self.family
        names = dict.fromkeys(
            name for one in (predictor, *others.values()) for name in variables_in(one)
        )
        refuse_response(response.name, (predictor, *others.values()))
        variables = {name: Variable.learn(name, column_of(table, name)) for name in names}
        frame, _ = read_variables(tuple(variables.values()), table)
        target, y = learn_response(table, response, family)
        priors = Choice(own | dict(self.priors))
        y = np.asarray(y, float)
        learner = Learner(family, y, table, frame, variables, priors, self.centred)
        parts = self._parts(learner, predictor, others, target)
        facts = learner.facts
        constants = [name for name in family.parameters if name not in others]
        chosen = [priors.take(n, family.parameters[n].prior(facts)) for n in constants]
        priors.check()
        trials = learner.width if response.trials else None
        width = learner.width + bool(response.trials)
        censored = width if response.censored else None
        plan = Plan(
            "; ".join((self.formula, *self.parameters)),
            family.name,
            tuple(parts),
            tuple(constants),
            tuple(chosen),
            target.classes or (),
            trials,
            censored,
        )
        check_sites(plan)
        return FormulaSchema(
            target,
            tuple(variables.values()),
            plan,
            tuple(learner.blocks),
            response.trials,
            width + bool(response.censored),
        )

    def _parts(
        self, learner: Learner, predictor: Predictor, others: dict[str, Predictor], target: Target
    ) -> list:
        """Return the predictors with their terms."""
        family = learner.family
        link = self.link or family.links[0]
        if family.name == "categorical":
            classes = (target.classes or ())[1:]
            return [learner.part(f"{one}", predictor, link, f"{one}_") for one in classes]
        parts = [learner.part("mu", predictor, link)]
        for name, right in others.items():
            parts.append(learner.part(name, right, family.parameters[name].link, f"{name}_"))
        return parts

    def _table(
        self, data: tuple, weights: WeightsLike, named: dict
    ) -> tuple[DataFrame, np.ndarray | None]:
        """Return the table whose rows count, and weights that are no counts."""
        if len(data) != 1 or named:
            extra = f" and {sorted(named)}" if named else ""
            raise DataError(
                "A formula takes one table with all columns, as in bdl.fit(bdl.Formula("
                f"{self.formula!r}), df): got {len(data)} arguments{extra}."
            )
        table = table_of(data[0])
        if weights is None:
            return table, None
        weights = column_of(table, weights) if isinstance(weights, str) else weights
        rows = np.arange(len(table))
        kept, _, counts = known_rows(table, rows, weights, Reading())
        return kept, counts

    def problem(
        self,
        schema: FormulaSchema,
        *data: object,
        weights: WeightsLike = None,
        **named: object,
    ) -> Problem:
        table, counts = self._table(data, weights, named)
        response, _ = parse(self.formula)
        y = read_response(schema.target, self.family[0], table, response)
        censored = None if not response.censored else censored_rows(response.censored, table)
        X = schema.matrix(table, "error", censored)
        return self.build_problem(schema, (X, y), {} if counts is None else {"weights": counts})

    def build_problem(self, schema: FormulaSchema, args: tuple, kwargs: dict) -> Problem:
        return Problem(FormulaProgram(schema.plan), args, kwargs)

    def inputs(
        self,
        schema: FormulaSchema,
        data: TableLike,
        groups: str | tuple = "error",
        **unknown: object,
    ) -> tuple[tuple, dict]:
        """Return new rows as the program takes them.

        Args:
            schema: what was learned.
            data: the new table; the response may be absent.
            groups: "error" refuses groups that the training data had not, "sample" draws their
                effects given each draw of the parameters, "population" leaves out all effects of
                groups. A tuple of columns leaves out all but the effects of groups of those.
            **unknown: nothing else.
        """
        for name in unknown:
            raise DataError(f"predict({name}=...): formulas take a table, and groups='...'.")
        if not isinstance(groups, tuple) and groups not in GROUPS:
            hint = did_you_mean(groups, GROUPS)
            raise DataError(f"groups={groups!r}: {hint}Expected one of {', '.join(GROUPS)}.")
        return (schema.matrix(table_of(data), groups),), {}

    def inputs_and_target(
        self, problem: Problem, *data: object, **named: object
    ) -> tuple[tuple, dict, Any]:
        groups = {key: named.pop(key) for key in ("groups",) if key in named}
        response, _ = parse(self.formula)
        if len(data) == 2:
            given: Any = data
            data = (table_of(given[0]).assign(**{response.name: as_target(given[1])}),)
        table, _ = self._table(data, None, named)
        if response.censored and censored_rows(response.censored, table).any():
            raise DataError(
                f"Held-out rows that are censored ({response.censored!r}) cannot be scored as "
                "times that were seen: leave them out."
            )
        return (table,), groups, as_target(column_of(table, response.name))

    # the fit

    def target(self, schema: FormulaSchema, problem: Problem) -> Target:
        return schema.target

    def observed_values(self, schema: FormulaSchema, problem: Problem) -> dict[str, np.ndarray]:
        return {"y": np.asarray(problem.args[1])}

    def log_unit(self, schema: FormulaSchema) -> float:
        return 0.0

    def notes(self, schema: FormulaSchema) -> list[str]:
        return []

    def text_columns(self, schema: FormulaSchema) -> list[str]:
        levels = schema.levels.items()
        return [name for name, labels in levels if all(isinstance(one, str) for one in labels)]

    def concerns(self, schema: FormulaSchema) -> list[str]:
        return []

    def names(self, schema: FormulaSchema) -> Names:
        return Names(*merged(schema.plan.terms))

    def typical_settings(self, along: tuple[str, ...]) -> dict[str, Any]:
        return {"groups": tuple(along)}

    def training_frame(self, schema: FormulaSchema, problem: Problem) -> DataFrame:
        return schema.frame(np.asarray(problem.args[0]))

    def input_column(
        self, schema: FormulaSchema, problem: Problem
    ) -> tuple[np.ndarray | None, str]:
        numbers = [k for k, one in enumerate(schema.variables) if one.levels is None]
        if len(numbers) != 1 or len(schema.variables) > 1:
            return None, "x"
        name = next(iter(schema.variables)).name
        return np.asarray(problem.args[0])[:, schema.width], name

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        return RowPredictive(self._program(problem, predicting=True), None, {})

    def predictor_predictive(self, problem: Problem) -> AbstractPredictive:
        program = self._program(problem, predicting=True, predictor=True)
        return RowPredictive(program, None, {})

    def predictor_names(self, problem: Problem) -> tuple[str, ...]:
        parts = self._program(problem).plan.parts
        return tuple(part.parameter for part in parts) if len(parts) > 1 else ()

    def _program(self, problem: Problem, **changes: bool) -> FormulaProgram:
        program: Any = getattr(problem.program, "program", problem.program)
        return dataclasses.replace(program, **changes)

    def shows(self, site: str) -> bool:
        """Return whether a site says something that no other says in plainer units."""
        texts = (self.formula, *self.parameters)
        columns = {name for text in texts for name in variables_in(parse(text)[1])}
        # a column may be called z_score
        if any(re.match(rf"{re.escape(name)}(?!\w)", site) for name in columns):
            return True
        return not site.startswith(("z_", "L_")) and not site.endswith("Intercept_centred")

    def program(self, X: ArrayLike, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        raise ModelError("The program of a formula needs data: see Formula.source(df).")

    def simulator(self, num_classes: int) -> NoReturn:
        raise ModelError(
            "PFN learns from data sets that a model draws with their inputs, which a formula takes "
            "as they are: fit it with bdl.NUTS() or bdl.VI()."
        )
