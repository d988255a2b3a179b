"""Clouds: rows lie around centres of their class.

    c ~ shares,    x | c = m_{c, part} + A h + a share of B_c h' + noise

Each class has up to three parts. A is shared by classes and B_c is not, so that classes differ in
their covariance in some tables.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesdl.amortized.tables.pool import Pool
from bayesdl.amortized.tables.rows import CAUSES, draw_causes

# The most parts of the cloud of a class.
PARTS = 3


def draw_clouds(
    pool: Pool, rows: int, relevance: jax.Array, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return inputs of shape (rows, columns), and the class of each row.

    Args:
        pool: the random numbers.
        rows: the number of rows.
        relevance: the relevance of each column, shape (columns,).
        shares: the shares of classes, shape (classes,).
    """
    classes, columns = len(shares), len(relevance)

    c = pool.choice(jnp.log(shares + 1e-30), rows)
    part = jnp.floor(pool.uniform(rows) * jnp.ceil(PARTS * pool.uniform())).astype(jnp.int32)
    centers = pool.normal(classes, 1, columns)
    scattered = pool.normal(classes, PARTS, columns)
    mixed = pool.uniform() ** 2
    centers = jnp.sqrt(1 - mixed) * centers + jnp.sqrt(mixed) * scattered
    # The clouds of classes are a few deviations apart, over all columns together.
    wide = relevance.shape[0] ** 0.25
    apart = 4 * pool.uniform() / wide + 0.2
    means = apart * centers[c, part] * relevance[None, :]
    common = draw_causes(pool, rows, columns)
    loadings = pool.normal(classes, CAUSES, columns)
    h = pool.normal(rows, CAUSES)
    own = jnp.einsum("nq,nqd->nd", h, loadings[c]) / CAUSES**0.5
    size = jnp.exp(0.7 * pool.uniform() * pool.normal(classes, 1))[c]
    s, t = pool.uniform(), pool.uniform() * (pool.uniform() < 0.5)
    noise = jnp.sqrt(1 - s) * pool.normal(rows, columns) + jnp.sqrt(s) * common
    return means + size * (jnp.sqrt(1 - t) * noise + jnp.sqrt(t) * own), c
