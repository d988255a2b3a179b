"""Stationary kernels as tinygp's, whose matrices come from one product of matrices.

The product gives squared distances as |a - b|^2 = |a|^2 + |b|^2 - 2 a b. In double precision that
is faster than pair by pair. In single precision the differences cancel, and pairs are computed one
by one. Imported lazily, as it needs tinygp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import tinygp

# squared distances below this share of |a|^2 + |b|^2 are those of equal points
ROUNDING = 1e-14


class Stationary(tinygp.kernels.Kernel):
    """variance * profile(r^2), r^2 = sum_d (x_d - x'_d)^2 / lengthscale_d^2.

    Attributes:
        profile: the profile of the kernel, a function of r^2.
        lengthscale: the length scale, shape () or (inputs,).
        variance: the variance, shape ().
    """

    profile: Callable = eqx.field(static=True)
    lengthscale: Any
    variance: Any

    def evaluate(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        return self.variance * self.profile(jnp.sum(((X1 - X2) / self.lengthscale) ** 2))

    def __call__(self, X1: Any, X2: Any = None) -> jax.Array:
        X1 = jnp.asarray(X1)
        other = X1 if X2 is None else jnp.asarray(X2)
        if X2 is None or X1.ndim != 2 or jnp.result_type(X1, other) != jnp.float64:
            return super().__call__(X1, X2)
        # far from zero the differences would cancel
        centre = X1.mean(0, keepdims=True)
        A, B = ((X - centre) / jnp.reshape(self.lengthscale, (1, -1)) for X in (X1, other))
        sizes = (A**2).sum(1)[:, None] + (B**2).sum(1)[None, :]
        squared = sizes - 2 * A @ B.T
        return self.variance * self.profile(jnp.where(squared > ROUNDING * sizes, squared, 0.0))


def _safe_sqrt(squared: jax.Array) -> jax.Array:
    """Return the square root, with derivative 0 at 0."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def rbf(squared: jax.Array) -> jax.Array:
    """Return exp(-r^2 / 2)."""
    return jnp.exp(-squared / 2)


def matern12(squared: jax.Array) -> jax.Array:
    """Return exp(-r)."""
    return jnp.exp(-_safe_sqrt(squared))


def matern32(squared: jax.Array) -> jax.Array:
    """Return (1 + sqrt(3) r) exp(-sqrt(3) r)."""
    r = 3**0.5 * _safe_sqrt(squared)
    return (1 + r) * jnp.exp(-r)


def matern52(squared: jax.Array) -> jax.Array:
    """Return (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)."""
    r = 5**0.5 * _safe_sqrt(squared)
    return (1 + r + r**2 / 3) * jnp.exp(-r)
