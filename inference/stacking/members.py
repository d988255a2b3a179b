"""What a problem offers whose answer is an average over several models of the same rows."""

from __future__ import annotations

import dataclasses
from typing import Any

from inference.core.engine import AbstractEngine
from inference.core.problem import Problem
from inference.core.result import PredictiveModel
from inference.core.structure import AbstractStructure


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One of the models.

    Attributes:
        name: its name.
        problem: its program, with the rows that it sees.
        engine: the engine that fits it.
        model: gives its predictive.
        rows_correlated: whether its rows vary together given its latent sites.
    """

    name: str
    problem: Problem
    engine: AbstractEngine
    model: PredictiveModel
    rows_correlated: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Members(AbstractStructure):
    """Models of the same rows.

    Attributes:
        members: the models.
        held_out: inputs and targets of rows that no member sees, by which they are weighted; None
            where they are weighted by leaving out one row at a time, in closed form.
    """

    members: tuple[Member, ...]
    held_out: tuple[Any, Any] | None
