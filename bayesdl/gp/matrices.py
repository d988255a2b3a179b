"""Kernels as tinygp's, whose matrices are computed at once.

For stationary kernels a product of matrices gives squared distances, |a - b|^2 = |a|^2 + |b|^2 -
2 a b. In double precision that is faster than pair by pair. In single precision the differences
cancel, and pairs are computed one by one. Imported lazily, as it needs tinygp.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import tinygp

# squared distances below this share of |a|^2 + |b|^2 are those of equal points
ROUNDING = 1e-14


class AbstractMatrixKernel(tinygp.kernels.Kernel):
    """A kernel that is computed for all pairs of rows at once."""

    @abc.abstractmethod
    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        """Return the kernel at each pair of rows, shape (rows of X1, rows of X2)."""

    @abc.abstractmethod
    def diagonal(self, X: jax.Array) -> jax.Array:
        """Return the kernel of each row with itself, shape (rows,)."""

    def evaluate(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        return self.matrix(jnp.atleast_1d(X1)[None], jnp.atleast_1d(X2)[None])[0, 0]

    def evaluate_diag(self, X: jax.Array) -> jax.Array:
        return self.diagonal(jnp.atleast_1d(X)[None])[0]

    def __call__(self, X1: Any, X2: Any = None) -> jax.Array:
        X1 = jnp.asarray(X1)
        if X1.ndim != 2:
            return super().__call__(X1, X2)
        return self.diagonal(X1) if X2 is None else self.matrix(X1, jnp.asarray(X2))


class Combined(AbstractMatrixKernel):
    """Two kernels put together, each computed in its own way.

    Attributes:
        one: the first kernel.
        other: the second kernel.
        operator: what puts their matrices together.
    """

    one: tinygp.kernels.Kernel
    other: tinygp.kernels.Kernel
    operator: Callable = eqx.field(static=True)

    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        return self.operator(self.one(X1, X2), self.other(X1, X2))

    def diagonal(self, X: jax.Array) -> jax.Array:
        return self.operator(self.one(X), self.other(X))


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
        return self.variance * self.profile(squared_distances(A, B))


def squared_distances(A: jax.Array, B: jax.Array) -> jax.Array:
    """Return |a - b|^2 for each pair of rows, by one product of matrices."""
    sizes = (A**2).sum(1)[:, None] + (B**2).sum(1)[None, :]
    squared = sizes - 2 * A @ B.T
    return jnp.where(squared > ROUNDING * sizes, squared, 0.0)


def exact_squared_distances(A: jax.Array, B: jax.Array) -> jax.Array:
    """Return |a - b|^2 for each pair of rows, by differences, which do not cancel."""
    squared = jnp.zeros((len(A), len(B)), A.dtype)
    for a, b in zip(A.T, B.T, strict=True):
        squared += (a[:, None] - b[None, :]) ** 2
    return squared


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


class Fractional(AbstractMatrixKernel):
    """variance (|s|^2H + |t|^2H - |s - t|^2H) / 2, with s and t counted from the origin.

    Attributes:
        hurst: the index H, shape ().
        variance: the variance, shape ().
        origin: the origin, shape ().
    """

    hurst: Any
    variance: Any
    origin: Any

    def power(self, squared: jax.Array) -> jax.Array:
        """Return r^2H of squared distances, with derivative 0 at 0."""
        positive = squared > 0
        return jnp.where(positive, jnp.where(positive, squared, 1.0) ** self.hurst, 0.0)

    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        # small distances count for small H: those of a product of matrices are not exact enough
        between = self.power(exact_squared_distances(X1, X2))
        one, other = (self.power(((X - self.origin) ** 2).sum(1)) for X in (X1, X2))
        return self.variance / 2 * (one[:, None] + other[None, :] - between)

    def diagonal(self, X: jax.Array) -> jax.Array:
        return self.variance * self.power(((X - self.origin) ** 2).sum(1))


class Spectrum(AbstractMatrixKernel):
    """sum_q weight_q exp(-2 pi^2 |bandwidth_q r|^2) cos(2 pi frequency_q . r).

    Attributes:
        frequency: the frequencies, shape (components, inputs).
        bandwidth: the bandwidths, shape (components, inputs).
        weight: the variances, shape (components,).
    """

    frequency: Any
    bandwidth: Any
    weight: Any

    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        total = jnp.zeros((len(X1), len(X2)))
        # one component after the other: a matrix for each would take much memory
        for frequency, bandwidth, weight in zip(
            self.frequency, self.bandwidth, self.weight, strict=True
        ):
            A, B = (X * bandwidth[None, :] for X in (X1, X2))
            phase = (X1 @ frequency)[:, None] - (X2 @ frequency)[None, :]
            decay = jnp.exp(-2 * jnp.pi**2 * exact_squared_distances(A, B))
            total += weight * decay * jnp.cos(2 * jnp.pi * phase)
        return total

    def diagonal(self, X: jax.Array) -> jax.Array:
        return jnp.full(len(X), self.weight.sum())


class Change(AbstractMatrixKernel):
    """(1 - s) k_before (1 - s') + s k_after s', s = sigmoid((x_d - location) / width).

    Attributes:
        before: the kernel below the location.
        after: the kernel above it.
        location: the place of the change, shape ().
        width: its width, shape ().
        column: the number of the input d.
    """

    before: tinygp.kernels.Kernel
    after: tinygp.kernels.Kernel
    location: Any
    width: Any
    column: int = eqx.field(static=True)

    def shares(self, X: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return 1 - s and s of each row."""
        z = (X[:, self.column] - self.location) / self.width
        return jax.nn.sigmoid(-z), jax.nn.sigmoid(z)

    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        one, other = self.shares(X1), self.shares(X2)
        before = one[0][:, None] * self.before(X1, X2) * other[0][None, :]
        return before + one[1][:, None] * self.after(X1, X2) * other[1][None, :]

    def diagonal(self, X: jax.Array) -> jax.Array:
        below, above = self.shares(X)
        return below**2 * self.before(X) + above**2 * self.after(X)
