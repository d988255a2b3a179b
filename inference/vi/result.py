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

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        if self.learned:
            program = WithParameters(problem.program, self.learned)
            problem = dataclasses.replace(problem, program=program)
        return model.predictive(problem)
