"""Columns as they are measured: skewed, heavy-tailed, bounded, stepped, or codes of categories.

In some tables all columns stay as they are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bayesdl.amortized.tables.pool import Pool
from bayesdl.amortized.tables.rows import standardize

# The shares of columns that are skewed, heavy-tailed, bounded, stepped, and codes.
SHARES = (0.2, 0.08, 0.05, 0.17, 0.1)

# The share of tables whose columns stay as they are.
PLAIN = 0.4

# The most categories of a column of codes.
CATEGORIES = 6


def measure(pool: Pool, x: jax.Array) -> jax.Array:
    """Return columns as they are measured, each of mean 0 and standard deviation 1."""
    columns = x.shape[1]

    u, strength = pool.uniform(1, columns), 0.2 + pool.uniform(1, columns)
    kind = jnp.searchsorted(jnp.cumsum(jnp.array(SHARES)), u.ravel())[None, :]
    kind = jnp.where(pool.uniform() < PLAIN, len(SHARES), kind)
    steps = jnp.exp(2 * pool.uniform(1, columns))
    # A code is a band of values, and codes are in no order.
    band = jnp.floor(CATEGORIES * jax.scipy.special.ndtr(x)).clip(0, CATEGORIES - 1)
    names = jnp.argsort(pool.uniform(CATEGORIES, columns), 0)
    codes = jnp.take_along_axis(names, band.astype(jnp.int32), 0).astype(x.dtype)
    shapes = (
        jnp.exp(strength * x),
        x * jnp.exp(strength * jnp.abs(x) / 2),
        jnp.tanh(2 * strength * x),
        jnp.round(steps * x),
        codes,
        x,
    )
    return standardize(jnp.select([kind == number for number in range(len(shapes))], shapes))
