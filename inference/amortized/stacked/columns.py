"""The columns of a table as standardised values and as ranks, learned from the rows of a context.

    z = (x - mean) / deviation,    u = (below + half of the equal) / n,    g = Phi^-1(u)

where u is moved a little into (0, 1). Rows that are padding count nowhere, and columns with one
value become zero, so tables may be padded with rows and columns of any values.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

# The largest absolute standardised value.
FARTHEST = 8.0

# A spread, relative to the size of the numbers, below which a column has one value.
CONSTANT = 1e-6


class View(NamedTuple):
    """Rows as learners see them, each array of shape (rows, columns), zero in unused columns.

    Attributes:
        z: the standardised values.
        u: the ranks, between 0 and 1.
        g: the normal quantiles of the ranks.
    """

    z: jax.Array
    u: jax.Array
    g: jax.Array


class Columns(NamedTuple):
    """What is known of the columns of a context.

    Attributes:
        mean: the means, shape (columns,).
        deviation: the standard deviations, shape (columns,); 1 for unused columns.
        used: whether a column has more than one value, shape (columns,).
        ordered: the values of each column in their order, padding last, shape (rows, columns).
        num_rows: the number of rows.
    """

    mean: jax.Array
    deviation: jax.Array
    used: jax.Array
    ordered: jax.Array
    num_rows: jax.Array

    @classmethod
    def learn(cls, X: jax.Array, seen: jax.Array) -> Columns:
        """Learn the columns of a context.

        Args:
            X: the inputs, shape (rows, columns).
            seen: whether a row is no padding, shape (rows,).
        """
        rows, inside = seen.sum(), seen[:, None]
        # The sums of ordered values do not depend on the order of the rows.
        ordered = jnp.sort(jnp.where(inside, X, jnp.inf), axis=0)
        known = (jnp.arange(len(X)) < rows)[:, None]
        count = jnp.maximum(rows, 1)
        mean = jnp.where(known, ordered, 0.0).sum(0) / count
        centred = jnp.where(known, ordered - mean[None, :], 0.0)
        deviation = jnp.sqrt((centred**2).sum(0) / count)
        size = jnp.abs(jnp.where(known, ordered, 0.0)).max(0)
        used = deviation > CONSTANT * size
        return cls(mean, jnp.where(used, deviation, 1.0), used, ordered, rows)

    def view(self, X: jax.Array) -> View:
        """Return rows as learners see them."""
        z = ((X - self.mean[None, :]) / self.deviation[None, :]).clip(-FARTHEST, FARTHEST)
        below, upto = (
            jax.vmap(lambda a, v, side=side: jnp.searchsorted(a, v, side=side), 1, 1)(
                self.ordered, X
            )
            for side in ("left", "right")
        )
        # Padding is infinite, so finite values never lie beyond it.
        u = ((below + upto) / 2 + 0.5) / (self.num_rows + 1)
        used = self.used[None, :]
        g = jax.scipy.special.ndtri(u.clip(1e-4, 1 - 1e-4))
        return View(*(jnp.where(used, part, 0.0) for part in (z, u, g)))


def class_relevance(view: View, targets: jax.Array, used: jax.Array) -> jax.Array:
    """Return how much each column alone says of the classes, shape (columns,), of sum 1.

    It is the share of the variance of g between classes, less what chance alone gives,

        max(0, between / total - (classes - 1) / (n - 1)),

    and a little more for all columns.

    Args:
        view: the context.
        targets: the classes as zeros and ones, shape (rows, classes), zero for padding.
        used: whether a column has more than one value, shape (columns,).
    """
    counts, rows = targets.sum(0), jnp.maximum(targets.sum(), 2.0)
    seen = targets.sum(1)[:, None]
    center = (seen * view.g).sum(0, keepdims=True) / rows
    offset = (view.g - center) * seen
    means = (targets.T @ offset) / jnp.maximum(counts, 1.0)[:, None]
    between = (counts[:, None] * means**2).sum(0)
    total = (offset**2).sum(0) + 1e-6
    chance = ((counts > 0).sum() - 1) / (rows - 1)
    found = jnp.where(used, jnp.maximum(between / total - chance, 0.0) + 0.01, 0.0)
    return found / jnp.maximum(found.sum(), 1e-6)
