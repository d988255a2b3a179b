"""Stationary kernels as tinygp's, whose matrices come from one matrix product: |a - b|^2 = |a|^2 + |b|^2 - 2 a b.

In double precision that is faster than pair by pair. In single precision the differences cancel, and pairs are computed
one by one. Imported lazily, as it needs tinygp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import tinygp

ROUNDING = 1e-14  # of |a|^2 + |b|^2: squared distances below it are those of equal points


class Stationary(tinygp.kernels.Kernel):
    """variance * profile(r^2), r^2 = sum_d (x_d - x'_d)^2 / lengthscale_d^2.

    Attributes:
        profile: a function of r^2.
        lengthscale: shape () or (inputs,).
        variance: shape ().
    """

    profile: Callable = eqx.field(static=True)
    lengthscale: Any
    variance: Any

    def evaluate(self, X1: Any, X2: Any) -> Any:
        return self.variance * self.profile(jnp.sum(((X1 - X2) / self.lengthscale) ** 2))

    def __call__(self, X1: Any, X2: Any = None) -> Any:
        X1 = jnp.asarray(X1)
        other = X1 if X2 is None else jnp.asarray(X2)
        if X2 is None or X1.ndim != 2 or jnp.result_type(X1, other) != jnp.float64:
            return super().__call__(X1, X2)
        centre = X1.mean(0, keepdims=True)  # far from zero the differences would cancel
        A, B = ((X - centre) / jnp.reshape(self.lengthscale, (1, -1)) for X in (X1, other))
        sizes = (A**2).sum(1)[:, None] + (B**2).sum(1)[None, :]
        squared = sizes - 2 * A @ B.T
        return self.variance * self.profile(jnp.where(squared > ROUNDING * sizes, squared, 0.0))


def safe_sqrt(squared: Any) -> Any:
    """The root, with derivative 0 at 0."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def rbf(squared: Any) -> Any:
    return jnp.exp(-squared / 2)


def matern12(squared: Any) -> Any:
    return jnp.exp(-safe_sqrt(squared))


def matern32(squared: Any) -> Any:
    r = 3**0.5 * safe_sqrt(squared)
    return (1 + r) * jnp.exp(-r)


def matern52(squared: Any) -> Any:
    r = 5**0.5 * safe_sqrt(squared)
    return (1 + r + r**2 / 3) * jnp.exp(-r)
