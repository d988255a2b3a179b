"""Distributions of the rows of inputs in simulated data sets.

Each is a function (key, shape, dtype) -> X of shape (rows, columns).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from inference.core.keys import tagged_key
from inference.core.typing import Key

# The largest number of clusters of rows in a table.
CLUSTERS = 8


def _draw_table(key: Key, shape: tuple[int, int], dtype: DTypeLike) -> jax.Array:
    """Draw rows like those of real tables; columns have mean 0 and standard deviation 1.

    Rows lie in clusters, columns are correlated, and some columns are skewed or have few values.
    """
    rows, columns = shape

    def normal(name: str, *size: int) -> jax.Array:
        return jax.random.normal(tagged_key(key, name), size, dtype)

    def unit(name: str, *size: int) -> jax.Array:
        return jax.random.uniform(tagged_key(key, name), size, dtype)

    cluster = jnp.floor(unit("cluster", rows) * jnp.ceil(unit("clusters") * CLUSTERS)).astype(
        jnp.int32
    )
    latent = (
        normal("rows", rows, columns)
        + 3 * unit("apart") * normal("centres", CLUSTERS, columns)[cluster]
    )
    mixing = normal("mixing", columns, columns) / columns**0.5
    shared = unit("shared")
    X = _standardize(jnp.sqrt(1 - shared) * latent + jnp.sqrt(shared) * latent @ mixing)
    X = jnp.where(unit("skewed", 1, columns) < 0.3, jnp.exp(X * unit("skew", 1, columns)), X)
    levels = jnp.exp(2 * unit("levels", 1, columns))
    return _standardize(jnp.where(unit("stepped", 1, columns) < 0.2, jnp.round(X * levels), X))


def _standardize(X: jax.Array) -> jax.Array:
    """Return columns of mean 0 and standard deviation 1; a constant column becomes zero."""
    centred = X - X.mean(0, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(0, keepdims=True) + 1e-6)


INPUTS = {"normal": jax.random.normal, "uniform": jax.random.uniform, "tabular": _draw_table}
