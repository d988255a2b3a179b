"""Hamiltonian Monte Carlo, with a fixed trajectory (HMC) or one that stops when it turns back (NUTS).

With potential energy U(u) = -log density(u) and momentum p ~ N(0, M), trajectories of
H(u, p) = U(u) + p' M^-1 p / 2 are followed by the leapfrog integrator; step size and M are adapted in warm-up.

References: Neal (2011), arXiv:1206.1901; Hoffman and Gelman (2014), arXiv:1111.4246. The kernels are NumPyro's.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
from numpyro.infer.mcmc import MCMCKernel

from inference.core.engine import check_choice, check_positive, check_positive_integers
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError, no_start_message
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.layout import Layout, over_chains, place, to_host
from inference.mcmc.sampler import AbstractSampler
from inference.mcmc.starts import DRAWN, STARTS

MAX_STARTS = 100


@dataclasses.dataclass(frozen=True)
class AbstractHamiltonian(AbstractMCMC):
    """Settings shared by NUTS and HMC, besides those of `AbstractMCMC`.

    Attributes:
        target_accept: acceptance probability aimed at by the step size; raise it when draws diverge.
        dense_mass: whether M is dense instead of diagonal.
        start: "uniform" starts at U(-2, 2) in unconstrained space, "prior" at a draw from the prior, "mode" where Adam ends
            from there, "pathfinder" at a draw from a normal approximation found on the way from near U(-2, 2) to a mode
            (Zhang et al. 2022, arXiv:2108.03782).
    """

    target_accept: float = 0.8
    dense_mass: bool = False
    start: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "start", tuple(STARTS))
        if not 0 < self.target_accept < 1:
            raise ValueError(
                f"{type(self).__name__}(target_accept={self.target_accept}): expected a number in (0, 1)."
            )

    @abc.abstractmethod
    def kernel(self, problem: Problem) -> MCMCKernel:
        """NumPyro's kernel with these settings."""

    def sampler(self, problem: Problem) -> NumPyroSampler:
        return NumPyroSampler(
            self.kernel(problem), problem, self.num_warmup, self.thinning, self.start
        )


class NumPyroSampler(AbstractSampler):
    """A chain of one of NumPyro's kernels."""

    def __init__(
        self, kernel: MCMCKernel, problem: Problem, num_warmup: int, thinning: int, where: str
    ) -> None:
        super().__init__(problem, num_warmup, thinning)
        self.kernel, self.where, self.quick_start = kernel, where, where in DRAWN
        self.data = (problem.args, dict(problem.kwargs))

    def init(self, key: jax.Array) -> Any:
        density = self.problem.log_density()
        near = density.unravel(STARTS[self.where](density, named_key(key, "start")))
        return self.kernel.init(key, self.num_warmup, near, *self.data)  # pyright: ignore[reportArgumentType]

    def prepare(self) -> None:
        jax.eval_shape(self.init, jax.random.key(0))  # NumPyro's kernels learn in it what a step is

    def start(self, begin: Callable[[jax.Array], Any], keys: jax.Array, layout: Layout) -> Any:
        """Chains whose start has no finite density are started again, elsewhere."""
        replaced = over_chains(replace_bad_starts, layout)
        states = begin(place(keys, layout))
        for attempt in range(1, MAX_STARTS):
            good = np.isfinite(to_host(states.potential_energy))
            if good.all():
                return states
            others = begin(place(jax.vmap(jax.random.fold_in, (0, None))(keys, attempt), layout))
            states = replaced((place(good, layout), states, others))
        raise ProblemError(no_start_message(self.problem))

    def step(self, i: jax.Array, state: Any) -> Any:
        return self.kernel.sample(state, *self.data)

    def record(self, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        stats = {
            "acceptance_rate": state.accept_prob,
            "diverging": state.diverging,
            "energy": state.energy,
            "lp": -state.potential_energy,
            "n_steps": state.num_steps,
        }
        return state.z, stats

    def constrain(self, position: Any) -> dict[str, jax.Array]:
        return self.kernel.postprocess_fn(*self.data)(position)

    def facts(self, states: Any) -> dict[str, Any]:
        return {"step_size": [float(s) for s in np.atleast_1d(states.adapt_state.step_size)]}


def replace_bad_starts(given: tuple[jax.Array, Any, Any]) -> Any:
    """Of (whether the first is good, one state, another one) the good one."""
    good, one, other = given
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), one, other)


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
        check_positive_integers(self, "max_tree_depth")

    def noted(self) -> dict:
        return {"max_tree_depth": self.max_tree_depth}

    def kernel(self, problem: Problem) -> MCMCKernel:
        return numpyro.infer.NUTS(
            problem.program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            max_tree_depth=self.max_tree_depth,
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
        check_positive(self, "trajectory_length")
        check_positive_integers(self, "num_steps", optional=True)

    def kernel(self, problem: Problem) -> MCMCKernel:
        return numpyro.infer.HMC(
            problem.program,
            target_accept_prob=self.target_accept,
            dense_mass=self.dense_mass,
            trajectory_length=None if self.num_steps else self.trajectory_length,  # pyright: ignore[reportArgumentType]
            num_steps=self.num_steps,
        )
