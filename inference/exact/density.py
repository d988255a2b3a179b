"""The log density of a normal vector, with its gradient from the one Cholesky factor.

    log N(y; 0, S) = -y' a / 2 - log |S| / 2 - n log(2 pi) / 2,    a = S^-1 y
    d log N = sum_ij (a a' - S^-1)_ij dS_ij / 2 - a' dy

(Rasmussen and Williams 2006, equation 5.9). Automatic differentiation of a Cholesky factor costs
several times as much.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular


def _factor(S: jax.Array) -> jax.Array:
    """Return L with L L' = S, of a matrix that is symmetric already."""
    return jax.lax.linalg.cholesky(S, symmetrize_input=False)


def _from_factor(root: jax.Array, whitened: jax.Array) -> jax.Array:
    """Return the log density, given L and L^-1 y."""
    log_det = jnp.log(jnp.diagonal(root)).sum()
    return -(whitened @ whitened) / 2 - log_det - len(whitened) * jnp.log(2 * jnp.pi) / 2


@jax.custom_jvp
def log_normal(S: jax.Array, y: jax.Array) -> jax.Array:
    """Return log N(y; 0, S), NaN where S is not positive definite.

    Args:
        S: the covariance, shape (n, n).
        y: the vector, shape (n,).
    """
    root = _factor(S)
    return _from_factor(root, solve_triangular(root, y, lower=True))


@log_normal.defjvp
def _log_normal_slope(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Return the log density and its change, linear in those of S and y."""
    (S, y), (dS, dy) = primals, tangents
    root = _factor(S)
    inverse_root = solve_triangular(root, jnp.eye(len(y), dtype=S.dtype), lower=True)
    whitened = inverse_root @ y
    a = whitened @ inverse_root
    slope = (a[:, None] * a[None, :] - inverse_root.T @ inverse_root) / 2
    return _from_factor(root, whitened), jnp.sum(slope * dS) - a @ dy
