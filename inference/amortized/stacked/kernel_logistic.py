"""Multinomial logistic regression with a kernel: the mode of

    log p(y | f) - 1/2 sum_c f_c' K^-1 f_c,    p(y = c | f) = softmax(f)_c

Since the Hessian of -log p is below I / 2 (Boehning 1992), one Cholesky factor serves all classes
and steps:

    f <- K (K + 2 I)^-1 (f + 2 (Y - P)),    with momentum.

The values without a row are those of a Laplace approximation (Rasmussen and Williams 2006, section
3.4), one class at a time, with the curvature of the softmax in which the strongest rival gives way,

    w_c = p_c (1 - p_c + p_rival),    b_i = ((I + W^1/2 K W^1/2)^-1)_ii
    f_i without i  =  f_i - (y_i - p_i) (1 - b_i) / (w_i b_i),

which is exact in this sense for two classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

# The number of steps.
STEPS = 40

# The least curvature.
LEAST_CURVATURE = 1e-3

# The logit of a class that the context lacks.
NEVER = -1e9


def fit(K: jax.Array, targets: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fit one kernel; return its coefficients, and logits of rows without their own targets.

    Args:
        K: the kernel of the context, shape (rows, rows), zero at padding.
        targets: the classes as zeros and ones, shape (rows, classes), zero for padding.
        present: whether the context has a class, shape (classes,).

    Returns:
        The coefficients a, such that f(x) = k(x)' a, and the logits, both of shape (rows, classes).
    """
    seen = targets.sum(1, keepdims=True)
    factor = jnp.linalg.cholesky(K + 2 * jnp.eye(len(K), dtype=K.dtype))

    def step(number: jax.Array, carry: tuple) -> tuple:
        f, before, _ = carry
        ahead = f + number / (number + 3.0) * (f - before)
        goal = ahead + 2 * (targets - seen * probabilities(ahead, present))
        a = cho_solve((factor, True), goal)
        return goal - 2 * a, f, a

    start = (jnp.zeros_like(targets),) * 3
    f, _, a = jax.lax.fori_loop(0, STEPS, step, start)
    return a, f - _jackknife(K, f, targets, seen, present)


def probabilities(f: jax.Array, present: jax.Array) -> jax.Array:
    """Return the probabilities of classes, zero for those that the context lacks."""
    return jax.nn.softmax(jnp.where(present[None, :], f, NEVER), -1) * present[None, :]


def _jackknife(
    K: jax.Array, f: jax.Array, targets: jax.Array, seen: jax.Array, present: jax.Array
) -> jax.Array:
    """Return what each row's own target adds to its logits, shape (rows, classes)."""
    p = probabilities(f, present)
    top = jax.lax.top_k(p, 2)[0]
    rival = jnp.where(p == top[:, :1], top[:, 1:], top[:, :1])
    weights = seen * jnp.maximum(p * (1 - p + rival), LEAST_CURVATURE)
    eye = jnp.eye(len(K), dtype=K.dtype)

    def shares(w: jax.Array) -> jax.Array:
        root = jnp.sqrt(w)
        factor = jnp.linalg.cholesky(eye + root[:, None] * K * root[None, :])
        return (solve_triangular(factor, eye, lower=True) ** 2).sum(0)

    # One class after the other, which bounds the memory.
    nothing = jnp.ones(len(K), K.dtype)
    b = jax.lax.map(
        lambda given: jax.lax.cond(given[1], shares, lambda _: nothing, given[0]),
        (weights.T, present),
    ).T
    own = (targets - p) * (1 - b) / (jnp.maximum(weights, LEAST_CURVATURE) * b)
    return seen * own
