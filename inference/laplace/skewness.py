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
from jaxtyping import Float

from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import Problem
from inference.core.typing import Key, PyTree
from inference.sharing import compile_with_data

# points at which the expectation over the outputs of a row is taken
NUM_POINTS = 64
# in posterior standard deviations: a smaller move of the mean is none
SMALL_MOVE = 0.01
MOST_STEPS = 100


def spread_of_outputs(
    problem: Problem,
    outputs: Callable[..., jax.Array],
    settings: tuple,
    w: np.ndarray,
    root: np.ndarray,
    *fixed: PyTree,
) -> np.ndarray:
    """Return a Cholesky factor of J_i S J_i' for each row, shape (rows, outputs, outputs).

    Args:
        problem: the problem.
        outputs: the function from (problem, *settings, weights, *fixed) to the network's outputs,
            shape (rows, outputs).
        settings: settings of that function.
        w: the weights at which its Jacobian J is taken.
        root: R with R R' = S.
        *fixed: further arguments of that function.
    """
    compiled = compile_with_data(problem, _covariance, outputs, settings)
    total = np.asarray(compiled(w, root.T, *fixed))
    largest = total.diagonal(axis1=1, axis2=2).max(-1)
    jitter = 1e-10 * (largest + 1e-300)[:, None, None] * np.eye(total.shape[-1])
    return np.linalg.cholesky(total + jitter)


def _covariance(
    problem: Problem,
    outputs: Callable[..., jax.Array],
    settings: tuple,
    w: jax.Array,
    columns: jax.Array,
    *fixed: PyTree,
) -> jax.Array:
    """Return J_i S J_i' for each row."""

    def at(w: jax.Array) -> jax.Array:
        return outputs(problem, *settings, w, *fixed)

    def add(total: jax.Array, column: jax.Array) -> tuple[jax.Array, None]:
        change = jax.jvp(at, (w,), (column,))[1]
        return total + change[:, :, None] * change[:, None, :], None

    shape = jax.eval_shape(at, w).shape
    return jax.lax.scan(add, jnp.zeros((*shape, shape[-1])), columns)[0]


def normal_points(key: Key, rows: int, outputs: int) -> np.ndarray:
    """Return points of N(0, I) for each row, a Latin hypercube, shape (points, rows, outputs)."""
    from scipy.stats import norm

    levels = norm.ppf((np.arange(NUM_POINTS) + 0.5) / NUM_POINTS)
    levels = levels / levels.std()
    rng = np.random.default_rng(int(jax.random.bits(named_key(key, "points"))))
    points = rng.permuted(np.broadcast_to(levels, (rows, outputs, NUM_POINTS)), axis=-1)
    return np.ascontiguousarray(np.moveaxis(points, -1, 0))


def best_mean(
    problem: Problem,
    potential: Callable[..., jax.Array],
    settings: tuple,
    w: Float[np.ndarray, "d"],
    root: Float[np.ndarray, "d d"],
    shifts: Float[np.ndarray, "points rows outputs"],
    *fixed: PyTree,
) -> np.ndarray:
    """Return the mean m that minimises the potential's expectation under N(m, R R').

    Args:
        problem: the problem.
        potential: the function from (problem, *settings, weights, shifts of the outputs, *fixed)
            to -log p(y, w) of the linearised network; the shifts have shape (rows, outputs).
        settings: settings of that function.
        w: the mode.
        root: R.
        shifts: the deviations of the outputs from those at the mean.
        *fixed: further arguments of that function.
    """
    function = compile_with_data(problem, _expected, potential, settings)
    start = np.zeros(w.size)
    if np.abs(np.asarray(function(start, w, root, shifts, *fixed)[1])).max() < SMALL_MOVE:
        return w
    v, _ = minimise(function, start, MOST_STEPS, w, root, shifts, *fixed)
    return w + root @ v


def _expected(
    problem: Problem,
    potential: Callable[..., jax.Array],
    settings: tuple,
    v: jax.Array,
    w: jax.Array,
    root: jax.Array,
    shifts: jax.Array,
    *fixed: PyTree,
) -> tuple[jax.Array, jax.Array]:
    """Return the expectation at w + R v, and its gradient in v."""

    def expected(v: jax.Array) -> jax.Array:
        at = w + root @ v
        return jax.lax.map(
            lambda shift: potential(problem, *settings, at, shift, *fixed), shifts, batch_size=16
        ).mean()

    return jax.value_and_grad(expected)(v)
