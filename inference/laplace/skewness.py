"""The mean of a skewed posterior: the Laplace approximation with its mean moved off the mode.

At the mode of a likelihood that falls off faster on one side, as that of a rare class does, a
normal distribution reaches too far to the steep side: averages over it inflate rare classes and
flatten clear ones. The best mean for a given covariance is that of the variational bound,

    m = argmax E_q[log p(y, w)],    q(w) = N(m, S),    S = A^-1.

In the linearised network the likelihood of row i sees w through f_i = f(x_i; w0) + J_i (w - w0)
alone, so the expectation is one over f_i ~ N(., J_i S J_i'), and of the size of the outputs.

van Niekerk and Rue (2021), arXiv:2111.12945.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.typing import Key

# points at which the expectation over the outputs of a row is taken
NUM_POINTS = 64
# in posterior standard deviations: a smaller move of the mean is none
SMALL_MOVE = 0.01
MOST_STEPS = 100


def spread_of_outputs(
    outputs: Callable[[jax.Array], jax.Array], w: np.ndarray, root: np.ndarray
) -> np.ndarray:
    """Return a Cholesky factor of J_i S J_i' for each row, shape (rows, outputs, outputs).

    Args:
        outputs: the function from weights to the network's outputs, shape (rows, outputs).
        w: the weights at which its Jacobian J is taken.
        root: R with R R' = S.
    """
    shape = jax.eval_shape(outputs, w).shape

    @jax.jit
    def covariance(w: jax.Array, columns: jax.Array) -> jax.Array:
        def add(total: jax.Array, column: jax.Array) -> tuple[jax.Array, None]:
            change = jax.jvp(outputs, (w,), (column,))[1]
            return total + change[:, :, None] * change[:, None, :], None

        return jax.lax.scan(add, jnp.zeros((*shape, shape[-1])), columns)[0]

    total = np.asarray(covariance(w, root.T))
    largest = total.diagonal(axis1=1, axis2=2).max(-1)
    jitter = 1e-10 * (largest + 1e-300)[:, None, None] * np.eye(shape[-1])
    return np.linalg.cholesky(total + jitter)


def normal_points(key: Key, rows: int, outputs: int) -> np.ndarray:
    """Return points of N(0, I) for each row, a Latin hypercube, shape (points, rows, outputs)."""
    from scipy.stats import norm

    levels = norm.ppf((np.arange(NUM_POINTS) + 0.5) / NUM_POINTS)
    levels = levels / levels.std()
    rng = np.random.default_rng(int(jax.random.bits(named_key(key, "points"))))
    points = rng.permuted(np.broadcast_to(levels, (rows, outputs, NUM_POINTS)), axis=-1)
    return np.ascontiguousarray(np.moveaxis(points, -1, 0))


def best_mean(
    potential: Callable[[jax.Array, jax.Array, tuple], jax.Array],
    w: Float[np.ndarray, "d"],
    root: Float[np.ndarray, "d d"],
    shifts: Float[np.ndarray, "points rows outputs"],
    data: tuple,
) -> np.ndarray:
    """Return the mean m that minimises the potential's expectation under N(m, R R').

    Args:
        potential: the function from weights, shifts of the outputs, shape (rows, outputs), and
            data to -log p(y, w) of the linearised network.
        w: the mode.
        root: R.
        shifts: the deviations of the outputs from those at the mean.
        data: the data.
    """

    def expected(v: ArrayLike, w: ArrayLike, root: ArrayLike, data: tuple, shifts: ArrayLike):
        at = jnp.asarray(w) + jnp.asarray(root) @ v
        return jax.lax.map(lambda s: potential(at, s, data), shifts, batch_size=16).mean()

    function = jax.jit(jax.value_and_grad(expected))
    fixed = (w, root, data, shifts)
    start = np.zeros(w.size)
    if np.abs(np.asarray(function(start, *fixed)[1])).max() < SMALL_MOVE:
        return w
    v, _ = minimise(function, start, MOST_STEPS, *fixed)
    return w + root @ v
