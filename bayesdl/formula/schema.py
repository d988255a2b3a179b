"""What a formula learned from its training data, and how it reads new tables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from bayesdl.data.cells import as_numbers
from bayesdl.data.reading import Reading
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError
from bayesdl.formula.families import Family
from bayesdl.formula.learning import Block, variables_in
from bayesdl.formula.parsing import Predictor, Response
from bayesdl.formula.program import Plan, priors_of
from bayesdl.formula.variables import Variable, column_of, levels_of, present, shown
from bayesdl.model.registry import register_spec
from bayesdl.typing import Cells, DataFrame, TableLike


@register_spec("formula.Schema")
@dataclasses.dataclass(frozen=True)
class FormulaSchema:
    """What a formula learned from its training data.

    Attributes:
        target: the response.
        variables: the columns that the formula names.
        plan: what the program is made of.
        blocks: how the columns of its terms come from a table, in their order.
        trials: the column of numbers of trials, or their one number as text; may be empty.
        width: the number of columns of X that the program reads; the variables follow.
    """

    target: Target
    variables: tuple
    plan: Plan
    blocks: tuple
    trials: str
    width: int

    def matrix(
        self, table: DataFrame, groups: str | tuple, censored: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the rows of a table as the program takes them, shape (rows, columns).

        Args:
            table: the table.
            groups: what becomes of groups that the training data had not.
            censored: which rows are right-censored.
        """
        frame, raw = read_variables(self.variables, table)
        parts = [np.zeros((len(table), 0))]
        for block, term in zip(self.blocks, self.plan.terms, strict=True):
            parts.append(block.read(frame, table, groups))
            assert parts[-1].shape[1] == term.width, (block, parts[-1].shape)
        if self.trials:
            parts.append(trials_of(self.trials, table)[:, None])
        if self.plan.censored is not None:
            flags = np.zeros(len(table)) if censored is None else censored
            parts.append(flags[:, None])
        return np.concatenate([*parts, raw], axis=1)

    def frame(self, X: np.ndarray) -> DataFrame:
        """Return the variables, and the groups, of rows that `matrix` made."""
        import pandas as pd

        columns = {}
        coded = self._coded()
        for k, variable in enumerate(self.variables):
            found = variable.decode(X[:, self.width + k])
            columns[variable.name] = pd.Categorical(found) if variable.name in coded else found
        for block, at in self._places():
            numbers = X[:, at].astype(int)
            if block.kind != "group" or (numbers < 0).any():
                continue
            for j, name in enumerate(block.columns):
                # numbers of groups are names
                known = levels_of(pd.Series([level[j] for level in block.levels]))[0]
                found = [block.levels[number][j] for number in numbers]
                numeric = name in columns and not hasattr(columns[name], "categories")
                if not numeric or name in coded:
                    columns[name] = pd.Categorical(found, categories=list(known))
        if self.trials and not self.trials.isdigit():
            columns[self.trials] = X[:, self.plan.trials].astype(int)
        return pd.DataFrame(columns)

    @property
    def reading(self) -> Reading:
        """How tables are read: as they are."""
        return Reading()

    @property
    def categories(self) -> list[str]:
        """The columns whose values are names, those of groups included."""
        return list(dict.fromkeys([*self.levels, *self._coded()]))

    @property
    def levels(self) -> dict[str, tuple]:
        """The levels of categories and of groups, by column."""
        levels = {one.name: one.levels for one in self.variables if one.levels is not None}
        for block in self.blocks:
            if block.kind == "group":
                levels |= zip(block.columns, zip(*block.levels, strict=True), strict=True)
        return levels

    def _coded(self) -> set[str]:
        """Return the columns whose numbers are names, as h in C(h)."""
        texts = [block.design.text for block in self.blocks if block.design is not None]
        return {name for text in texts for name in re.findall(r"\bC\(\s*(\w+)\s*[,)]", text)}

    def _places(self) -> list[tuple[Block, int]]:
        """Return the blocks, each with the first of its columns."""
        return list(zip(self.blocks, [term.at for term in self.plan.terms], strict=True))


class Priors(dict):
    """The priors that a user gave, by site; called with the training data it lists all priors."""

    def __init__(self, given: Mapping[str, object], learn: Callable[..., FormulaSchema]) -> None:
        super().__init__(given)
        self.learn = learn

    def __call__(self, data: TableLike) -> DataFrame:
        """Return the priors of all sites as a table.

        Args:
            data: the training data.
        """
        import pandas as pd

        return pd.Series(priors_of(self.learn(data).plan), name="prior").to_frame()


