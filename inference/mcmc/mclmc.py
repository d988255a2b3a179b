"""Microcanonical Langevin Monte Carlo: the momentum has fixed length, and its direction diffuses.

    du = p dt,    dp = (I - p p') (grad log density(u) / (d - 1) dt + sqrt(2 / L) dW),    |p| = 1

leaves the posterior invariant in u. Unadjusted, it has a bias that shrinks with the step size,
which is tuned until the energy error per dimension is small. Adjusted, each trajectory is
accepted or rejected, and there is no bias. Both need few gradients per effective draw in many
dimensions.

References: Robnik et al. (2023), arXiv:2212.08549; Robnik, Cohn-Gordon and Seljak (2025),
arXiv:2503.01707. The kernels and their tuning are BlackJAX's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from inference.core.engine import UnsupportedError, check_choice
from inference.core.problem import Problem
from inference.core.result import AbstractResult
from inference.core.typing import ChainStart, Info, Key, SiteArrays
from inference.mcmc.blackjax_adapter import (
    Microcanonical,
    step_adjusted_mclmc,
    step_mclmc,
    tune_adjusted_mclmc,
    tune_mclmc,
)
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.hmc import check_target_accept
from inference.mcmc.runner.sampler import AbstractSampler, Position
from inference.mcmc.starts import STARTS


@dataclasses.dataclass(frozen=True)
class MCLMC(AbstractMCMC):
    """Microcanonical Langevin Monte Carlo (Robnik et al. 2023, arXiv:2212.08549).

    Attributes:
        num_warmup: the number of tuning steps per chain (if adjusted, of trajectories). They come
            before the first draw and are made in one piece. They tune the decoherence length L,
            the step size and a diagonal mass matrix.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; 10, because one step is one gradient and
            moves little.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them in turn on each
            processor device, and side by side on an accelerator.
        adjusted: whether trajectories are accepted or rejected, which removes the bias of the
            step size but costs more gradients.
        target_accept: the acceptance probability, in (0, 1), that the step size aims at; used if
            adjusted. The default, 0.9, is the one that the authors tune for.
        start: where chains start: "prior", "mode", "pathfinder" or "uniform"; see `NUTS`.

    Example:
        >>> MCLMC(adjusted=True).num_chains
        4
    """

    thinning: int = 10
    adjusted: bool = False
    target_accept: float = 0.9
    start: ChainStart = "prior"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "start", tuple(STARTS))
        check_target_accept(self, self.target_accept)

    @classmethod
    def example(cls) -> MCLMC:
        return cls(num_warmup=200, num_samples=40, num_chains=2)

    def supports(self, problem: Problem) -> str | None:
        if sum(int(np.prod(shape)) for shape in problem.latents.values()) == 1:
            return "there is one latent dimension, and a momentum of fixed length needs two"
        return super().supports(problem)

    def divergence_cure(self, facts: Mapping[str, float]) -> str:
        if self.adjusted:
            return super().divergence_cure(facts)
        return "raise num_warmup, which tunes its steps, or use adjusted=True"

    def step_size_of(self, result: AbstractResult) -> float:
        if self.adjusted:
            return super().step_size_of(result)
        raise UnsupportedError(
            "MCLMC(adjusted=False) tunes its step size itself, so there is none to halve; its "
            "answer has a bias of the step size all the same: compare with "
            "bdl.MCLMC(adjusted=True), which has none."
        )

    def sampler(self, problem: Problem) -> MicrocanonicalSampler:
        return MicrocanonicalSampler(self, problem)


class MicrocanonicalSampler(AbstractSampler):
    """A chain of MCLMC on flat unconstrained space.

    Args:
        engine: the settings.
        problem: the problem that is sampled.
    """

    def __init__(self, engine: MCLMC, problem: Problem) -> None:
        # tuning is part of `init`, so that no step belongs to warm-up
        super().__init__(problem, 0, engine.thinning)
        self.engine, self.density = engine, problem.log_density()

    def init(self, key: Key) -> Microcanonical:
        near, key = jax.random.split(key)
        u = STARTS[self.engine.start](self.density, near)
        if self.engine.adjusted:
            return tune_adjusted_mclmc(
                self.density, u, key, self.engine.num_warmup, self.engine.target_accept
            )
        return tune_mclmc(self.density, u, key, self.engine.num_warmup)

    def step(self, i: jax.Array, state: Microcanonical) -> Microcanonical:
        return (step_adjusted_mclmc if self.engine.adjusted else step_mclmc)(self.density, state)

    def record(self, state: Microcanonical) -> tuple[Position, SiteArrays]:
        stats = {"diverging": state.diverging, "lp": state.chain.logdensity}
        # BlackJAX gives no energy error of a trajectory, but what it does to acceptance
        if self.engine.adjusted:
            stats |= {"acceptance_rate": state.accept, "n_steps": state.num_steps}
        else:
            stats |= {"energy_error": state.energy_error}
        return state.chain.position, stats

    def constrain(self, position: Position) -> SiteArrays:
        return self.density.constrain(position)

    def facts(self, states: Microcanonical) -> Info:
        return {
            "step_size": np.asarray(states.tuned.step_size).tolist(),
            "decoherence_length": np.asarray(states.tuned.L).tolist(),
        }
