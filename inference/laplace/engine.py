"""The Laplace approximation: a normal distribution at the mode, with the curvature as precision.

A program that offers `LayeredNetwork` is linearised at the mode (`network.py` has the formulas),
and its mean moves off it where the likelihood is skewed (`skewness.py`). One that offers
`AbstractLatentFunction` gets the nested approximation (`nested.py`), and any other program the
textbook approximation at the joint mode (`joint.py`).

References: MacKay (1992), Neural Computation, "A practical Bayesian framework for backpropagation
networks"; Immer, Korzepa and Bauer (2021), arXiv:2008.08400. Both run in double precision.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TypeAlias

import jax
import numpy as np

from inference.core.engine import (
    MADE_FOR_IT,
    AbstractEngine,
    Preference,
    check_positive_integers,
    needs_gradients,
    problem_size,
)
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.problem import LogDensity, Problem
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, with_prefix
from inference.core.structure import AbstractLatentFunction, LayeredNetwork
from inference.core.typing import Info, Key, SiteArrays, StoredArrays
from inference.laplace.joint import NUM_SEARCHES, fit_joint
from inference.laplace.leave_one_out import left_out_densities
from inference.laplace.nested import fit_nested
from inference.laplace.network import WeightDensity, fit_network
from inference.laplace.result import LaplaceApproximation
from inference.settings import check_positive
from inference.sharing import ProblemFunction

# a dense precision matrix of this size takes 200 MB
LARGEST = 5000

# what is left to chains, and what to variational inference: rows times weights, and weights
LEAST_WORK, MOST_WORK, MOST_WEIGHTS = 10_000, 3_000_000, 3000

# the arrays of a result
PARTS = ("params/", "expansion/")

Density: TypeAlias = LogDensity | WeightDensity
"""The log density that the normal distribution approximates."""


@dataclasses.dataclass(frozen=True)
class Laplace(AbstractEngine):
    """The Laplace approximation; linearised (Gauss-Newton) for networks.

    Attributes:
        max_steps: the most L-BFGS steps of each search for a mode; 2000 is enough for searches to
            end by convergence.
        num_rounds: the most rounds of expectation maximisation for the sites that are not
            weights. Networks only.
        num_draws: the number of draws that represent q(w) in the M-step. Networks only.
        tolerance: the largest change of such a site, in unconstrained space, at which the rounds
            stop; small beside a posterior standard deviation. Networks only.

    Example:
        >>> Laplace(num_rounds=5).num_rounds
        5
    """

    max_steps: int = 2000
    num_rounds: int = 50
    num_draws: int = 64
    tolerance: float = 0.005

    def __post_init__(self) -> None:
        check_positive(self, "tolerance")
        check_positive_integers(self, "max_steps", "num_rounds", "num_draws")

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        rows, size = problem_size(problem)
        network = problem.structure
        if isinstance(network, AbstractLatentFunction):
            return _preference_for_function(rows, size)
        if not isinstance(network, LayeredNetwork) or len(network.matrices) < 2:
            return None
        fits = LEAST_WORK < rows * size <= MOST_WORK and size <= MOST_WEIGHTS
        if not fits or cls().supports(problem):
            return None
        reason = (
            f"a network of {size} weights and {rows} rows takes minutes by MCMC, and less "
            "linearised at its mode"
        )
        return Preference(cls(), reason, MADE_FOR_IT)

    def supports(self, problem: Problem) -> str | None:
        size = sum(int(np.prod(shape)) for shape in problem.latents.values())
        if size > LARGEST:
            return (
                f"{size} latent dimensions need a dense matrix of that size; the limit is {LARGEST}"
            )
        if isinstance(problem.structure, LayeredNetwork) and not problem.structure.scale_per_site:
            return (
                "it needs weights that are normal with one scale per layer (bdl.priors.Gaussian "
                "or Hierarchical)"
            )
        return needs_gradients(problem)

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> LaplaceApproximation:
        started = time.perf_counter()
        layered = isinstance(problem.structure, LayeredNetwork)
        progress.start(self.num_rounds if layered else 1, "Laplace")
        try:
            with jax.enable_x64(True):
                names = ("start", *(f"start {i}" for i in range(1, NUM_SEARCHES)))
                starts = problem.log_density().starts([named_key(key, name) for name in names])
                expansion = None
                if layered:
                    settings = dataclasses.asdict(self)
                    params, expansion, converged = fit_network(
                        problem, next(starts), key, progress, **settings
                    )
                elif isinstance(problem.structure, AbstractLatentFunction):
                    params, converged = fit_nested(problem, self.max_steps, key, progress)
                else:
                    params, converged = fit_joint(problem, starts, self.max_steps, progress)
        finally:
            progress.close()
        info = {"converged": converged, "seconds": time.perf_counter() - started}
        return self.approximation(problem, params, expansion, info)

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> LaplaceApproximation:
        params, expansion = (with_prefix(arrays, part) for part in PARTS)
        return self.approximation(problem, params, expansion or None, info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        if result.info.get("converged", True):
            return ()
        cure = "raise max_steps and num_rounds"
        return (Finding("The search for the mode did not converge", cure, "failure"),)

    def left_out(self, problem: Problem, result: AbstractResult) -> np.ndarray | None:
        """Return log p(y_i | y_-i) of the linearised network; see `leave_one_out.py`."""
        if not isinstance(problem.structure, LayeredNetwork):
            return None
        params, expansion = (with_prefix(result.arrays(), part) for part in PARTS)
        with jax.enable_x64(True):
            return left_out_densities(problem, params, expansion)

    def cure_of_width(self) -> str:
        return (
            "the normal distribution at the mode has another width than the posterior: "
            "reparametrise (handlers.reparam), or fit with bdl.NUTS()"
        )

    def approximation(
        self, problem: Problem, params: StoredArrays, expansion: StoredArrays | None, info: Info
    ) -> LaplaceApproximation:
        """Return the result.

        Args:
            problem: the problem whose posterior is approximated.
            params: the parameters of the normal distribution.
            expansion: the sites around which the network is linearised, or None.
            info: facts about the run.
        """
        fixed = () if expansion is None else (expansion,)
        return LaplaceApproximation(
            params,
            draw=ProblemFunction(problem, _draw, fixed=fixed),
            log_weight=ProblemFunction(problem, _log_weight, fixed=fixed),
            losses=np.zeros(0),
            expansion=expansion,
            info=info,
        )


def _preference_for_function(rows: int, size: int) -> Preference | None:
    """Return what Laplace offers for a function whose values are latent."""
    if size > LARGEST:
        return None
    reason = (
        f"each step of a sampler takes a factor of a matrix of {rows} rows, and a normal "
        "distribution at the mode takes few"
    )
    return Preference(Laplace(), reason, MADE_FOR_IT)


def _density(problem: Problem, expansion: SiteArrays | None) -> Density:
    """Return the log density that was approximated; for networks that of the linearised one."""
    if expansion is None:
        return problem.log_density()
    program = problem.structure_as(LayeredNetwork).linearize(problem.program, expansion)
    return WeightDensity(dataclasses.replace(problem, program=program))


def _draw(
    problem: Problem, key: Key, params: dict, expansion: SiteArrays | None = None
) -> SiteArrays:
    """Draw the program's sites once."""
    noise = jax.random.normal(key, params["loc"].shape)
    u = params["loc"] + params["covariance_root"] @ noise
    return _density(problem, expansion).constrain(u)


def _log_weight(
    problem: Problem, key: Key, params: dict, expansion: SiteArrays | None = None
) -> jax.Array:
    """Return log p(y, z) - log q(z) at one draw; for networks p is the linearised program."""
    noise = jax.random.normal(key, params["loc"].shape)
    u = params["loc"] + params["covariance_root"] @ noise
    log_q = jax.scipy.stats.norm.logpdf(noise).sum() - params["log_det_root"]
    return _density(problem, expansion)(u) - log_q
