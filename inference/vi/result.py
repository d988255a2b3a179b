"""The result of variational inference."""

from __future__ import annotations

import dataclasses

from inference.core.problem import Problem
from inference.core.program import WithParameters
from inference.core.result import AbstractApproximation, AbstractPredictive, PredictiveModel
from inference.core.typing import Info


@dataclasses.dataclass(frozen=True, eq=False)
class VariationalApproximation(AbstractApproximation):
    """A fitted guide.

    Attributes:
        learned: the fitted values of the model's own `numpyro.param` sites, by name.
    """

    learned: Info = dataclasses.field(default_factory=dict)

    @property
    def temperature(self) -> float:
        return float(self.info.get("temperature", 1))

    def restore_problem(self, problem: Problem) -> Problem:
        if not self.learned:
            return problem
        program = WithParameters(problem.program, self.learned)
        return dataclasses.replace(problem, program=program)

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return model.predictive(self.restore_problem(problem))
