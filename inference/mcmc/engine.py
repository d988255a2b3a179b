"""What every engine of Markov chains shares: settings of the run, and running it."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax

from inference.core.checkpoint import Checkpoint
from inference.core.engine import (
    AbstractEngine,
    UnsupportedError,
    check_choice,
    check_positive_integers,
    needs_gradients,
)
from inference.core.problem import Problem
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import Draws
from inference.mcmc.chains import continue_chains, run_chains
from inference.mcmc.layout import CHAIN_METHODS, reason_unsupported
from inference.mcmc.sampler import AbstractSampler


@dataclasses.dataclass(frozen=True)
class AbstractMCMC(AbstractEngine):
    """Settings shared by all samplers; names are NumPyro's, but `num_samples` counts the draws kept after thinning.

    Attributes:
        num_warmup: adaptation steps per chain, not kept.
        num_samples: draws kept per chain.
        num_chains: independent chains; R-hat needs at least two to say much.
        thinning: keep every so-manieth draw.
        chain_method: "auto", "sequential", "vectorized" or "parallel".
    """

    can_checkpoint: ClassVar[bool] = True

    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    thinning: int = 1
    chain_method: str = "auto"

    def __post_init__(self) -> None:
        check_positive_integers(self, "num_warmup", "num_samples", "num_chains", "thinning")
        check_choice(self, "chain_method", CHAIN_METHODS)

    @abc.abstractmethod
    def sampler(self, problem: Problem) -> AbstractSampler:
        """The chain of a problem with these settings."""

    @property
    def draws_per_cycle(self) -> int:
        """Draws that belong together: a run ends after a multiple of them."""
        return 1

    def diagnosis_settings(self) -> dict:
        """Settings that diagnoses need."""
        return {}

    def supports(self, problem: Problem) -> str | None:
        return needs_gradients(problem) or reason_unsupported(self.chain_method, self.num_chains)

    def infer(
        self,
        problem: Problem,
        *,
        key: jax.Array,
        progress: AbstractProgress = Silent(),
        checkpoint: Checkpoint | None = None,
    ) -> Draws:
        return run_chains(
            self, self.sampler(problem), key=key, progress=progress, checkpoint=checkpoint
        )

    def extend(
        self,
        problem: Problem,
        draws: Draws,
        num_samples: int,
        progress: AbstractProgress = Silent(),
    ) -> Draws:
        """The draws with `num_samples` more per chain, to the bit those that the chains would have made next.

        Cycles go on with their length, so more draws are more cycles.

        Raises:
            UnsupportedError: where the draws hold no state to go on from.
            ValueError: where the last cycle would be cut.
        """
        if not draws.state:
            raise UnsupportedError(
                "These draws hold no state to go on from (an older version saved them): fit again."
            )
        cut = (draws.length + num_samples) % self.draws_per_cycle
        if cut:
            raise ValueError(
                f"extend(num_samples={num_samples}): {type(self).__name__} has cycles of {self.draws_per_cycle} draws, and the "
                f"last one would be cut; give {num_samples - cut + self.draws_per_cycle}."
            )
        return continue_chains(self, self.sampler(problem), draws, num_samples, progress)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Draws:
        return Draws.from_arrays(arrays, info)
