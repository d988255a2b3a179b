"""Functions as whitened states, for engines that draw them.

    Z_0 = sqrt(v) chol(P) z_0,   Z_t = A_t Z_{t-1} + sqrt(v) chol(Q_t) z_t,   z ~ N(0, I)

Between two known states a new one is normal (a bridge); outside of all of them it is a prediction,
forwards or backwards.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from inference.core.typing import Key
from inference.state_space.matern import Kernel, state_space_prior


def _scaled_cholesky(Q: Array) -> Array:
    """Return the Cholesky factor of a badly scaled noise covariance, shape (..., s, s).

    Entries may differ by many orders of magnitude, and zeros on the diagonal are allowed.
    """
    sd = jnp.sqrt(jnp.diagonal(Q, axis1=-2, axis2=-1))
    safe = jnp.where(sd > 0, sd, 1.0)
    eye = jnp.eye(Q.shape[-1], dtype=Q.dtype)
    correlation = Q / (safe[..., :, None] * safe[..., None, :])
    correlation = jnp.where(jnp.broadcast_to(eye > 0, Q.shape), 1.0, correlation)
    return sd[..., :, None] * jnp.linalg.cholesky(correlation)


def unwhiten(p: int, kernel: Kernel, positions: Array, noise: Array) -> Array:
    """Return the states at sorted distinct positions, shape (d, s, r), from noise of that shape."""
    computed = state_space_prior(p, kernel, positions)
    noises = computed.noises.at[0].set(computed.start)
    moves = computed.steps.at[0].set(0.0)
    pushes = _scaled_cholesky(noises) @ (noise * jnp.sqrt(computed.variances)[None, None])

    def step(Z: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        A, push = given
        Z = A @ Z + push
        return Z, Z

    return jax.lax.scan(step, jnp.zeros_like(pushes[0]), (moves, pushes))[1]


def function_values(p: int, states: Array) -> Array:
    """Return the values of the functions, shape (d, r): the first state plus a constant, if any."""
    return states[:, 0] if states.shape[1] == p + 1 else states[:, 0] + states[:, -1]


def _position_noise(key: Key, x: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Draw standard normal noise that belongs to a position, wherever it stands among others."""
    words = jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    for i in range(len(words)):
        key = jax.random.fold_in(key, words[i])
    return jax.random.normal(key, shape, dtype)


def draw_bridge(
    p: int, kernel: Kernel, positions: Array, known: Array, x: Array, key: Key
) -> Array:
    """Draw the states at new positions, shape (n, s, r), each given the known states beside it.

    Args:
        p: the order of the process.
        kernel: the kernel of each function.
        positions: the sorted known positions, shape (m,).
        known: the states there, shape (m, s, r).
        x: the new positions, shape (n,).
        key: the random key.
    """
    last = len(positions) - 1
    right = jnp.searchsorted(positions, x, side="right")
    left, after = jnp.maximum(right - 1, 0), jnp.minimum(right, last)
    at_left, at_right = right > 0, right <= last

    def discretize_gaps(steps: Array, free: Array) -> tuple[Array, Array]:
        """Return A and Q of a step; those of a step from nothing where it is free."""
        pair = jnp.stack([jnp.zeros_like(steps), steps], 1)
        computed = jax.vmap(lambda two: state_space_prior(p, kernel, two))(pair)
        A, Q = computed.steps[:, 1], computed.noises[:, 1]
        return jnp.where(free[:, None, None], 0.0, A), jnp.where(
            free[:, None, None], computed.start[0], Q
        )

    A, Q = discretize_gaps(jnp.where(at_left, x - positions[left], 0.0), ~at_left)
    B, R = discretize_gaps(jnp.where(at_right, positions[after] - x, 0.0), jnp.zeros_like(at_right))
    mean = A @ known[left]
    S = B @ Q @ jnp.swapaxes(B, 1, 2) + R
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(S, axis1=1, axis2=2), jnp.finfo(S.dtype).tiny))
    scaled = (
        S / (scale[:, :, None] * scale[:, None, :])
        + jnp.finfo(S.dtype).eps * jnp.eye(S.shape[-1], dtype=S.dtype)[None]
    )
    gain = (
        jnp.swapaxes(jnp.linalg.solve(scaled, (B @ Q) / scale[:, :, None]), 1, 2)
        / scale[:, None, :]
    )
    gain = jnp.where(at_right[:, None, None], gain, 0.0)
    mean = mean + gain @ (known[after] - B @ mean)
    covariance = Q - gain @ B @ Q
    covariance = (covariance + jnp.swapaxes(covariance, 1, 2)) / 2
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[:, None, :]
    noise = (
        jax.vmap(lambda x: _position_noise(key, x, mean.shape[1:], mean.dtype))(x)
        * jnp.sqrt(kernel.variances)[None, None]
    )
    return mean + root @ noise
