"""A supply of random numbers for programs that draw many small arrays.

Each call of a random generator takes a good part of a second to compile. Here all numbers of a
table are drawn by two calls, and handed out one array after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key
from inference.core.typing import Key

Drawn = TypeVar("Drawn")


class Pool:
    """Random numbers that are handed out in order.

    Args:
        normals: standard normal numbers, shape (size,); None to count how many are needed.
        uniforms: numbers between 0 and 1, likewise.
    """

    def __init__(self, normals: jax.Array | None, uniforms: jax.Array | None) -> None:
        self.supplies = {"normal": normals, "uniform": uniforms}
        self.taken = dict.fromkeys(self.supplies, 0)

    @classmethod
    def supply(cls, key: Key, draw: Callable[[Pool], Drawn]) -> Drawn:
        """Return what a function draws from a pool that is large enough for it."""
        counter = cls(None, None)
        jax.eval_shape(lambda: draw(counter))
        normals = jax.random.normal(tagged_key(key, "normals"), (counter.taken["normal"] + 1,))
        uniforms = jax.random.uniform(tagged_key(key, "uniforms"), (counter.taken["uniform"] + 1,))
        return draw(cls(normals, uniforms))

    def _take(self, kind: str, shape: tuple[int, ...]) -> jax.Array:
        """Return the next numbers of a kind."""
        values, start, size = self.supplies[kind], self.taken[kind], math.prod(shape)
        self.taken[kind] += size
        if values is None:
            return jnp.full(shape, 0.5)
        return values[start : start + size].reshape(shape)

    def normal(self, *shape: int) -> jax.Array:
        """Return standard normal numbers."""
        return self._take("normal", shape)

    def uniform(self, *shape: int) -> jax.Array:
        """Return numbers between 0 and 1."""
        return self._take("uniform", shape)

    def whole(self, least: int, beyond: int | jax.Array, *shape: int) -> jax.Array:
        """Return whole numbers from the least one to below the last one, equally probable."""
        found = jnp.floor(least + (beyond - least) * self.uniform(*shape))
        return jnp.minimum(found, beyond - 1).astype(jnp.int32)

    def choice(self, logits: jax.Array, *shape: int) -> jax.Array:
        """Return indices with probabilities softmax(logits)."""
        ends = jnp.cumsum(jax.nn.softmax(logits))
        return jnp.searchsorted(ends, self.uniform(*shape)).clip(0, len(logits) - 1)
