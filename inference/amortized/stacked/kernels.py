"""Kernels of rows, as seen by `View`; all are the same for any order of the columns.

    linear     v z'z  and  v g'g
    RBF        a exp(-sum_j w_j (z_j - z'_j)^2 / 2)
    additive   a sum_j w_j exp(-|u_j - u'_j| / l)
    product    a exp(-c sum_j w_j |u_j - u'_j|)
    forest     a (1 - sum_j w_j |u_j - u'_j|)^d

The forest is the limit of infinitely many random oblivious trees of depth d: each level of a tree
splits column j, drawn with probability w_j, at a threshold that is uniform in ranks, so that two
rows stay together with the probability in brackets. Weights w are 1 / columns, or the relevance of
columns. A constant is added for a bias.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from inference.amortized.stacked.columns import View

# The prior variance of the bias.
BIAS = 4.0

# The prior variance of functions, other than linear ones.
CURVED = 12.0

# The prior variances of the slopes of standardised values, and of normal quantiles of ranks.
SLOPES = (1.0, 10.0, 100.0)
RANK_SLOPES = (10.0,)

# The rate at which additive kernels and products of them fall with the distance of ranks.
ADDITIVE_RATE = 3.0
PRODUCT_RATE = 6.0

# The depth of trees.
DEPTH = 8

NAMES = (
    *(f"linear {slope:g}" for slope in SLOPES),
    *(f"linear of ranks {slope:g}" for slope in RANK_SLOPES),
    "RBF",
    "RBF of relevant columns",
    "additive",
    "product",
    "forest",
)


def grams(one: View, other: View, relevance: jax.Array, used: jax.Array) -> jax.Array:
    """Return all kernels between rows, shape (kernels, rows of the first, rows of the second).

    Args:
        one: some rows.
        other: some rows.
        relevance: the relevance of each column, shape (columns,).
        used: whether a column is used, shape (columns,).
    """
    even = used / jnp.maximum(used.sum(), 1.0)
    mixed = (even + relevance) / 2
    linear = one.z @ other.z.T
    linear_ranks = one.g @ other.g.T
    near = (
        jnp.exp(-_squared_distances(one.z, other.z, weights) / 2) for weights in (even, relevance)
    )

    def add(sums: tuple, column: tuple) -> tuple[tuple, None]:
        u, v, *weights = column
        apart = jnp.abs(u[:, None] - v[None, :])
        terms = apart, apart, jnp.exp(-ADDITIVE_RATE * apart)
        return tuple(a + w * b for a, w, b in zip(sums, weights, terms, strict=True)), None

    nothing = jnp.zeros((len(one.u), len(other.u)), one.u.dtype)
    columns = one.u.T, other.u.T, even, mixed, mixed
    # One column after the other, which bounds the memory.
    (even_apart, apart, additive), _ = jax.lax.scan(add, (nothing,) * 3, columns)
    curved = (
        *near,
        additive,
        jnp.exp(-PRODUCT_RATE * even_apart),
        jnp.maximum(1 - apart, 0.0) ** DEPTH,
    )
    return BIAS + jnp.stack(
        [
            *(slope * linear for slope in SLOPES),
            *(slope * linear_ranks for slope in RANK_SLOPES),
            *(CURVED * part for part in curved),
        ]
    )


def _squared_distances(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    """Return weighted squared distances between rows."""
    a, b = (part * jnp.sqrt(weights)[None, :] for part in (x, y))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return jnp.maximum(squares, 0.0)
