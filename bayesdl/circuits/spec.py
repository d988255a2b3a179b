"""Probabilistic circuits: the joint distribution of a table's columns, with exact answers.

A hidden Chow-Liu tree has a hidden state for each column, or each block of correlated numbers,
joined by a tree; given its state a category has probabilities of its own and a block is normal:

    p(x) = sum_z p(z_root) prod_i p(z_i | z_parent(i)) prod_i p(x_i | z_i)

A mixture of several trees is one circuit too. Missing cells are left out exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bayesdl.circuits import fitted
from bayesdl.circuits.schema import CircuitSchema
from bayesdl.data.frames import as_table
from bayesdl.data.reading import Reading
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError, did_you_mean, is_frame
from bayesdl.model.base import AbstractModel
from bayesdl.model.examples import Example
from bayesdl.typing import TableLike, Values
from inference.circuits.learning import make_prior
from inference.circuits.model import TractableCircuit, run_program
from inference.circuits.predictive import CircuitPredictive
from inference.circuits.shape.choice import candidates, choose_layout
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive
from inference.core.typing import Arguments
from inference.settings import is_whole

KINDS = ("category", "number")


@dataclasses.dataclass(frozen=True)
class Circuit(AbstractModel):
    """The joint distribution of a table's columns, for exact answers about any given any others.

    `bdl.fit(bdl.Circuit(), table)` takes a table without a target; empty cells are missing values.
    Text, truth values and numbers with two values are categories, all other numbers are real.

    Args:
        states: the number of hidden states of a column; None chooses it.
        trees: the number of trees that are mixed; None takes four for many rows of categories,
            otherwise one.
        blocks: the columns that share a hidden state, lists of names; the numbers among them are
            normal together given it. None chooses them.
        kinds: "category" or "number" by column, where the cells do not tell.
        of: the column that `predict` is about, where it is not told otherwise.
        strength: how many rows each prior distribution counts as.
        spread: the prior mean of variances given the state, in units of the column's variance.

    Shapes that are left open are chosen by the bound of the log evidence of `VBEM`; of many rows
    of categories, the number of states by the number of rows.

    Example:
        >>> import bayesdl as bdl
        >>> bdl.Circuit(states=4).states
        4
    """

    states: int | None = None
    trees: int | None = None
    blocks: Any = None
    kinds: Any = dataclasses.field(default_factory=dict)
    of: str | None = None
    strength: float = 0.5
    spread: float = 0.5
    rows_are_independent: ClassVar[bool] = True
    predicts_columns: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        random = np.random.default_rng(0)
        x = random.normal(size=(24, 1))
        table = np.concatenate([x, x + random.normal(size=(24, 1)), x > 0], axis=1)
        model = cls(states=2, blocks=(("x0", "x1"),), of="x1")
        return (Example("Circuit", model, (table,)),)

    def __post_init__(self) -> None:
        for name in ("states", "trees"):
            value = getattr(self, name)
            if value is not None and not is_whole(value):
                raise ValueError(
                    f"Circuit({name}={value!r}): expected a whole number of at least 1, or None."
                )
        for name in ("strength", "spread"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"Circuit({name}={getattr(self, name)!r}): expected a number above 0."
                )
        if not isinstance(self.kinds, Mapping) or set(self.kinds.values()) - set(KINDS):
            raise ValueError(
                f"Circuit(kinds={self.kinds!r}): expected 'category' or 'number' by column."
            )
        if self.blocks is not None:
            try:
                groups = tuple(tuple(map(str, group)) for group in self.blocks)
            except TypeError:
                groups = ()
            if not groups or any(isinstance(group, str) for group in self.blocks):
                raise ValueError(
                    f"Circuit(blocks={self.blocks!r}): expected lists of names of columns, such as "
                    "[['height', 'weight']], or None."
                )
            object.__setattr__(self, "blocks", groups)
        object.__setattr__(self, "kinds", dict(self.kinds))

    @property
    def double_precision(self) -> bool:
        """Whether the arithmetic needs 64 bits: Cholesky factors do."""
        return True

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return fitted.VERBS

    def learn_schema(
        self,
        table: TableLike | None = None,
        *more: object,
        drop: Any = (),
        unseen: str = "error",
        **others: object,
    ) -> CircuitSchema:
        """Learn the columns of a table, and choose a circuit for it.

        Args:
            table: the rows.
            *more: nothing; a circuit has no target.
            drop: the names of columns to leave out.
            unseen: "error" refuses categories that the training rows did not have, "other" reads
                them as missing.
            **others: nothing; what table models take besides is refused.

        Raises:
            DataError: for data that cannot be used.
        """
        if table is None:
            raise DataError("The table is missing: expected bdl.fit(bdl.Circuit(), table).")
        if more:
            raise DataError(
                f"fit got {1 + len(more)} tables: a circuit takes one, the target a column of it "
                "(pd.DataFrame(X).assign(y=y)), which predict(rows, of='y') answers."
            )
        if others:
            raise DataError(
                f"fit got {next(iter(others))}=, which a circuit does not take: it takes one "
                "table, drop=[...] and unseen=. Missing cells are left out exactly."
            )
        reading = Reading(drop=drop, unseen=unseen)
        schema = CircuitSchema.learn(table, reading, self.kinds)
        rows = schema.read(table)
        if self.states is not None and self.states > len(rows):
            raise DataError(
                f"Circuit(states={self.states}): got {len(rows)} rows, expected at least as many "
                "as states."
            )
        found = candidates(rows, schema.levels, self.states, self._blocks(schema), self.trees)
        return schema.with_layout(choose_layout(found, rows, self.strength, self.spread))

    def _blocks(self, schema: CircuitSchema) -> tuple[tuple[int, ...], ...] | None:
        """Return the numbers of the columns of each block.

        Raises:
            DataError: for names that are no columns, or stand in two blocks.
        """
        if self.blocks is None:
            return None
        groups = tuple(tuple(schema.number(name) for name in group) for group in self.blocks)
        flat = [column for group in groups for column in group]
        if len(set(flat)) < len(flat):
            raise DataError(f"Circuit(blocks={self.blocks!r}): a column stands there twice.")
        return groups

    def problem(self, schema: CircuitSchema, table: Values = None, **others: object) -> Problem:
        return self.build_problem(schema, (schema.read(table),), {})

    def build_problem(self, schema: CircuitSchema, args: Arguments, kwargs: dict) -> Problem:
        rows, layout = np.asarray(args[0]), schema.layout
        prior = make_prior(layout, rows, self.strength, self.spread)

        def program(table: Any) -> None:
            run_program(layout, prior, table)

        names, given = tuple(schema.names), schema.given
        structure = TractableCircuit(layout, prior, rows, names, given)
        return Problem(program, (rows,), structure=structure)

    def inputs(self, schema: CircuitSchema, table: TableLike) -> tuple[Arguments, dict]:
        return (schema.read(table),), {}

    def training_inputs(self, problem: Problem) -> tuple[Arguments, dict]:
        return (problem.args[0],), {}

    def _column(self, names: Sequence[str]) -> int:
        """Return the number of the column that is predicted.

        Raises:
            ModelError: where none is named.
        """
        if self.of is None:
            raise ModelError(
                f"Which column? Give predict(rows, of=...), one of {list(names)[:20]}."
            )
        return list(names).index(self.of)

    def target(self, schema: CircuitSchema, problem: Problem) -> Target:
        return schema.columns[self._column(schema.names)].target

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        structure = problem.structure_as(TractableCircuit)
        return CircuitPredictive(structure.layout, self._column(structure.names))

    def inputs_and_target(self, problem: Problem, table: Values = None) -> tuple[tuple, dict, Any]:
        if table is None:
            raise DataError("The rows to score are missing: give score(rows, of=...).")
        structure = problem.structure_as(TractableCircuit)
        column = structure.names[self._column(structure.names)]
        rows = as_table(table)
        if is_frame(rows):
            if column not in rows.columns:
                raise DataError(f"The rows have no column {column!r} to score.")
            known = rows[column].notna().to_numpy()
            return (rows[known],), {}, rows[column][known]
        cells = np.asarray(rows)[:, structure.given.index(column)]
        known = np.array([cell == cell and cell is not None for cell in cells])
        return (rows[known],), {}, cells[known]

    def target_site(self, problem: Problem) -> str:
        return "row"

    def at_site(self, problem: Problem, site: str) -> Circuit:
        structure = problem.structure_as(TractableCircuit)
        if site not in structure.names:
            asked = did_you_mean(site, structure.names)
            raise ModelError(
                f"of={site!r}: the table has no such column. {asked}Its columns are "
                f"{list(structure.names)[:20]}."
            )
        return dataclasses.replace(self, of=site)

    def identified(self, site: str) -> bool:
        # states can be permuted
        return False
