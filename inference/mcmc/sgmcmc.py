"""Stochastic-gradient MCMC: engines for so many rows that a step can only see a few of them.

All of them are Langevin dynamics with the gradient of a minibatch (`langevin.py` has the
formulas). They differ in how much momentum a step keeps, and in how its size changes.

References: Welling and Teh (2011); Chen, Fox and Guestrin (2014), arXiv:1402.4102; Springenberg et
al. (2016); Zhang et al. (2020), arXiv:1902.03932.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from inference.core.engine import check_positive_integers, require_draws
from inference.core.findings import Finding
from inference.core.problem import Problem, ProblemError
from inference.core.result import AbstractResult
from inference.mcmc.findings import stochastic_diagnostics, stochastic_findings
from inference.mcmc.langevin import LangevinSampler
from inference.mcmc.langevin_settings import AbstractLangevinSettings, Scalar
from inference.mcmc.runner.sampler import Number
from inference.settings import check_positive


@dataclasses.dataclass(frozen=True)
class AbstractSGMCMC(AbstractLangevinSettings):
    """An engine with minibatches; `AbstractLangevinSettings` documents the settings."""

    @classmethod
    def example(cls) -> AbstractSGMCMC:
        return cls(num_warmup=100, num_samples=40, num_chains=2, thinning=2)

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
            # a step sees two batches of this size
            problem.minibatch(min(self.batch_size, total) // 2)
        except ProblemError as error:
            return str(error).rstrip(".")
        return None

    def sampler(self, problem: Problem) -> LangevinSampler:
        return LangevinSampler(self, problem)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        facts = super().diagnostics(problem, result)
        return facts | stochastic_diagnostics(require_draws(result))

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        found = super().findings(problem, result, facts)
        return (*found, *stochastic_findings(facts, self.noise_cure(facts)))

    def shorter_steps(self, facts: Mapping[str, float]) -> str:
        """Say how to shorten steps; where warm-up shortened them, to a value below that."""
        factor = facts.get("step size shortened to", 1.0)
        if factor >= 1:
            return "lower step_size"
        shortened = self.step_size * factor
        return f"lower step_size below {shortened:.2g} (to which warm-up shortened it)"

    def noise_cure(self, facts: Mapping[str, float]) -> str:
        """Say what to do about gradient noise, of what is not done yet."""
        cures = [self.shorter_steps(facts)]
        if self.batch_size is not None:
            cures.append("raise batch_size")
            if not self.control_variates:
                cures.append("use control_variates=True")
        return ", or ".join(cures)

    def divergence_cure(self, facts: Mapping[str, float]) -> str:
        return f"{self.shorter_steps(facts)}, or reparametrise"

    def step_size_of(self, result: AbstractResult) -> float:
        # the shortest over chains, as warm-up left it
        return self.step_size * min(result.info["shortened"])

    def with_half_step(self, result: AbstractResult) -> AbstractSGMCMC:
        return dataclasses.replace(
            self,
            step_size=self.step_size_of(result) / 2,
            thinning=2 * self.thinning,
            num_warmup=2 * self.num_warmup,
        )


@dataclasses.dataclass(frozen=True)
class SGLD(AbstractSGMCMC):
    """Stochastic-gradient Langevin dynamics (Welling and Teh 2011), preconditioned.

    It is the limit of infinite friction: a step keeps no momentum.

    Attributes:
        num_warmup: the number of steps per chain that tune the metric, whose draws are not kept.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; 50, because steps are short.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them side by side, as
            steps are cheap and equal.
        batch_size: the number of rows per step, an even number, drawn with replacement; None for
            all rows. The program needs a plate over its data.
        step_size: the step size h, in units in which the posterior's standard deviation is about
            1 per coordinate. The bias grows with it. The default is larger than that of `SGHMC`,
            because SGLD moves by diffusion.
        control_variates: whether gradients are differences to the gradient at an anchor, where
            that of all rows is known (SVRG): less noise for twice the work.
        renew_every: the number of steps after which the anchor is renewed; used with
            control variates.
        temperature: the temperature T of the posterior, p(z | y)^(1 / T). Other than 1 it is
            another posterior, and diagnoses say so.
        start: where chains start. "mode" begins each chain where Adam ends from a draw from the
            prior, which makes a deep ensemble; or "prior", "pathfinder", "uniform".

    Example:
        >>> SGLD(batch_size=64).step_size
        0.05
    """

    step_size: float = 0.05

    def damping(self, h: jax.Array) -> jax.Array:
        return jnp.zeros_like(h)


@dataclasses.dataclass(frozen=True)
class SGHMC(AbstractSGMCMC):
    """Stochastic-gradient Hamiltonian Monte Carlo with an adapted metric.

    Springenberg et al. (2016), "Bayesian optimization with robust Bayesian neural networks".

    Attributes:
        num_warmup: the number of steps per chain that tune the metric, whose draws are not kept.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; 50, because steps are short.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them side by side, as
            steps are cheap and equal.
        batch_size: the number of rows per step, an even number, drawn with replacement; None for
            all rows. The program needs a plate over its data.
        step_size: the step size h, in units in which the posterior's standard deviation is about
            1 per coordinate. The bias grows with it; warm-up shortens steps that a batch is too
            noisy for.
        control_variates: whether gradients are differences to the gradient at an anchor, where
            that of all rows is known (SVRG): less noise for twice the work.
        renew_every: the number of steps after which the anchor is renewed; used with
            control variates.
        temperature: the temperature T of the posterior, p(z | y)^(1 / T). Other than 1 it is
            another posterior, and diagnoses say so.
        start: where chains start. "mode" begins each chain where Adam ends from a draw from the
            prior, which makes a deep ensemble; or "prior", "pathfinder", "uniform".
        friction: the friction gamma, in the same units of time as the step size. Momentum is
            forgotten after 1 / (gamma h) steps, so 1 forgets it over one standard deviation.

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
    """Stochastic-gradient HMC in cycles, with step sizes that fall along a cosine.

    The first part of a cycle explores without injected noise, the second part samples; draws are
    kept from the second part only. Zhang et al. (2020), arXiv:1902.03932.

    Attributes:
        num_warmup: the number of steps per chain that tune the metric, whose draws are not kept.
        num_samples: the number of draws kept per chain, a multiple of num_cycles.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; 50, because steps are short.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them side by side, as
            steps are cheap and equal.
        batch_size: the number of rows per step, an even number, drawn with replacement; None for
            all rows. The program needs a plate over its data.
        step_size: the step size h at the start of a cycle, in units in which the posterior's
            standard deviation is about 1 per coordinate.
        control_variates: whether gradients are differences to the gradient at an anchor, where
            that of all rows is known (SVRG): less noise for twice the work.
        renew_every: the number of steps after which the anchor is renewed; used with
            control variates.
        temperature: the temperature T of the posterior, p(z | y)^(1 / T). Other than 1 it is
            another posterior, and diagnoses say so.
        start: where chains start. "mode" begins each chain where Adam ends from a draw from the
            prior, which makes a deep ensemble; or "prior", "pathfinder", "uniform".
        num_cycles: the number of cycles per chain; num_samples is split evenly among them.
        exploration: the share of each cycle's steps without injected noise, in (0, 1).
        friction: the friction gamma; see `SGHMC`.

    Example:
        >>> CyclicalSGMCMC(num_samples=200, num_cycles=4).draws_per_cycle
        50
    """

    cli_name: ClassVar[str] = "cyclical-sgmcmc"

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
                f"CyclicalSGMCMC(num_samples={self.num_samples}, num_cycles={self.num_cycles}): "
                "expected a multiple, so that every cycle keeps as many draws."
            )

    @classmethod
    def example(cls) -> CyclicalSGMCMC:
        return cls(num_warmup=100, num_samples=40, num_chains=2, thinning=2, num_cycles=4)

    @property
    def draws_per_cycle(self) -> int:
        return self.num_samples // self.num_cycles

    @property
    def exploring_steps(self) -> int:
        """The number of steps of a cycle before the first whose draw is kept."""
        sampling = self.draws_per_cycle * self.thinning
        return round(sampling * self.exploration / (1 - self.exploration))

    @property
    def cycle_length(self) -> int:
        """The number of steps of a cycle."""
        return self.exploring_steps + self.draws_per_cycle * self.thinning

    def damping(self, h: jax.Array) -> jax.Array:
        return jnp.exp(-self.friction * h)

    def schedule(self, i: jax.Array) -> tuple[Scalar, Scalar]:
        """Return step size and temperature of step i; the step size is a cosine over a cycle.

        Warm-up, which tunes the metric, has the step size at which sampling begins.
        """
        where = jnp.where(
            i < self.num_warmup, self.exploring_steps, (i - self.num_warmup) % self.cycle_length
        )
        h = 0.5 * self.step_size * (1 + jnp.cos(jnp.pi * where / self.cycle_length))
        return h, jnp.where(where < self.exploring_steps, 0.0, self.temperature)

    def steps_before(self, j: Number) -> jax.Array:
        """Return the number of steps before draw j, in the second part of its cycle."""
        cycle, within = j // self.draws_per_cycle, j % self.draws_per_cycle
        explored = jnp.where(within > 0, self.exploring_steps, 0)
        kept = cycle * self.cycle_length + explored + within * self.thinning
        return self.num_warmup + jnp.where(j < 0, j, kept)
