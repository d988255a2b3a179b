"""Matern processes of half-integer order as linear state-space models.

For smoothness p + 1/2 and x = sqrt(2 p + 1) (t' - t) / lengthscale, the state holds f, with unit
variance, and its first p derivatives with respect to x:

    Z(t') = A(x) Z(t) + e,   e ~ N(0, Q(x)),   A(x) = exp(-x) sum_m N^m x^m / m!

with N nilpotent, as the characteristic polynomial is (s + 1)^(p + 1) (Hartikainen and Sarkka 2010).
The process noise is computed as an integral of positive terms, as P - A P A' cancels for small
steps:

    Q_ij(x) = c int_0^x h^(i)(u) h^(j)(u) du,
    h(u) = u^p exp(-u) / p!,    c = 1 / int_0^inf h(u)^2 du

where each monomial gives an incomplete gamma function P(m + 1, 2 x).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from inference.state_space.smoother import Prior


def step_rate(p: int) -> float:
    """Return the x of a step of one length scale: sqrt(2 p + 1)."""
    return math.sqrt(2 * p + 1)


def _derivative_polynomials(p: int) -> np.ndarray:
    """Return h^(i)(u) exp(u), i = 0..p, as coefficients of u^0..u^p, shape (p + 1, p + 1)."""
    rows = [np.zeros(p + 1)]
    rows[0][p] = 1 / math.factorial(p)
    for _ in range(p):
        last = rows[-1]
        rows.append(np.append(last[1:] * np.arange(1, p + 1), 0.0) - last)
    return np.stack(rows)


def _product_coefficients(p: int) -> np.ndarray:
    """Return the terms of the integral of c h^(i) h^(j), shape (p + 1, p + 1, 2 p + 1).

    They are the coefficients of u^m in c h^(i) h^(j) exp(2 u), times int_0^inf u^m exp(-2 u) du.
    """
    h = _derivative_polynomials(p)
    terms = np.stack([np.stack([np.convolve(a, b) for b in h]) for a in h])
    moments = np.array([math.factorial(m) / 2 ** (m + 1) for m in range(2 * p + 1)])
    return terms * moments / (terms[0, 0] @ moments)


def stationary_covariance(p: int) -> np.ndarray:
    """Return the covariance of the state far from any data, shape (p + 1, p + 1)."""
    return _product_coefficients(p).sum(-1)


def discretize(p: int, x: Array) -> tuple[Array, Array]:
    """Return A and Q, shapes (n, p + 1, p + 1), for steps x >= 0, shape (n,)."""
    companion = np.eye(p + 1, k=1)
    companion[p] = [-math.comb(p + 1, m) for m in range(p + 1)]
    nilpotent, power = companion + np.eye(p + 1), np.eye(p + 1)
    A = jnp.zeros((*x.shape, p + 1, p + 1), x.dtype)
    for m in range(p + 1):
        A = A + jnp.asarray(power, x.dtype)[None] * (x**m / math.factorial(m))[:, None, None]
        power = power @ nilpotent
    orders = jnp.arange(1, 2 * p + 2, dtype=x.dtype)
    moving = (x > 0)[:, None]
    # at zero one factor of the derivative is infinite
    safe = jnp.where(moving, 2 * x[:, None], 1.0)
    # P(m + 1, 2 x)
    parts = jnp.where(moving, jax.scipy.special.gammainc(orders[None, :], safe), 0.0)
    Q = jnp.einsum("ijm,nm->nij", jnp.asarray(_product_coefficients(p), x.dtype), parts)
    return A * jnp.exp(-x)[:, None, None], Q


class Kernel(NamedTuple):
    """The kernels of the functions of one mode: variance_j (Matern(lengthscale) + constant).

    Attributes:
        lengthscale: the length scale, in units of the index.
        constant: the variance of a constant part in units of each function's variance, or None.
        variances: the variances of the functions, shape (r,).
    """

    lengthscale: Any
    constant: Any
    variances: Any


def state_space_prior(p: int, kernel: Kernel, positions: Array) -> Prior:
    """Return the functions as a state-space model at sorted positions, shape (n,)."""
    x = jnp.diff(positions, prepend=positions[:1]) * (step_rate(p) / kernel.lengthscale)
    steps, noises = discretize(p, x)
    start = jnp.asarray(stationary_covariance(p), x.dtype)
    observed = jnp.eye(p + 1, dtype=x.dtype)[0]
    if kernel.constant is not None:
        steps = jnp.pad(steps, ((0, 0), (0, 1), (0, 1))).at[:, -1, -1].set(1.0)
        noises = jnp.pad(noises, ((0, 0), (0, 1), (0, 1)))
        start = jnp.pad(start, ((0, 1), (0, 1))).at[-1, -1].set(kernel.constant)
        observed = jnp.append(observed, 1.0)
    return Prior(start, steps, noises, kernel.variances, observed)
