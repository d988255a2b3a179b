"""How rows of inputs are distributed in simulated data sets: functions (key, shape, dtype) -> X of shape (rows, columns)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key

CLUSTERS = 8


def tabular(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Rows as real tables have them: in clusters, correlated, some columns skewed or of few values; standardised."""
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
    X = standardised(jnp.sqrt(1 - shared) * latent + jnp.sqrt(shared) * latent @ mixing)
    X = jnp.where(unit("skewed", 1, columns) < 0.3, jnp.exp(X * unit("skew", 1, columns)), X)
    levels = jnp.exp(2 * unit("levels", 1, columns))
    return standardised(jnp.where(unit("stepped", 1, columns) < 0.2, jnp.round(X * levels), X))


def standardised(X: jax.Array) -> jax.Array:
    """Columns of mean 0 and sd 1; a constant one is zero."""
    centred = X - X.mean(0, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(0, keepdims=True) + 1e-6)


INPUTS = {"normal": jax.random.normal, "uniform": jax.random.uniform, "tabular": tabular}
