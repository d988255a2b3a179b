"""Stochastic-gradient MCMC: engines for data of so many rows that a step can only see a few.

All of them are Langevin dynamics with the gradient of a minibatch (`langevin.py` has the formulas), and differ in how much
momentum a step keeps and in how its size changes.

References: Welling and Teh (2011); Chen, Fox and Guestrin (2014), arXiv:1402.4102; Springenberg et al. (2016); Zhang et
al. (2020), arXiv:1902.03932.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from inference.core.engine import check_choice, check_positive, check_positive_integers
from inference.core.problem import Problem, ProblemError
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.langevin import LangevinSampler
from inference.mcmc.sampler import evenly_spaced_steps
from inference.mcmc.starts import STARTS


@dataclasses.dataclass(frozen=True)
class AbstractSGMCMC(AbstractMCMC):
    """Settings shared by the samplers with minibatches, besides those of `AbstractMCMC`.

    Attributes:
        batch_size: rows per step, an even number, drawn with replacement; None for all rows. The program needs a plate
            over its data.
        step_size: h, in units in which the posterior's sd is about 1 per coordinate.
        control_variates: whether gradients are differences to the gradient at an anchor, where that of all rows is known
            (SVRG): less noise for twice the work.
        renew_every: steps after which the anchor is renewed.
        temperature: of the posterior, p(z | y)^(1 / T); other than 1 is another posterior, and diagnoses say so.
        start: "mode" begins each chain where Adam ends from a draw from the prior, a deep ensemble; or "prior", "pathfinder".
    """

    num_warmup: int = 5000
    thinning: int = 50
    batch_size: int | None = 32
    step_size: float = 0.03
    control_variates: bool = False
    renew_every: int = 100
    temperature: float = 1.0
    start: str = "mode"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "step_size", "temperature")
        check_positive_integers(self, "renew_every")
        check_positive_integers(self, "batch_size", optional=True)
        check_choice(self, "start", tuple(STARTS))
        name = type(self).__name__
        if self.batch_size is not None and self.batch_size % 2:
            raise ValueError(
                f"{name}(batch_size={self.batch_size}): expected an even number, as noise is measured by halves."
            )
        if self.control_variates and self.batch_size is None:
            raise ValueError(
                f"{name}(control_variates=True, batch_size=None): all rows have no noise; give a batch_size."
            )

    def noted(self) -> dict:
        return {"temperature": self.temperature, "stochastic": self.batch_size is not None}

    def supports(self, problem: Problem) -> str | None:
        reason = super().supports(problem)
        if reason or self.batch_size is None:
            return reason
        try:
            name, total = problem.data_plate
            if total < 2:
                return (
                    f"plate '{name}' has {total} row, which cannot be halved; use batch_size=None"
                )
            problem.minibatch(min(self.batch_size, total) // 2)  # a step sees two of these
        except ProblemError as error:
            return str(error).rstrip(".")
        return None

    def sampler(self, problem: Problem) -> LangevinSampler:
        return LangevinSampler(self, problem)

    def steps_before(self, j: Any) -> Any:
        """See `AbstractSampler.steps_before`."""
        return evenly_spaced_steps(j, self.num_warmup, self.thinning)

    @abc.abstractmethod
    def damping(self, h: jax.Array) -> jax.Array:
        """The factor a that the momentum keeps in a step of size h."""

    def schedule(self, i: jax.Array) -> tuple[Any, Any]:
        """Step size and temperature of step i."""
        return self.step_size, self.temperature


@dataclasses.dataclass(frozen=True)
class SGLD(AbstractSGMCMC):
    """Stochastic-gradient Langevin dynamics (Welling and Teh 2011), preconditioned: the limit of infinite friction.

    Example:
        >>> SGLD(batch_size=64).step_size
        0.05
    """

    step_size: float = 0.05

    def damping(self, h: jax.Array) -> jax.Array:
        return jnp.zeros_like(h)


@dataclasses.dataclass(frozen=True)
class SGHMC(AbstractSGMCMC):
    """Stochastic-gradient Hamiltonian Monte Carlo with an adapted metric (Springenberg et al. 2016).

    Attributes:
        friction: gamma, in the same units of time as the step size. Momentum is forgotten after 1 / (gamma h) steps.

    Example:
        >>> SGHMC(batch_size=None, step_size=0.1).friction
        1.0
    """

    friction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "friction")

    def damping(self, h: jax.Array) -> jax.Array:
        return jnp.exp(-self.friction * h)


@dataclasses.dataclass(frozen=True)
class CyclicalSGMCMC(AbstractSGMCMC):
    """Stochastic-gradient HMC in cycles (Zhang et al. 2020, arXiv:1902.03932): the step size falls along a cosine.

    The first part of a cycle explores without injected noise, the second samples; draws are kept from the second only.

    Attributes:
        num_cycles: cycles per chain; num_samples is split evenly among them.
        exploration: share of each cycle's steps without noise.
        friction: see `SGHMC`.

    Example:
        >>> CyclicalSGMCMC(num_samples=200, num_cycles=4).draws_per_cycle
        50
    """

    step_size: float = 0.03
    num_cycles: int = 10
    exploration: float = 0.5
    friction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "friction")
        check_positive_integers(self, "num_cycles")
        if not 0 < self.exploration < 1:
            raise ValueError(
                f"CyclicalSGMCMC(exploration={self.exploration}): expected a number in (0, 1)."
            )
        if self.num_samples % self.num_cycles:
            raise ValueError(
                f"CyclicalSGMCMC(num_samples={self.num_samples}, num_cycles={self.num_cycles}): expected a multiple, so that "
                "every cycle keeps as many draws."
            )

    @property
    def draws_per_cycle(self) -> int:
        return self.num_samples // self.num_cycles

    @property
    def exploring_steps(self) -> int:
        """Steps of a cycle before the first whose draw is kept."""
        sampling = self.draws_per_cycle * self.thinning
        return round(sampling * self.exploration / (1 - self.exploration))

    @property
    def cycle_length(self) -> int:
        return self.exploring_steps + self.draws_per_cycle * self.thinning

    def damping(self, h: jax.Array) -> jax.Array:
        return jnp.exp(-self.friction * h)

    def schedule(self, i: jax.Array) -> tuple[Any, Any]:
        """The cosine over a cycle; warm-up, which tunes the metric, has the step size of where sampling begins."""
        where = jnp.where(
            i < self.num_warmup, self.exploring_steps, (i - self.num_warmup) % self.cycle_length
        )
        h = 0.5 * self.step_size * (1 + jnp.cos(jnp.pi * where / self.cycle_length))
        return h, jnp.where(where < self.exploring_steps, 0.0, self.temperature)

    def steps_before(self, j: Any) -> Any:
        """Draws are kept from the second part of each cycle."""
        cycle, within = j // self.draws_per_cycle, j % self.draws_per_cycle
        explored = jnp.where(within > 0, self.exploring_steps, 0)
        kept = cycle * self.cycle_length + explored + within * self.thinning
        return self.num_warmup + jnp.where(j < 0, j, kept)
