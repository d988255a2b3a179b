"""The Laplace approximation at the joint mode of all latent sites (MacKay 1992)."""

from __future__ import annotations

import numpy as np

from inference.core.minimise import minimise
from inference.core.problem import Problem
from inference.core.progress import AbstractProgress
from inference.core.typing import StoredArrays
from inference.laplace.curvature import (
    compile_hessian,
    inverse_root,
    normal_parameters,
    potential,
    value_and_slope,
)
from inference.sharing import compile_with_data


def fit_joint(
    problem: Problem, u: np.ndarray, max_steps: int, progress: AbstractProgress
) -> tuple[StoredArrays, bool]:
    """Find the mode, and the Hessian there.

    Args:
        problem: the problem whose posterior is approximated.
        u: the point of unconstrained space at which the search starts, shape (d,).
        max_steps: the most steps of the search.
        progress: what shows how far the fit is.

    Returns:
        The parameters of the normal distribution, and whether the search converged.
    """
    u, converged = minimise(compile_with_data(problem, value_and_slope), u, max_steps)
    progress.advance(1)
    return normal_parameters(u, inverse_root(compile_hessian(problem, potential)(u))), converged
