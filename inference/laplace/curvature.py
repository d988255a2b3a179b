"""Curvature at a mode: Hessians in bounded memory, and roots of covariances."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from inference.core.problem import ProblemError
from inference.core.typing import PyTree


def compile_hessian(function: Callable[..., jax.Array]) -> Callable[..., np.ndarray]:
    """Compile the Hessian in the first argument, column by column in bounded memory."""

    def columns(u: ArrayLike, basis: ArrayLike, *fixed: PyTree) -> jax.Array:
        gradient = jax.grad(lambda u: function(u, *fixed))
        return jax.lax.map(lambda e: jax.jvp(gradient, (u,), (e,))[1], basis, batch_size=32)

    compiled = jax.jit(columns)

    def symmetric(u: np.ndarray, *fixed: PyTree) -> np.ndarray:
        # the basis is an argument: as a constant it would be folded
        matrix = np.asarray(compiled(u, np.eye(u.size), *fixed))
        return (matrix + matrix.T) / 2

    return symmetric


def inverse_root(precision: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Return R with R R' = precision^-1.

    Raises:
        ProblemError: if the precision is not positive definite, so that there is no normal
            approximation.
    """
    import scipy.linalg

    try:
        lower = np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(precision)[0]
        raise ProblemError(
            "The log density has no proper maximum: the smallest curvature at the mode is "
            f"{smallest:.3g}. Laplace cannot describe this posterior; use NUTS() or VI()."
        ) from None
    return scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True).T


def normal_parameters(loc: np.ndarray, root: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parameters of N(loc, root root')."""
    return {
        "loc": loc,
        "covariance_root": root,
        "log_det_root": np.asarray(np.linalg.slogdet(root)[1]),
    }
