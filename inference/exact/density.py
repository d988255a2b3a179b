"""What densities of correlated rows ask of their covariance, from the one Cholesky factor.

    q = y' S^-1 y,    dq = -a' dS a + 2 a' dy,    a = S^-1 y
    l = log |S|,      dl = sum_ij (S^-1)_ij dS_ij

(Rasmussen and Williams 2006, equation 5.9). Automatic differentiation of a Cholesky factor costs
several times as much.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

# added to the diagonal of joint covariances, as repeated rows give a singular one
JOINT_JITTER = 1e-9


def _factor(S: jax.Array) -> jax.Array:
    """Return L with L L' = S, of a matrix that is symmetric already."""
    return jax.lax.linalg.cholesky(S, symmetrize_input=False)


def _from_factor(root: jax.Array, whitened: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return y' S^-1 y and log |S|, given L and L^-1 y."""
    return whitened @ whitened, 2 * jnp.log(jnp.diagonal(root)).sum()


@jax.custom_jvp
def quadratic_and_log_det(S: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return y' S^-1 y and log |S|, NaN where S is not positive definite.

    Args:
        S: the covariance, shape (n, n).
        y: the vector, shape (n,).
    """
    root = _factor(S)
    return _from_factor(root, solve_triangular(root, y, lower=True))


@quadratic_and_log_det.defjvp
def _slope(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """Return both numbers and their changes, linear in those of S and y."""
    (S, y), (dS, dy) = primals, tangents
    root = _factor(S)
    inverse_root = solve_triangular(root, jnp.eye(len(y), dtype=S.dtype), lower=True)
    whitened = inverse_root @ y
    a = whitened @ inverse_root
    changes = 2 * (a @ dy) - a @ dS @ a, jnp.sum((inverse_root.T @ inverse_root) * dS)
    return _from_factor(root, whitened), changes
