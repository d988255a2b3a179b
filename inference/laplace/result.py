"""The result of the Laplace approximation."""

from __future__ import annotations

import dataclasses

import numpy as np

from inference.core.problem import Problem
from inference.core.result import AbstractApproximation, AbstractPredictive, PredictiveModel
from inference.core.typing import StoredArrays


@dataclasses.dataclass(frozen=True, eq=False)
class LaplaceApproximation(AbstractApproximation):
    """A normal distribution at the mode.

    Attributes:
        expansion: values of the latent sites at which the network is linearised; None for a
            program that is no network.
    """

    expansion: StoredArrays | None = None

    @property
    def approximated(self) -> str:
        return "the model" if self.expansion is None else "the linearised network"

    def arrays(self) -> StoredArrays:
        sites = self.expansion or {}
        stored = {f"expansion/{name}": np.asarray(value) for name, value in sites.items()}
        return super().arrays() | stored

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return model.predictive(problem, self.expansion)
