"""Microcanonical Langevin Monte Carlo: the momentum has a fixed length, and its direction diffuses.

    du = p dt,    dp = (I - p p') (grad log density(u) / (d - 1) dt + sqrt(2 / L) dW),    |p| = 1

leaves the posterior invariant in u. Unadjusted, it has a bias that shrinks with the step size, which is tuned until the
energy error per dimension is small; adjusted, each trajectory is accepted or rejected and there is none. Both need few
gradients per effective draw where there are many dimensions.

References: Robnik et al. (2023), arXiv:2212.08549; Robnik, Cohn-Gordon and Seljak (2025), arXiv:2503.01707. The kernels
and their tuning are BlackJAX's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from inference.core.engine import check_choice
from inference.core.problem import Problem
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.sampler import AbstractSampler
from inference.mcmc.starts import STARTS


@dataclasses.dataclass(frozen=True)
class MCLMC(AbstractMCMC):
    """Microcanonical Langevin Monte Carlo (Robnik et al. 2023, arXiv:2212.08549).

    `num_warmup` counts the steps of tuning (where adjusted, trajectories); they come before the first draw and are made in
    one piece.

    Attributes:
        adjusted: whether trajectories are accepted or rejected, which removes the bias of the step size.
        target_accept: acceptance probability aimed at, where adjusted.
        start: "prior", "mode" or "pathfinder"; see `NUTS`.

    Example:
        >>> MCLMC(adjusted=True).num_chains
        4
    """

    thinning: int = 10
    adjusted: bool = False
    target_accept: float = 0.9
    start: str = "prior"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "start", tuple(STARTS))
        if not 0 < self.target_accept < 1:
            raise ValueError(
                f"MCLMC(target_accept={self.target_accept}): expected a number in (0, 1)."
            )

    def supports(self, problem: Problem) -> str | None:
        if sum(int(np.prod(shape)) for shape in problem.latents.values()) == 1:
            return "there is one latent dimension, and a momentum of fixed length needs two"
        return super().supports(problem)

    def sampler(self, problem: Problem) -> MicrocanonicalSampler:
        return MicrocanonicalSampler(self, problem)


class MicrocanonicalSampler(AbstractSampler):
    """A chain of MCLMC on flat unconstrained space."""

    def __init__(self, engine: MCLMC, problem: Problem) -> None:
        super().__init__(problem, 0, engine.thinning)  # tuning is part of `init`
        self.engine, self.density = engine, problem.log_density()

    def init(self, key: jax.Array) -> Any:
        from inference.mcmc.blackjax_adapter import tune_adjusted_mclmc, tune_mclmc

        near, key = jax.random.split(key)
        u = STARTS[self.engine.start](self.density, near)
        if self.engine.adjusted:
            return tune_adjusted_mclmc(
                self.density, u, key, self.engine.num_warmup, self.engine.target_accept
            )
        return tune_mclmc(self.density, u, key, self.engine.num_warmup)

    def step(self, i: jax.Array, state: Any) -> Any:
        from inference.mcmc.blackjax_adapter import step_adjusted_mclmc, step_mclmc

        return (step_adjusted_mclmc if self.engine.adjusted else step_mclmc)(self.density, state)

    def record(self, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        stats = {"diverging": state.diverging, "lp": state.chain.logdensity}
        if (
            self.engine.adjusted
        ):  # BlackJAX gives no energy error of a trajectory, but what it does to acceptance
            return state.chain.position, stats | {
                "acceptance_rate": state.accept,
                "n_steps": state.num_steps,
            }
        return state.chain.position, stats | {"energy_error": state.energy_error}

    def constrain(self, position: Any) -> dict[str, jax.Array]:
        return self.density.constrain(position)

    def facts(self, states: Any) -> dict[str, Any]:
        return {
            "step_size": np.asarray(states.tuned.step_size).tolist(),
            "decoherence_length": np.asarray(states.tuned.L).tolist(),
        }
