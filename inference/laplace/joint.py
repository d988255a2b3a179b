"""The Laplace approximation at the joint mode of all latent sites (MacKay 1992)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice

import numpy as np

from inference.core.minimise import minimise_to
from inference.core.problem import Problem, ProblemError
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

# searches from draws of the prior; one alone may end where the likelihood is flat
NUM_SEARCHES = 4
# by how much, in nats, the maximum of a later search must be higher
HIGHER = 0.01


def fit_joint(
    problem: Problem, starts: Iterator[np.ndarray], max_steps: int, progress: AbstractProgress
) -> tuple[StoredArrays, bool]:
    """Find the mode, and the Hessian there.

    Args:
        problem: the problem whose posterior is approximated.
        starts: points of unconstrained space at which searches start, shape (d,).
        max_steps: the most steps of a search.
        progress: what shows how far the fit is.

    Returns:
        The parameters of the normal distribution at the highest maximum, and whether its search
        converged.
    """
    compiled = compile_with_data(problem, value_and_slope)
    u, lowest, converged = minimise_to(compiled, next(starts), max_steps)
    for start in islice(rest_of(starts), NUM_SEARCHES - 1):
        found, value, ended = minimise_to(compiled, start, max_steps, known=lowest)
        if not value >= lowest - HIGHER and np.isfinite(value):
            u, lowest, converged = found, value, ended
    progress.advance(1)
    return normal_parameters(u, inverse_root(compile_hessian(problem, potential)(u))), converged


def rest_of(starts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the starts that there are: draws of the prior may be ones without a density."""
    with contextlib.suppress(ProblemError):
        yield from starts
