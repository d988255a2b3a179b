"""Guides by name: NumPyro's autoguides, normal distributions or flows in unconstrained space.

- "mean-field" has independent coordinates (Kucukelbir et al. 2017, arXiv:1603.00788).
- "low-rank" has a diagonal plus low-rank covariance (Ong, Nott and Smith 2018, arXiv:1701.03208).
- "full-rank" has any covariance.
- "flow" is an inverse autoregressive flow (Kingma et al. 2016, arXiv:1606.04934).
- "laplace" has any covariance, and begins as the Laplace approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer import autoguide
from numpyro.infer.initialization import init_to_sample, init_to_value

from inference.core.findings import no_start_message
from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import Problem, ProblemError
from inference.core.program import WholePlates
from inference.core.typing import Key, Program, SiteArrays
from inference.laplace.curvature import (
    compile_hessian,
    inverse_root,
    potential,
    value_and_slope,
)
from inference.programs.impossible import impossible_rows
from inference.sharing import compile_with_data
from inference.vi.distributions import AbstractProgramDistribution

GUIDES: dict[str, Callable] = {
    "mean-field": autoguide.AutoDiagonalNormal,
    "low-rank": autoguide.AutoLowRankMultivariateNormal,
    "full-rank": autoguide.AutoMultivariateNormal,
    "flow": autoguide.AutoIAFNormal,
    "laplace": autoguide.AutoMultivariateNormal,
}
LAPLACE_STEPS = 2000
# draws from the prior, of which the most probable one is where a guide begins
CANDIDATES = 16


def make_autoguide(
    name: str,
    problem: Problem,
    key: Key,
    rank: int | None,
    initial_scale: float,
    start: SiteArrays | None = None,
) -> autoguide.AutoGuide:
    """Make the guide with this name, with its shapes known.

    Args:
        name: one of `GUIDES`.
        problem: the problem whose posterior the guide approximates.
        key: the random key for its location where no start is given, a draw from the prior.
        rank: the rank of a low-rank guide; None for the square root of the dimension.
        initial_scale: the standard deviation at the start; flows have none.
        start: the values of the latent sites at its location.

    Raises:
        ProblemError: where no start has a finite log density.
    """
    settings: dict[str, Any] = {} if name == "flow" else {"init_scale": initial_scale}
    settings |= {"rank": rank} if name == "low-rank" else {}
    at = init_to_sample if start is None else init_to_value(values=start)
    guide = GUIDES[name](problem.density_program, init_loc_fn=at, **settings)
    try:
        with handlers.seed(rng_seed=key):
            guide(*problem.args, **problem.kwargs)
    # what NumPyro says where it finds no start
    except RuntimeError as error:
        if "valid initial parameters" not in str(error):
            raise
        message = no_start_message(problem.latents, impossible_rows(problem))
        raise ProblemError(message) from error
    return guide


def guide_sites(guide: Program | AbstractProgramDistribution, problem: Problem) -> set[str]:
    """Return the names of the sites that a user's guide draws.

    A guide that cannot be called with the data is refused later, and counts as one that draws all.
    """
    program: Any = getattr(guide, "program", guide)
    found: dict[str, dict] = {}

    def run(key: Key) -> None:
        seeded = WholePlates(handlers.seed(program, key))
        found.update(handlers.trace(seeded).get_trace(*problem.args, **problem.kwargs))

    try:
        jax.eval_shape(run, jax.random.key(0))
    except Exception:
        return set(problem.discrete_latents)
    return {name for name, site in found.items() if site["type"] == "sample"}


def best_prior_draw(problem: Problem, key: Key) -> SiteArrays:
    """Return the values of the latent sites at the most probable of some draws from the prior.

    One draw can be so improbable given the data that the first gradients are larger than all later
    ones by orders of magnitude.

    Args:
        problem: the problem, whose log density in unconstrained space ranks the draws.
        key: the random key for the draws.
    """
    sites = compile_with_data(problem, _best_candidate)(jax.random.split(key, CANDIDATES))
    return {name: sites[name] for name in problem.latents}


def _best_candidate(problem: Problem, keys: Key) -> SiteArrays:
    """Return the sites at the most probable of some draws from the prior."""
    density = problem.log_density()

    def candidate(key: Key) -> tuple[jax.Array, jax.Array]:
        u = density.ravel(density.prior_draw(key))
        return u, density(u)

    draws, values = jax.lax.map(candidate, keys)
    best = jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf))
    return density.constrain(draws[best])


def laplace_parameters(problem: Problem, key: Key) -> SiteArrays:
    """Return parameters that make the full-rank guide the Laplace approximation at the joint mode.

    Raises:
        ProblemError: if the log density has no proper maximum.
    """
    with jax.enable_x64(True):
        start = problem.log_density().start(named_key(key, "mode"))
        u, _ = minimise(compile_with_data(problem, value_and_slope), start, LAPLACE_STEPS)
        root = inverse_root(compile_hessian(problem, potential)(u))
    lower = np.linalg.cholesky(root @ root.T)
    return {
        "auto_loc": jnp.asarray(u, dtype=float),
        "auto_scale_tril": jnp.asarray(lower, dtype=float),
    }
