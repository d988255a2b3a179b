"""The base learners of a stacked network, which are fitted to one context together.

Each gives a log probability of each class: for rows of the context without their own target, and
for new rows. Classes that the context lacks have log probability 0 here, and are left out by the
masks of what follows. The learners are

    shares        (n_c + 1) / (n + classes)
    kernels       logistic regression with each kernel of `kernels`
    linear and quadratic discriminants
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.amortized.stacked import discriminant, kernel_logistic, kernels
from inference.amortized.stacked.columns import Columns, View, class_relevance
from inference.amortized.stacked.discriminant import Discriminant

NAMES = ("shares", *kernels.NAMES, "linear discriminant", "quadratic discriminant")

# The least log probability that a learner gives.
LEAST = -12.0


class Fitted(NamedTuple):
    """Learners that are fitted to a context.

    Attributes:
        order: the order of the columns.
        columns: the columns of the context, in this order.
        view: the rows of the context as learners see them.
        relevance: the relevance of columns, shape (columns,).
        coefficients: the coefficients of kernels, shape (kernels, rows, classes).
        linear: the linear discriminant.
        quadratic: the quadratic discriminant.
        present: whether the context has a class, shape (classes,).
    """

    order: jax.Array
    columns: Columns
    view: View
    relevance: jax.Array
    coefficients: jax.Array
    linear: Discriminant
    quadratic: Discriminant
    present: jax.Array

    def log_probs(self, X: jax.Array) -> jax.Array:
        """Return log probabilities of new rows, shape (learners, rows, classes)."""
        view = self.columns.view(X[:, self.order])
        gram = kernels.grams(view, self.view, self.relevance, self.columns.used)
        logits = gram @ self.coefficients
        shares = jnp.broadcast_to(jnp.log(self.linear.counts + 1)[None, :], logits.shape[1:])
        both = self.linear.log_joint(view.z), self.quadratic.log_joint(view.z)
        return normalize(jnp.stack([shares, *logits, *both]), self.present)


def fit(
    X: jax.Array, y: jax.Array, num_rows: jax.Array, num_classes: int
) -> tuple[Fitted, jax.Array, jax.Array]:
    """Fit all learners; return them, and the log probabilities of rows without their own target.

    Rows and columns are first put into an order that does not depend on how they were given, so
    that rounding does not either.

    Args:
        X: the inputs, shape (rows, columns).
        y: the classes, shape (rows,).
        num_rows: the number of first rows that are no padding.
        num_classes: the number of classes.

    Returns:
        The learners, log probabilities of shape (learners, rows, classes), and the classes of
        these rows in their new order.
    """
    X, y, order = _put_in_order(X, y, num_rows)
    seen = jnp.arange(len(X)) < num_rows
    targets = jax.nn.one_hot(y, num_classes, dtype=X.dtype) * seen[:, None]
    counts = targets.sum(0)
    present = counts > 0
    columns = Columns.learn(X, seen)
    view = View(*(jnp.where(seen[:, None], part, 0.0) for part in columns.view(X)))
    relevance = class_relevance(view, targets, columns.used)
    both = (seen[:, None] & seen[None, :])[None]
    gram = jnp.where(both, kernels.grams(view, view, relevance, columns.used), 0.0)
    coefficients, logits = jax.lax.map(lambda K: kernel_logistic.fit(K, targets, present), gram)
    linear, quadratic = discriminant.fit(view.z, targets, columns.used)
    shares = jnp.log(counts[None, :] - targets + 1)
    discriminants = linear.left_out(view.z, targets), quadratic.left_out(view.z, targets)
    fitted = Fitted(order, columns, view, relevance, coefficients, linear, quadratic, present)
    return fitted, normalize(jnp.stack([shares, *logits, *discriminants]), present), y


def _put_in_order(
    X: jax.Array, y: jax.Array, num_rows: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return rows and classes in an order of their own, and the order of the columns.

    Columns are ordered by a sum over their sorted values, and rows by a sum over sorted columns.
    """
    seen = (jnp.arange(len(X)) < num_rows)[:, None]
    inside = jnp.where(seen, X, 0.0)
    values = jnp.sort(inside, 0)
    weights = jnp.sin(1.0 + jnp.arange(len(X), dtype=X.dtype))
    order = jnp.argsort((values * weights[:, None]).sum(0))
    X = X[:, order]
    weights = jnp.sin(1.0 + jnp.arange(X.shape[1], dtype=X.dtype))
    sums = jnp.where(seen[:, 0], (X * weights[None, :]).sum(1), jnp.inf)
    rows = jnp.argsort(sums)
    return X[rows], y[rows], order


def normalize(logits: jax.Array, present: jax.Array) -> jax.Array:
    """Return log probabilities of the classes that are present, and 0 for others."""
    inside = jnp.broadcast_to(present, logits.shape)
    masked = jnp.where(inside, logits, kernel_logistic.NEVER)
    found = jax.nn.log_softmax(masked, -1)
    return jnp.where(inside, jnp.maximum(found, LEAST), 0.0)
