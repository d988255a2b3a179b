"""Hamiltonian Monte Carlo, with a fixed trajectory (HMC) or one that stops when it turns back (NUTS).

With potential energy U(u) = -log density(u) and momentum p ~ N(0, M), trajectories of
H(u, p) = U(u) + p' M^-1 p / 2 are followed by the leapfrog integrator; step size and M are adapted in warm-up.

References: Neal (2011), arXiv:1206.1901; Hoffman and Gelman (2014), arXiv:1111.4246. The kernels are NumPyro's.
"""

from __future__ import annotations

import abc
import dataclasses

import jax
import numpyro.infer
from numpyro.infer.initialization import init_to_sample, init_to_uniform
from numpyro.infer.mcmc import MCMCKernel

from inference.engine import AbstractEngine, choice, needs_gradients, positive, positive_integers
from inference.mcmc.chains import CHAIN_METHODS, lacks_devices, run_chains
from inference.problem import Problem
from inference.progress import AbstractProgress, Silent
from inference.result import Draws

STARTS = {"uniform": init_to_uniform, "prior": init_to_sample}


@dataclasses.dataclass(frozen=True)
class AbstractHamiltonian(AbstractEngine):
    """Settings shared by NUTS and HMC; names are NumPyro's, but `num_samples` counts the draws kept after thinning.

    Attributes:
        num_warmup: adaptation steps per chain, not kept.
        num_samples: draws kept per chain.
        num_chains: independent chains; R-hat needs at least two to say much.
        target_accept: acceptance probability aimed at by the step size; raise it when draws diverge.
        dense_mass: whether M is dense instead of diagonal.
        thinning: keep every so-manieth draw.
        chain_method: "auto", "sequential", "vectorized" or "parallel".
        start: "uniform" starts at U(-2, 2) in unconstrained space, "prior" at a draw from the prior.
    """

    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    target_accept: float = 0.8
    dense_mass: bool = False
    thinning: int = 1
    chain_method: str = "auto"
    start: str = "uniform"

    def __post_init__(self) -> None:
        positive_integers(self, "num_warmup", "num_samples", "num_chains", "thinning")
        choice(self, "chain_method", CHAIN_METHODS)
        choice(self, "start", tuple(STARTS))
        if not 0 < self.target_accept < 1:
            raise ValueError(f"{type(self).__name__}(target_accept={self.target_accept}): expected a number in (0, 1).")

    def noted(self) -> dict:
        """Settings that diagnoses need."""
        return {}

    @abc.abstractmethod
    def kernel(self, problem: Problem) -> MCMCKernel:
        """NumPyro's kernel with these settings."""

    def supports(self, problem: Problem) -> str | None:
        return needs_gradients(problem) or lacks_devices(self.chain_method, self.num_chains)

    def infer(self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()) -> Draws:
        return run_chains(
            self.kernel(problem),
            problem,
            num_chains=self.num_chains,
            num_warmup=self.num_warmup,
            num_samples=self.num_samples,
            thinning=self.thinning,
            chain_method=self.chain_method,
            key=key,
            progress=progress,
            settings=self.noted(),
        )

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Draws:
        return Draws.from_arrays(arrays, info)


@dataclasses.dataclass(frozen=True)
class NUTS(AbstractHamiltonian):
    """The No-U-Turn Sampler (Hoffman and Gelman 2014, arXiv:1111.4246).

    Attributes:
        max_tree_depth: a trajectory has at most 2 ** max_tree_depth leapfrog steps.

    Example:
        >>> NUTS(num_warmup=500, num_samples=500).num_chains
        4
    """

    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_integers(self, "max_tree_depth")

    def noted(self) -> dict:
        return {"max_tree_depth": self.max_tree_depth}

    def kernel(self, problem: Problem) -> MCMCKernel:
        return numpyro.infer.NUTS(
            problem.program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            max_tree_depth=self.max_tree_depth,
            init_strategy=STARTS[self.start],
        )


@dataclasses.dataclass(frozen=True)
class HMC(AbstractHamiltonian):
    """Hamiltonian Monte Carlo with a fixed trajectory length (Neal 2011, arXiv:1206.1901).

    Attributes:
        trajectory_length: integration time of a trajectory; used where num_steps is None.
        num_steps: fixed number of leapfrog steps instead, or None.

    Example:
        >>> HMC(num_steps=20).num_steps
        20
    """

    trajectory_length: float = 6.283185307179586
    num_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "trajectory_length")
        positive_integers(self, "num_steps", optional=True)

    def kernel(self, problem: Problem) -> MCMCKernel:
        return numpyro.infer.HMC(
            problem.program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            trajectory_length=None if self.num_steps else self.trajectory_length,  # pyright: ignore[reportArgumentType]
            num_steps=self.num_steps,
            init_strategy=STARTS[self.start],
        )