def learn_response(
    table: DataFrame, response: Response, family: Family
) -> tuple[Target, np.ndarray]:
    """Return the target, and the response as the program sees it.

    Raises:
        DataError: for a response that the likelihood does not take.
        ModelError: for additions such as trials(n) that the likelihood does not take.
    """
    column = column_of(table, response.name)
    present(response.name, column)
    if response.trials and family.name != "binomial":
        raise ModelError(f"trials(...) belong to likelihood='binomial', got {family.name!r}.")
    if family.name == "binomial" and not response.trials:
        raise ModelError(
            "likelihood='binomial' needs numbers of trials, as in "
            f"'{response.name} | trials(n) ~ ...' with n a column; or take 'bernoulli'."
        )
    if response.censored and not family.censored:
        raise ModelError(
            f"likelihood={family.name!r} takes no censored rows: expected 'weibull', "
            "'lognormal', 'gamma' or 'normal'."
        )
    variable = Variable.learn(response.name, column)
    target = _response_target(response.name, family, variable, column)
    y = read_response(target, family, table, response)
    if family.kind != "class" and family.in_units and np.ptp(y) == 0:
        raise DataError(
            f"The response {response.name!r} is constant ({y[0]:g} in every row): there is "
            "nothing to learn from it."
        )
    return target, y


def refuse_response(name: str, predictors: Iterable[Predictor]) -> None:
    """Refuse a response that is predicted from itself.

    Raises:
        ModelError: naming it.
    """
    for one in predictors:
        if name in variables_in(one) or any(name in group.factors for group in one.groups):
            raise ModelError(f"Formula: the response {name!r} is on both sides of '~'.")


def _response_target(name: str, family: Family, variable: Variable, values: Cells) -> Target:
    """Return the target of a formula."""
    if family.kind != "class":
        return Target((name,), family.kind, True, None, (0.0,), (1.0,))
    if family.name != "ordered" or variable.levels is None:
        target = Target.learn(values, "class", False, family.name == "bernoulli")
        return dataclasses.replace(target, names=(name,))
    if not variable.ordered:
        raise DataError(
            f"likelihood='ordered' needs the order of {shown(variable.levels)}: make {name!r} "
            "pd.Categorical(values, categories=[...], ordered=True), or whole numbers."
        )
    return Target((name,), "class", True, variable.levels, (0.0,), (1.0,))


def read_response(
    target: Target, family: Family, table: DataFrame, response: Response
) -> np.ndarray:
    """Return the response as the program sees it.

    Raises:
        DataError: where it is outside of the support.
    """
    column = column_of(table, response.name)
    present(response.name, column)
    if family.kind == "class":
        return target.read(column)
    y = as_numbers(response.name, column)
    family.check(response.name, y)
    if response.trials:
        trials = trials_of(response.trials, table)
        bad = np.flatnonzero(y > trials)
        if bad.size:
            raise DataError(
                f"The response {response.name!r} is {y[bad[0]]:g} in row {bad[0]}, of "
                f"{trials[bad[0]]:g} trials: expected no more than there are trials."
            )
    return y


def read_variables(variables: tuple, table: DataFrame) -> tuple[DataFrame, np.ndarray]:
    """Return the columns that a formula names as a table, and as numbers, shape (rows, columns)."""
    import pandas as pd

    columns = {one.name: one.read(column_of(table, one.name)) for one in variables}
    frame = pd.DataFrame(columns, index=table.index).reset_index(drop=True)
    codes = [one.codes(columns[one.name]) for one in variables]
    return frame, np.stack(codes, axis=1) if codes else np.zeros((len(table), 0))


def trials_of(trials: str, table: DataFrame) -> np.ndarray:
    """Return the numbers of trials.

    Raises:
        DataError: for anything but whole numbers.
    """
    if trials.isdigit():
        return np.full(len(table), float(trials))
    values = as_numbers(trials, column_of(table, trials))
    bad = np.flatnonzero(~((values >= 0) & (values == np.round(values))))
    if bad.size:
        raise DataError(
            f"The number of trials {trials!r} is {values[bad[0]]:g} in row {bad[0]}: expected "
            "whole numbers."
        )
    return values


def censored_rows(name: str, table: DataFrame) -> np.ndarray:
    """Return which rows are right-censored, as numbers.

    Raises:
        DataError: for anything but truth values, 0 and 1, or "none" and "right".
    """
    column = column_of(table, name)
    present(name, column)
    words = {"none": 0.0, "right": 1.0}
    found = []
    for row, value in enumerate(column.tolist()):
        flag = words.get(value) if isinstance(value, str) else value
        if flag not in (0, 1):
            raise DataError(
                f"cens({name}) is {value!r} in row {row}: expected True (or 1, 'right') for a "
                "right-censored row, and False (or 0, 'none') otherwise."
            )
        found.append(float(flag))
    return np.asarray(found)


def check_sites(plan: Plan) -> None:
    """Refuse columns whose names are those of other sites.

    Raises:
        ModelError: naming the column.
    """
    sites = [*plan.constants, "y", "rows", *(["thresholds", "probabilities"] * plan.is_ordered)]
    for term in plan.terms:
        for site in dict.fromkeys([*term.priors(), *term.hidden(), *term.names()[1]]):
            if site in sites:
                raise ModelError(
                    f"Formula: two quantities would be called {site!r}: rename the column "
                    f"{site.partition('_')[2] or site!r}."
                )
            sites.append(site)
