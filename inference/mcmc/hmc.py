"""Hamiltonian Monte Carlo, with a fixed trajectory (HMC) or one that stops on its way back (NUTS).

With potential energy U(u) = -log density(u) and momentum p ~ N(0, M), the leapfrog integrator
follows trajectories of

    H(u, p) = U(u) + p' M^-1 p / 2.

Step size and M are adapted in warm-up.

References: Neal (2011), arXiv:1206.1901; Hoffman and Gelman (2014), arXiv:1111.4246. The kernels
are NumPyro's.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np
import numpyro.infer
from numpyro.infer.hmc import HMCState
from numpyro.infer.mcmc import MCMCKernel

from inference.core.engine import (
    SAMPLING,
    Preference,
    check_choice,
    check_positive_integers,
    problem_size,
)
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.structure import LayeredNetwork
from inference.core.typing import ChainStart, Info, Key, SiteArrays
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.runner.sampler import AbstractSampler, Position
from inference.mcmc.starts import DRAWN, STARTS
from inference.settings import check_positive

# Rows times latent dimensions; a default run of NUTS then takes some minutes on two cores.
WORK = 3_000_000


def check_target_accept(engine: AbstractMCMC, value: float) -> None:
    """Refuse an acceptance probability outside (0, 1).

    Raises:
        ValueError: naming the engine and what was got.
    """
    if not 0 < value < 1:
        raise ValueError(
            f"{type(engine).__name__}(target_accept={value}): expected a number in (0, 1)."
        )


@dataclasses.dataclass(frozen=True)
class AbstractHamiltonian(AbstractMCMC):
    """Settings shared by NUTS and HMC, besides those of `AbstractChainSettings`.

    Attributes:
        target_accept: the acceptance probability that the adapted step size aims at.
        dense_mass: whether M is dense instead of diagonal.
        start: where chains start.
    """

    target_accept: float = 0.8
    dense_mass: bool = False
    start: ChainStart = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "start", tuple(STARTS))
        check_target_accept(self, self.target_accept)

    @abc.abstractmethod
    def kernel(self, problem: Problem) -> MCMCKernel:
        """Return NumPyro's kernel with these settings."""

    def sampler(self, problem: Problem) -> NumPyroSampler:
        return NumPyroSampler(
            self.kernel(problem), problem, self.num_warmup, self.thinning, self.start
        )


class NumPyroSampler(AbstractSampler):
    """A chain of one of NumPyro's kernels.

    Args:
        kernel: the kernel.
        problem: the problem that is sampled.
        num_warmup: the number of adaptation steps.
        thinning: the number of steps per kept draw.
        start_method: where the chain starts, one of `STARTS`.
    """

    max_starts = 100

    def __init__(
        self,
        kernel: MCMCKernel,
        problem: Problem,
        num_warmup: int,
        thinning: int,
        start_method: str,
    ) -> None:
        super().__init__(problem, num_warmup, thinning)
        self.kernel, self.start_method = kernel, start_method
        self.quick_start = start_method in DRAWN
        self.data = (problem.args, dict(problem.kwargs))

    def init(self, key: Key) -> HMCState:
        density = self.problem.log_density()
        near = density.unravel(STARTS[self.start_method](density, named_key(key, "start")))
        init: Callable[..., HMCState] = self.kernel.init
        return init(key, self.num_warmup, near, *self.data)

    def prepare(self) -> None:
        # NumPyro's kernels learn in `init` what a step is
        jax.eval_shape(self.init, jax.random.key(0))

    def step(self, i: jax.Array, state: HMCState) -> HMCState:
        sample: Callable[..., HMCState] = self.kernel.sample
        return sample(state, *self.data)

    def record(self, state: HMCState) -> tuple[Position, SiteArrays]:
        stats = {
            "acceptance_rate": state.accept_prob,
            "diverging": state.diverging,
            "energy": state.energy,
            "lp": -state.potential_energy,
            "n_steps": state.num_steps,
        }
        return state.z, stats

    def constrain(self, position: Position) -> SiteArrays:
        # the kernel's own transforms keep bounds of supports as they were where `init` was traced
        density = self.problem.log_density()
        return density.constrain(density.ravel(position))

    def facts(self, states: HMCState) -> Info:
        return {"step_size": [float(s) for s in np.atleast_1d(states.adapt_state.step_size)]}


