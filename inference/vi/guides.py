"""Guides by name: NumPyro's autoguides, normal distributions or flows in unconstrained space.

"mean-field" has independent coordinates (Kucukelbir et al. 2017, arXiv:1603.00788), "low-rank" a diagonal plus low-rank
covariance (Ong, Nott and Smith 2018, arXiv:1701.03208), "full-rank" any covariance, "flow" an inverse autoregressive flow
(Kingma et al. 2016, arXiv:1606.04934), and "laplace" any covariance, beginning as the Laplace approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer import autoguide
from numpyro.infer.initialization import init_to_sample

from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import Problem
from inference.laplace.engine import compiled_hessian, inverse_root

GUIDES: dict[str, Callable] = {
    "mean-field": autoguide.AutoDiagonalNormal,
    "low-rank": autoguide.AutoLowRankMultivariateNormal,
    "full-rank": autoguide.AutoMultivariateNormal,
    "flow": autoguide.AutoIAFNormal,
    "laplace": autoguide.AutoMultivariateNormal,
}
LAPLACE_STEPS = 2000


def make_autoguide(
    name: str, problem: Problem, key: jax.Array, rank: int | None, initial_scale: float
) -> Any:
    """The guide of this name, its shapes known and its location a draw from the prior."""
    settings: dict[str, Any] = {} if name == "flow" else {"init_scale": initial_scale}
    settings |= {"rank": rank} if name == "low-rank" else {}
    guide = GUIDES[name](problem.program, init_loc_fn=init_to_sample, **settings)
    with handlers.seed(rng_seed=key):
        guide(*problem.args, **problem.kwargs)
    return guide


def laplace_parameters(problem: Problem, key: jax.Array) -> dict[str, jax.Array]:
    """Parameters of the full-rank guide that make it the Laplace approximation at the joint mode.

    Raises:
        ProblemError: where the log density has no proper maximum.
    """
    with jax.enable_x64(True):
        density = problem.log_density()

        def potential(u: Any) -> jax.Array:
            return -density(u)

        u, _ = minimise(
            jax.jit(jax.value_and_grad(potential)),
            density.start(named_key(key, "mode")),
            LAPLACE_STEPS,
        )
        root = inverse_root(compiled_hessian(potential)(u))
    lower = np.linalg.cholesky(root @ root.T)
    return {
        "auto_loc": jnp.asarray(u, dtype=float),
        "auto_scale_tril": jnp.asarray(lower, dtype=float),
    }
