"""Gibbs sampling of discrete latent sites, with Hamiltonian Monte Carlo for the others.

For programs whose discrete sites cannot be summed out. With z for the continuous and s for the
discrete sites, a step draws each entry of s, in random order, from

    p(s_i | s_-i, z, y),

and then z by a step of NUTS on log p(z | s, y). The mixed sampler draws entries of s along the
trajectory of z, as a particle that passes or is reflected where the potential energy jumps.

References: Liu (1996), "Peskun's theorem and a modified discrete-state Gibbs sampler", Biometrika
83; Zhou (2020), "Mixed Hamiltonian Monte Carlo for mixed discrete and continuous variables",
arXiv:1909.04852. The kernels are NumPyro's `DiscreteHMCGibbs`, `DiscreteGibbs` and `MixedHMC`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
from jax.core import Tracer
from numpyro import handlers
from numpyro.infer.gibbs import DiscreteGibbs, DiscreteGibbsState
from numpyro.infer.hmc_gibbs import HMCGibbsState
from numpyro.infer.mcmc import MCMCKernel
from numpyro.infer.mixed_hmc import MixedHMCState
from numpyro.infer.util import constrain_fn

from inference.core.engine import (
    SAMPLING,
    Preference,
    check_positive_integers,
    fix_params,
    mutable_state,
    require_draws,
)
from inference.core.enumeration.check import why_not_summed
from inference.core.enumeration.indexed import ByIndices, indexed, values_at
from inference.core.findings import Finding
from inference.core.problem import Problem
from inference.core.result import AbstractResult
from inference.core.typing import Info, Key, SiteArrays
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.hmc import check_target_accept
from inference.mcmc.runner.layout import reason_unsupported
from inference.mcmc.runner.sampler import AbstractSampler, ChainState, Position
from inference.settings import check_positive
from inference.wrappers import innermost_support


@dataclasses.dataclass(frozen=True)
class Gibbs(AbstractMCMC):
    """Gibbs sampling of discrete latent sites, for programs in which they cannot be summed out.

    A step costs one log density for each value of each entry of the discrete sites. Where sites can
    be summed out, `NUTS` is faster and mixes better.

    Attributes:
        num_warmup: the number of adaptation steps per chain, whose draws are not kept. Step size
            and mass matrix of the continuous sites are tuned in them.
        num_samples: the number of draws kept per chain.
        num_chains: the number of independent chains; R-hat needs at least two to say much.
        thinning: the number of steps per kept draw; discrete sites may need more than one.
        chain_method: "sequential" runs chains in turn on one device, "vectorized" side by side on
            the devices, "parallel" with one device per chain; "auto" chooses.
        target_accept: the acceptance probability, in (0, 1), that the step size aims at.
        dense_mass: whether the mass matrix of the continuous sites is dense instead of diagonal.
        max_tree_depth: a trajectory has at most 2 ** max_tree_depth leapfrog steps.
        mixed: whether discrete sites are drawn along the trajectory of the others, by mixed HMC.
        trajectory_length: the integration time of a trajectory of mixed HMC.
        random_walk: whether an entry is proposed uniformly among its values and then accepted or
            not, instead of being drawn from its conditional distribution: for many values.
        modified: whether proposals are other values than the current one (Liu 1996).
        largest: the largest value of sites without a known bound, such as a Poisson count; larger
            ones are left out. None refuses such sites.

    Example:
        >>> Gibbs(num_samples=500, largest=100).largest
        100
    """

    target_accept: float = 0.8
    dense_mass: bool = False
    max_tree_depth: int = 10
    mixed: bool = False
    trajectory_length: float = 2 * math.pi
    random_walk: bool = False
    modified: bool = False
    largest: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target_accept(self, self.target_accept)
        check_positive(self, "trajectory_length")
        check_positive_integers(self, "max_tree_depth")
        check_positive_integers(self, "largest", optional=True)

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        if not problem.discrete_latents or cls().supports(problem):
            return None
        if not why_not_summed(problem.with_drawn_sites(())):
            return None
        return Preference(cls(), "its discrete sites cannot be summed out", SAMPLING - 1)

    @classmethod
    def example(cls) -> Gibbs:
        return cls(num_warmup=60, num_samples=40, num_chains=2)

    def pose(self, problem: Problem) -> Problem:
        """Return the problem as predictions see it: with the sites summed out where they can be."""
        problem = fix_params(problem)
        if not problem.discrete_latents:
            return problem
        whole = problem.with_drawn_sites(())
        keep = not whole.latents or why_not_summed(whole) is not None
        return problem.with_drawn_sites(problem.discrete_latents) if keep else whole

    def supports(self, problem: Problem) -> str | None:
        if not problem.discrete_latents:
            return "it draws discrete latent sites, and this program has none"
        refused = (
            mutable_state(problem)
            or reason_unsupported(self.chain_method, self.num_chains)
            or _why_bounds_are_kept(problem)
        )
        if refused:
            return refused
        if self.mixed and set(problem.discrete_latents) == set(problem.unobserved):
            return "mixed HMC needs a continuous latent site; leave out mixed=True"
        try:
            jax.eval_shape(self.sampler(problem).init, jax.random.key(0))
        # a site whose values are not known, or what NumPyro's kernels refuse
        except ValueError as error:
            return str(error).rstrip(".")
        return None

    def sampler(self, problem: Problem) -> AbstractDiscreteSampler:
        problem = fix_params(problem).with_drawn_sites(problem.discrete_latents)
        program = indexed(problem, self.largest)
        how = {"random_walk": self.random_walk, "modified": self.modified}
        if set(problem.discrete_latents) == set(problem.unobserved):
            return DiscreteSampler(DiscreteGibbs(program, **how), problem, program, self)
        inner: dict[str, Any] = {
            "target_accept_prob": self.target_accept,
            "dense_mass": self.dense_mass,
        }
        if self.mixed:
            hmc = numpyro.infer.HMC(program, trajectory_length=self.trajectory_length, **inner)
            return GibbsSampler(numpyro.infer.MixedHMC(hmc, **how), problem, program, self)
        nuts = numpyro.infer.NUTS(program, max_tree_depth=self.max_tree_depth, **inner)
        return GibbsSampler(numpyro.infer.DiscreteHMCGibbs(nuts, **how), problem, program, self)

    def diagnosis_settings(self) -> Info:
        return {} if self.mixed else {"max_tree_depth": self.max_tree_depth}

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        found = super().findings(problem, result, facts)
        samples = require_draws(result).samples
        cut = {name: r for name, r in indexed(problem, self.largest).ranges.items() if r.cut}
        return found + tuple(
            Finding(
                f"Draws of site '{name}' reach {self.largest}, above which values were left out",
                f"raise largest={self.largest}",
            )
            for name in cut
            if np.max(samples[name]) >= self.largest
        )


def _why_bounds_are_kept(problem: Problem) -> str | None:
    """Return why NumPyro's kernels would keep the first bounds of a site's support, or None."""
    for name in set(problem.unobserved) - set(problem.discrete_latents):
        distribution = problem.trace[name]["fn"]
        inside = innermost_support(distribution)
        bounds = (getattr(inside, f"{end}_bound", None) for end in ("lower", "upper"))
        # NumPyro sees that bounds change in these cases only
        seen = hasattr(distribution.support, "lower_bound")
        if not seen and any(isinstance(bound, Tracer) for bound in bounds):
            return (
                f"site '{name}' has arrays as bounds of its support that NumPyro's kernels would "
                "keep as they were first; put its entries in a numpyro.plate instead of to_event, "
                "or scale a site between 0 and 1"
            )
    return None


class AbstractDiscreteSampler(AbstractSampler):
    """A chain of one of NumPyro's kernels for discrete sites.

    Args:
        kernel: the kernel.
        problem: the problem, all of whose discrete latent sites are drawn.
        program: its program, with the indices of discrete values.
        settings: the engine.
    """

    quick_start = True
    max_starts = 100

    def __init__(
        self, kernel: MCMCKernel, problem: Problem, program: ByIndices, settings: Gibbs
    ) -> None:
        super().__init__(problem, settings.num_warmup, settings.thinning)
        self.kernel, self.program = kernel, program
        self.data = (problem.args, dict(problem.kwargs))

    def init(self, key: Key) -> ChainState:
        return self.kernel.init(key, self.num_warmup, None, *self.data)

    def prepare(self) -> None:
        # NumPyro's kernels learn in `init` what a step is
        jax.eval_shape(self.init, jax.random.key(0))

    def step(self, i: jax.Array, state: ChainState) -> ChainState:
        return self.kernel.sample(state, *self.data)

    def constrain(self, position: Position) -> SiteArrays:
        args, kwargs = self.data
        index = {name: position[name] for name in self.program.ranges}
        rest = {name: value for name, value in position.items() if name not in index}
        # the kernel's own transforms keep bounds of supports as they were where `init` was traced
        told = constrain_fn(
            handlers.substitute(handlers.seed(self.program, jax.random.key(0)), data=index),
            args,
            kwargs,
            rest,
            return_deterministic=True,
        )
        return values_at(self.problem, self.program.ranges, {**index, **told})


class DiscreteSampler(AbstractDiscreteSampler):
    """A chain of a program all of whose latent sites are discrete."""

    def record(self, state: DiscreteGibbsState) -> tuple[Position, SiteArrays]:
        lp = -state.potential_energy
        return state.z, {"lp": lp, "diverging": jnp.zeros(jnp.shape(lp), bool)}


class GibbsSampler(AbstractDiscreteSampler):
    """A chain of discrete sites and others, which HMC draws."""

    def record(self, state: HMCGibbsState | MixedHMCState) -> tuple[Position, SiteArrays]:
        inner = state.hmc_state
        return state.z, {
            "acceptance_rate": inner.accept_prob,
            "diverging": inner.diverging,
            "lp": -inner.potential_energy,
            "n_steps": inner.num_steps,
        }

    def facts(self, states: HMCGibbsState | MixedHMCState) -> Info:
        sizes = np.atleast_1d(states.hmc_state.adapt_state.step_size)
        return {"step_size": [float(size) for size in sizes]}
