"""How good learners are on a context, by their values without a row's own target.

For each learner: the mean of -log p(y) and its excess over the best one, the share of right
classes, the entropy, confidence minus accuracy, and the standard error of the mean of -log p(y).
For all together: the numbers of rows, columns and classes, the entropy of the classes, and the
weights of classical stacking, which maximise

    sum_i log softmax_c(sum_b w_b log p_b(c | x_i))_{y_i} - PULL / 2 |w - 1 / learners|^2

by Newton's method.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.amortized.stacked.kernel_logistic import NEVER

# The strength with which weights are pulled to equal ones.
PULL = 2.0

# The number of Newton steps.
NEWTON_STEPS = 6

# The numbers that describe one learner, and the numbers that describe a context.
PER_LEARNER = 6
OF_CONTEXT = 5


class Statistics(NamedTuple):
    """What a gate reads of a context.

    Attributes:
        features: the numbers, shape (features,).
        stacking: the weights of classical stacking, shape (learners,).
        losses: the mean of -log p(y) of each learner, shape (learners,).
        present: whether the context has a class, shape (classes,).
        num_rows: the number of rows.
    """

    features: jax.Array
    stacking: jax.Array
    losses: jax.Array
    present: jax.Array
    num_rows: jax.Array


def describe(
    log_probs: jax.Array, y: jax.Array, num_rows: jax.Array, columns: jax.Array, present: jax.Array
) -> Statistics:
    """Return the statistics of a context.

    Args:
        log_probs: log probabilities of rows without their own target, shape (learners, rows,
            classes).
        y: the classes, shape (rows,).
        num_rows: the number of first rows that are no padding.
        columns: the number of columns in use.
        present: whether the context has a class, shape (classes,).
    """
    seen = (jnp.arange(len(y)) < num_rows).astype(log_probs.dtype)
    rows = jnp.maximum(num_rows, 1).astype(log_probs.dtype)

    def mean(values: jax.Array) -> jax.Array:
        return (values * seen[None, :]).sum(1) / rows

    probs = jnp.exp(log_probs) * present[None, None, :]
    loss = -jnp.take_along_axis(log_probs, y[None, :, None], 2)[..., 0]
    losses = mean(loss)
    right = jnp.where(present[None, None, :], log_probs, NEVER).argmax(-1) == y[None, :]
    accuracy = mean(right.astype(log_probs.dtype))
    entropy = mean(-(probs * log_probs).sum(-1))
    confidence = mean(probs.max(-1))
    error = jnp.sqrt(mean((loss - losses[:, None]) ** 2) / rows)
    classes = present.sum().astype(log_probs.dtype)
    size = jnp.log(jnp.maximum(classes, 2.0))
    shares = jax.nn.one_hot(y, len(present), dtype=log_probs.dtype) * seen[:, None]
    shares = shares.sum(0) / rows
    balance = -(shares * jnp.log(jnp.maximum(shares, 1e-9))).sum() / size
    excess = jnp.log1p(rows * (losses - losses.min()))
    of_learners = jnp.stack(
        [losses / size, excess, accuracy, entropy / size, confidence - accuracy, 3 * error], 1
    )
    of_context = jnp.stack(
        [
            jnp.log1p(rows) / 4,
            jnp.log1p(columns) / 3,
            size,
            balance,
            jnp.log1p(columns / rows),
        ]
    )
    stacking = stack(log_probs, y, seen, present)
    features = jnp.concatenate([of_learners.ravel(), stacking, of_context])
    return Statistics(features * (num_rows > 0), stacking, losses, present, num_rows)


def stack(log_probs: jax.Array, y: jax.Array, seen: jax.Array, present: jax.Array) -> jax.Array:
    """Return the weights of classical stacking; the module's docstring defines them."""
    learners = len(log_probs)
    even = jnp.full(learners, 1 / learners, log_probs.dtype)
    eye = jnp.eye(learners, dtype=log_probs.dtype)
    values = log_probs.transpose(1, 2, 0)

    def step(_: jax.Array, weights: jax.Array) -> jax.Array:
        q = jnp.exp(combine(weights, log_probs, present)) * present[None, :] * seen[:, None]
        mean = jnp.einsum("nc,ncb->nb", q, values)
        chosen = jnp.take_along_axis(values, y[:, None, None], 1)[:, 0] * seen[:, None]
        gradient = (chosen - mean).sum(0) - PULL * (weights - even)
        hessian = jnp.einsum("nc,nca,ncb->ab", q, values, values) - mean.T @ mean + PULL * eye
        move = jnp.linalg.solve(hessian, gradient)
        # A step that is not long, as far from the maximum the Hessian is another one.
        return weights + move / jnp.maximum(1.0, jnp.abs(move).max())

    return jax.lax.fori_loop(0, NEWTON_STEPS, step, even)


def combine(weights: jax.Array, log_probs: jax.Array, present: jax.Array) -> jax.Array:
    """Return log softmax_c(sum_b w_b log p_b(c)) over the classes that are present.

    Args:
        weights: the weights, shape (learners,).
        log_probs: log probabilities, shape (learners, rows, classes).
        present: whether the context has a class, shape (classes,).

    Returns:
        Log probabilities of shape (rows, classes), 0 for classes that are not present.
    """
    total = jnp.einsum("b,bnc->nc", weights, log_probs)
    masked = jnp.where(present[None, :], total, NEVER)
    return jnp.where(present[None, :], jax.nn.log_softmax(masked, -1), 0.0)
