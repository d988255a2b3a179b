"""The settings that all engines of Markov chains share."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

from inference.core.engine import AbstractEngine, check_choice, check_positive_integers
from inference.core.problem import Problem
from inference.core.typing import ChainMethod, Info
from inference.mcmc.runner.layout import CHAIN_METHODS
from inference.mcmc.runner.sampler import AbstractSampler


@dataclasses.dataclass(frozen=True)
class AbstractChainSettings(AbstractEngine):
    """Settings of a run of chains, as the runner (`chains.py`) reads them.

    The names are NumPyro's, but `num_samples` counts the draws that are kept after thinning.

    Attributes:
        num_warmup: the number of adaptation steps per chain, whose draws are not kept.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw: keep every n-th draw.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side
            on the devices, "parallel" with one device per chain; "auto" chooses.
    """

    can_checkpoint: ClassVar[bool] = True

    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    thinning: int = 1
    chain_method: ChainMethod = "auto"

    def __post_init__(self) -> None:
        check_positive_integers(self, "num_warmup", "num_samples", "num_chains", "thinning")
        check_choice(self, "chain_method", CHAIN_METHODS)

    @abc.abstractmethod
    def sampler(self, problem: Problem) -> AbstractSampler:
        """Return the chain of a problem with these settings."""

    @property
    def draws_per_cycle(self) -> int:
        """The number of draws that belong together; a run ends after a multiple of them."""
        return 1

    def diagnosis_settings(self) -> Info:
        """Return the settings that diagnoses need, for the result's `info`."""
        return {}