@dataclasses.dataclass(frozen=True)
class NUTS(AbstractHamiltonian):
    """The No-U-Turn Sampler (Hoffman and Gelman 2014, arXiv:1111.4246).

    The defaults are NumPyro's and Stan's, except that there are four chains, because R-hat
    compares chains.

    Attributes:
        num_warmup: the number of adaptation steps per chain, whose draws are not kept. Step size
            and mass matrix are tuned in them.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw. One keeps every draw, as NUTS's are hardly
            correlated.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them in turn on each
            processor device, and side by side on an accelerator.
        target_accept: the acceptance probability, in (0, 1), that the step size aims at; 0.8
            balances cost and accuracy. Raise it when draws diverge.
        dense_mass: whether the mass matrix M is dense, for strongly correlated posteriors of few
            dimensions, instead of diagonal.
        start: where chains start. "uniform" starts at U(-2, 2) in unconstrained space, as Stan
            does; "prior" at a draw from the prior; "mode" where Adam ends from there;
            "pathfinder" at a draw from a normal approximation that L-BFGS finds on its way to a
            mode (Zhang et al. 2022, arXiv:2108.03782).
        max_tree_depth: a trajectory has at most 2 ** max_tree_depth leapfrog steps; 10 bounds
            what a step can cost.

    Example:
        >>> NUTS(num_warmup=500, num_samples=500).num_chains
        4
    """

    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive_integers(self, "max_tree_depth")

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        rows, size = problem_size(problem)
        if rows * size > WORK:
            return None
        start = "prior" if isinstance(problem.structure, LayeredNetwork) else "uniform"
        reason = f"{rows} rows and {size} latent dimensions are few enough for MCMC"
        return Preference(cls(start=start), reason, SAMPLING)

    @classmethod
    def example(cls) -> NUTS:
        return cls(num_warmup=60, num_samples=40, num_chains=2)

    def diagnosis_settings(self) -> Info:
        return {"max_tree_depth": self.max_tree_depth}

    def kernel(self, problem: Problem) -> MCMCKernel:
        return numpyro.infer.NUTS(
            problem.density_program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            max_tree_depth=self.max_tree_depth,
        )


@dataclasses.dataclass(frozen=True)
class HMC(AbstractHamiltonian):
    """Hamiltonian Monte Carlo with a fixed trajectory length (Neal 2011, arXiv:1206.1901).

    Attributes:
        num_warmup: the number of adaptation steps per chain, whose draws are not kept. Step size
            and mass matrix are tuned in them.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; one keeps every draw.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" runs them in turn on each
            processor device, and side by side on an accelerator.
        target_accept: the acceptance probability, in (0, 1), that the step size aims at; 0.8
            balances cost and accuracy. Raise it when draws diverge.
        dense_mass: whether the mass matrix M is dense instead of diagonal.
        start: where chains start: "uniform", "prior", "mode" or "pathfinder"; see `NUTS`.
        trajectory_length: the integration time of a trajectory, used if num_steps is None. The
            default, 2 pi, is NumPyro's: a period of a standard normal posterior.
        num_steps: a fixed number of leapfrog steps instead, or None.

    Example:
        >>> HMC(num_steps=20).num_steps
        20
    """

    trajectory_length: float = 2 * math.pi
    num_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "trajectory_length")
        check_positive_integers(self, "num_steps", optional=True)

    @classmethod
    def example(cls) -> HMC:
        return cls(num_warmup=60, num_samples=40, num_chains=2, num_steps=8)

    def kernel(self, problem: Problem) -> MCMCKernel:
        length = None if self.num_steps else self.trajectory_length
        return numpyro.infer.HMC(
            problem.density_program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            trajectory_length=length,  # pyright: ignore[reportArgumentType]
            num_steps=self.num_steps,
        )
