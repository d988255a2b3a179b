"""The abstract engine of Markov chains: the settings of a run, and running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jax.typing import ArrayLike

from inference.core.checkpoint import Checkpoint
from inference.core.engine import UnsupportedError, needs_gradients, require_draws
from inference.core.findings import Finding
from inference.core.problem import Problem
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, Draws
from inference.core.typing import Info, Key, StoredArrays
from inference.mcmc.batched import run_data_sets
from inference.mcmc.findings import sampler_diagnostics, sampler_findings
from inference.mcmc.runner.chains import continue_chains, run_chains
from inference.mcmc.runner.layout import reason_unsupported
from inference.mcmc.runner.settings import AbstractChainSettings


@dataclasses.dataclass(frozen=True)
class AbstractMCMC(AbstractChainSettings):
    """An engine that runs Markov chains; `AbstractChainSettings` documents the settings."""

    def supports(self, problem: Problem) -> str | None:
        return needs_gradients(problem) or reason_unsupported(self.chain_method, self.num_chains)

    def infer(
        self,
        problem: Problem,
        *,
        key: Key,
        progress: AbstractProgress = Silent(),
        checkpoint: Checkpoint | None = None,
    ) -> Draws:
        return run_chains(
            self, self.sampler(problem), key=key, progress=progress, checkpoint=checkpoint
        )

    def extend(
        self,
        problem: Problem,
        result: AbstractResult,
        num_samples: int,
        progress: AbstractProgress = Silent(),
    ) -> Draws:
        """Return the draws with more of them: to the bit those that the chains would make next.

        Cycles go on with their length, so more draws are more cycles.

        Args:
            problem: the problem that the draws belong to.
            result: the draws that were made.
            num_samples: the number of further draws per chain.
            progress: what shows how far the run is.

        Raises:
            UnsupportedError: if the draws hold no state to go on from.
            ValueError: if the last cycle would be cut.
        """
        draws = require_draws(result)
        if not draws.state:
            raise UnsupportedError(
                "These draws hold no state to go on from (an older version saved them): fit again."
            )
        cut = (draws.length + num_samples) % self.draws_per_cycle
        if cut:
            raise ValueError(
                f"extend(num_samples={num_samples}): {type(self).__name__} has cycles of "
                f"{self.draws_per_cycle} draws, and the last one would be cut; give "
                f"{num_samples - cut + self.draws_per_cycle}."
            )
        return continue_chains(self, self.sampler(problem), draws, num_samples, progress)

    def for_many(self) -> AbstractMCMC:
        # chains are as many as data sets
        return dataclasses.replace(self, num_chains=jax.device_count())

    def infer_many(
        self,
        problem: Problem,
        observed: Mapping[str, ArrayLike],
        *,
        key: Key,
        progress: AbstractProgress = Silent(),
    ) -> tuple[StoredArrays, np.ndarray]:
        return run_data_sets(self, self.sampler, problem, observed, key, progress)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        return sampler_diagnostics(require_draws(result))

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        cure = self.divergence_cure(facts)
        return tuple(sampler_findings(require_draws(result), facts, cure))

    def divergence_cure(self, facts: Mapping[str, float]) -> str:
        """Say what to do about draws that diverged."""
        return "raise target_accept towards 0.99, or reparametrise"

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> Draws:
        return Draws.from_arrays(arrays, info)
