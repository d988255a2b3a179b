"""The network whose tokens are the cells of a table, in the manner of TabPFN's second version (Hollmann et al. 2025).

    context   h_ic = E x_ic + t_i for each column c,  h_iy = t_i = F y_i + a learned token
    query     likewise, t another learned token

Each layer lets the rows attend to one another, column by column, and then the cells of each row. As cells know their row's
target, a column's own effect on it shows at once. All columns share the same weights, so predictions do not depend on their
order, and what is learned of one column holds for all. Unlike there, columns have no random marks, and every cell is told its
row's target. A layer of p columns costs 2 (1 + p) times one of rows.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import Layer, uniform, waves, wide
from inference.amortized.network import AbstractNetwork, Cache, Ends, Shape
from inference.core.keys import tagged_key


class CellLayer(eqx.Module):
    """Attention along the rows of each column, and across the cells of each row.

    Attributes:
        along: the first.
        across: the second.
    """

    along: Layer
    across: Layer

    @classmethod
    def init(cls, shape: Shape, key: jax.Array) -> CellLayer:
        return cls(
            *(
                Layer.init(shape.width, shape.hidden, tagged_key(key, way))
                for way in ("along", "across")
            )
        )

    def kept(self, h: jax.Array, heads: int) -> jax.Array:
        """Keys and values of the cells of contexts, column by column; cells have shape (tasks, rows, cells, width)."""
        return self.along.kept(by_column(h), heads)

    def __call__(self, h: jax.Array, kept: jax.Array, lengths: jax.Array) -> jax.Array:
        """Cells after the layer, given what was kept of contexts with so many rows."""
        tasks, rows, cells, width = h.shape
        flat = self.along(by_column(h), kept, jnp.repeat(lengths, cells))
        h = jnp.moveaxis(flat.reshape(tasks, cells, rows, width), 1, 2).reshape(
            tasks * rows, cells, width
        )
        h = self.across(h, self.across.kept(h, kept.shape[-2]), None)
        return h.reshape(tasks, rows, cells, width)


def by_column(h: jax.Array) -> jax.Array:
    """Cells, shape (tasks, rows, cells, width), as so many data sets of one column, shape (tasks * cells, rows, width)."""
    return jnp.moveaxis(h, 2, 1).reshape(-1, h.shape[1], h.shape[3])


class CellNetwork(AbstractNetwork):
    """See the module's docstring. The target's cell is the first of a row."""

    shape: Shape = eqx.field(static=True)
    inputs: jax.Array
    inputs_bias: jax.Array
    seen: jax.Array
    asked_for: jax.Array
    null: jax.Array
    layers: tuple[CellLayer, ...]
    ends: Ends

    @classmethod
    def init(cls, shape: Shape, key: jax.Array) -> CellNetwork:
        width = shape.width
        return cls(
            shape=shape,
            inputs=uniform(tagged_key(key, "inputs"), 1 + 2 * shape.frequencies, width),
            inputs_bias=jnp.zeros(width),
            seen=jax.random.normal(tagged_key(key, "seen"), (width,)) / width**0.5,
            asked_for=jax.random.normal(tagged_key(key, "asked for"), (width,)) / width**0.5,
            null=jax.random.normal(tagged_key(key, "null"), (2, width)) / width**0.5,
            layers=tuple(
                CellLayer.init(shape, tagged_key(key, f"layer {number}"))
                for number in range(shape.layers)
            ),
            ends=Ends.init(shape, key),
        )

    def embedded(self, X: jax.Array, target: jax.Array) -> jax.Array:
        """Tokens of rows, shape (tasks, rows, 1 + inputs, width), given those of their targets."""
        seen = jnp.concatenate([X[..., None], waves(X, self.shape.frequencies)], -1).astype(
            self.inputs.dtype
        )
        target = jnp.broadcast_to(target, (*X.shape[:2], self.shape.width))[:, :, None]
        return jnp.concatenate(
            [target, seen @ self.inputs + self.inputs_bias[None, None, None, :] + target], 2
        )

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        read, (tasks, _, columns) = self.read(y, num_rows), X.shape
        null = jnp.broadcast_to(self.null[None], (tasks, 2, self.shape.width))
        null = jnp.concatenate(
            [null[:, :1] + read.told[:, None], jnp.repeat(null[:, 1:], columns, 1)], 1
        )
        h = jnp.concatenate([null[:, None], self.embedded(X, read.tokens + wide(self.seen))], 1)
        return self.kept(h, num_rows, read.units)

    def asked(self, cache: Cache, X: jax.Array) -> jax.Array:
        return self.through(cache, self.embedded(X, wide(self.asked_for)))[:, :, 0]

    def asked_latents(self, cache: Cache) -> jax.Array:
        cells = cache.keys_values[0].shape[1] // len(cache.lengths)
        sites, width = self.ends.latent_tokens.shape
        tokens = jnp.broadcast_to(
            self.ends.latent_tokens[None, :, None], (len(cache.lengths), sites, cells, width)
        )
        return self.through(cache, tokens)[:, :, 0]
