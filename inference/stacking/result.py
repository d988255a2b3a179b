"""What stacking returns: the results of the members and their weights."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive, AbstractResult, PredictiveModel
from inference.core.typing import Info, StoredArrays
from inference.stacking.members import Member
from inference.stacking.mixture import MixturePredictive


@dataclasses.dataclass(frozen=True, eq=False)
class StackedResult(AbstractResult):
    """The members that were fitted, with their weights.

    Attributes:
        members: the members.
        results: their results.
        weights: the weight of each member by name.
        info: facts about the run, and those of each member under "members".
        num_draws: the number of draws of a member whose posterior is an approximation.
    """

    members: tuple[Member, ...]
    results: tuple[AbstractResult, ...]
    weights: dict[str, float]
    info: Info
    num_draws: int

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {weight:.2f}" for name, weight in self.weights.items())

    def arrays(self) -> StoredArrays:
        return {
            f"{member.name}/{name}": value
            for member, result in zip(self.members, self.results, strict=True)
            for name, value in result.arrays().items()
        }

    def correlates_rows(self, by_model: bool) -> bool:
        return True

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        pairs = list(zip(self.members, self.results, strict=True))
        # a member without weight costs time and changes nothing
        used = [(m, r) for m, r in pairs if self.weights[m.name] > 0]
        logs = np.log([self.weights[member.name] for member, _ in used])
        return MixturePredictive(
            tuple(result.predictive(member.problem, member.model) for member, result in used),
            tuple(self._draws(member, result) for member, result in used),
            logs - np.log(np.exp(logs).sum()),
            tuple(result.correlates_rows(member.rows_correlated) for member, result in used),
        )

    def _draws(self, member: Member, result: AbstractResult) -> StoredArrays:
        """Return draws of a member's latent sites along one axis; {} where it has none."""
        key = named_key(jax.random.key(0), member.name)
        with jax.enable_x64(True):
            fresh = result.sample(key, self.num_draws)
            drawn = {name: np.asarray(value)[None] for name, value in fresh.items()}
            samples = drawn or result.site_samples(key)
            return result.latent_draws(key, member.problem.latents, lambda: samples)
