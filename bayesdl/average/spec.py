"""The average of a Gaussian process, or a linear model, and a network.

    p(y | x, data) = sum_k w_k p_k(y | x, data)

with weights by stacking of leave-one-out densities (Yao et al. 2018, arXiv:1704.02030).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers

from bayesdl.amortized.prior_mixture import PriorMixture
from bayesdl.average.members import choose_members, split_rows
from bayesdl.data.table import AbstractSchema, TableSchema
from bayesdl.data.validation import DataError
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import AbstractLikelihood, Normal
from bayesdl.model.table import AbstractTableModel
from bayesdl.typing import Values
from inference.core.problem import Problem
from inference.stacking.members import Member, Members


@dataclasses.dataclass(frozen=True)
class Table(AbstractTableModel):
    """An average of models of different kinds, for tables of any kind.

    One member is a neural network. The other is a Gaussian process, a linear function plus a smooth
    one, where the noise is normal with one scale, and otherwise a linear model. They are weighted
    by how probable they make rows that were left out: one at a time in closed form up to 3,000
    rows, and a held-out tenth beyond, where the process sees 2,000 rows and the network 4,000. The
    weights are in `post.summary()`, `post.diagnose()` and `post.raw.weights`.

    Args:
        likelihood: the likelihood of the targets; normal with a learned scale by default.
        hidden: the widths of the network's hidden layers.
        standardize: whether inputs and real targets are standardised with the training data's mean
            and standard deviation.

    Example:
        >>> import numpy as np
        >>> import bayesdl as bdl
        >>> bdl.Table(likelihood=bdl.Bernoulli()).likelihood
        Bernoulli()
    """

    likelihood: Any = Normal()
    hidden: tuple[int, ...] = (20,)
    standardize: bool = True
    rows_correlated: ClassVar[bool] = True
    multi_output: ClassVar[bool] = False

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("Table", cls(hidden=(4,)), rows()),)

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        return (
            CommandLine("table", cls, "an average of a process, or a linear model, and a network"),
        )

    def __post_init__(self) -> None:
        if not isinstance(self.likelihood, AbstractLikelihood):
            raise ValueError(
                f"Table(likelihood={self.likelihood!r}): expected a likelihood, e.g. bdl.Normal()."
            )
        object.__setattr__(self, "hidden", tuple(self.hidden))
        # making the members validates the settings
        choose_members(self.likelihood, self.standardize, self.hidden, 1)

    @property
    def double_precision(self) -> bool:
        """Whether the arithmetic needs 64 bits: Cholesky factors do."""
        return True

    def learn_schema(self, X: Values = None, y: Values = None, **options: Any) -> AbstractSchema:
        schema = super().learn_schema(X, y, **options)
        if schema.target.num_targets > 1 and schema.target.kind != "class":
            raise DataError(
                f"Table takes one target column, y has {schema.target.num_targets}: fit one Table "
                "for each, or a BNN."
            )
        return schema

    def program(self, X: jax.Array, y: jax.Array | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program: all rows come from one of the members, equally probable.

        With targets it holds these alone, without latent sites: each member has a program of its
        own, which `Stacking` fits.
        """
        if y is None:
            parts = choose_members(self.likelihood, self.standardize, self.hidden, X.shape[-1])
            mixture = PriorMixture(tuple(member.model for member in parts))
            mixture.program(X, None, num_targets=num_targets)
            return
        with handlers.block(), handlers.seed(rng_seed=0):
            parameters = self.likelihood.parameters(num_targets, NUMPYRO)
        outputs = jnp.zeros((X.shape[0], self.likelihood.num_outputs(num_targets)))
        with numpyro.plate("rows", X.shape[0]):
            targets = self.likelihood.distribution(outputs, parameters, NUMPYRO)
            numpyro.sample("y", targets, obs=y)

    def build_problem(self, schema: TableSchema, args: tuple, kwargs: dict) -> Problem:
        problem = super().build_problem(schema, args, kwargs)
        X, y = (np.asarray(arg) for arg in args)
        seen, held = split_rows(len(y))
        choices = choose_members(self.likelihood, self.standardize, self.hidden, X.shape[-1])
        members = []
        for choice in choices:
            few = X, y
            if seen is not None:
                few = X[seen[: choice.most_rows]], y[seen[: choice.most_rows]]
            posed = choice.model.build_problem(schema, few, {})
            posed = choice.engine.pose(posed)
            model = choice.model
            members.append(Member(choice.name, posed, choice.engine, model, model.rows_correlated))
        held_out = None if held is None else (X[held], y[held])
        return dataclasses.replace(problem, structure=Members(tuple(members), held_out))
