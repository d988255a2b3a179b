"""Rows of inputs, before they are turned into columns as they are measured.

    x = sqrt(1 - s) (e + clusters) + sqrt(s) A h,    h = causes of each row

where the share s of what columns have in common, the number of causes and the distance of clusters
are drawn for each table.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesdl.amortized.tables.pool import Pool

# The most causes and the most clusters of a table.
CAUSES = 6
CLUSTERS = 6


def draw_rows(pool: Pool, rows: int, columns: int) -> jax.Array:
    """Return inputs of shape (rows, columns) with columns of mean 0 and standard deviation 1."""
    share = pool.uniform(1, columns)
    share = share * pool.uniform()
    own = pool.normal(rows, columns)
    some = pool.whole(1, CLUSTERS + 1)
    cluster = pool.whole(0, some, rows)
    centers = pool.normal(CLUSTERS, columns)
    apart = 3 * pool.uniform() ** 2
    common = draw_causes(pool, rows, columns)
    x = jnp.sqrt(1 - share) * (own + apart * centers[cluster]) + jnp.sqrt(share) * common
    return standardize(x)


def draw_causes(pool: Pool, rows: int, columns: int) -> jax.Array:
    """Return what a few causes add to each cell, of variance 1 in the mean."""
    some = pool.whole(1, CAUSES + 1)
    inside = (jnp.arange(CAUSES) < some)[:, None]
    loadings = pool.normal(CAUSES, columns) * inside
    h = pool.normal(rows, CAUSES)
    curved = pool.uniform(1, CAUSES) < 0.3
    return jnp.where(curved, h**2 - 1, h) @ loadings / jnp.sqrt(some)


def draw_relevance(pool: Pool, columns: int) -> jax.Array:
    """Return the relevance of each column, of mean square 1; some columns are irrelevant."""
    share = 0.15 + 1.05 * pool.uniform()
    relevant = pool.uniform(columns) < share
    spread = pool.uniform()
    sizes = jnp.exp(spread * pool.normal(columns))
    found = jnp.where(relevant, sizes, 0.0)
    found = jnp.where(relevant.any(), found, 1.0)
    return found / jnp.sqrt((found**2).mean())


def standardize(x: jax.Array) -> jax.Array:
    """Return columns of mean 0 and standard deviation 1; a constant column becomes zero."""
    centred = x - x.mean(0, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(0, keepdims=True) + 1e-6)
