"""The network whose tokens are the cells of a table, after TabPFN v2 (Hollmann et al. 2025).

    context   h_ic = E x_ic + t_i for each column c,  h_iy = t_i = F y_i + a learned token
    query     likewise, where t is another learned token

Each layer lets the rows attend to one another, column by column, and then the cells of each row. As
cells know their row's target, a column's own effect on it shows at once. All columns share the same
weights, so predictions do not depend on their order, and what is learned of one column holds for
all. There are two differences from TabPFN: columns have no random marks, and every cell knows its
row's target. A layer of p columns costs 2 (1 + p) times as much as a layer of rows.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import Layer, as_row, fourier_features, init_uniform
from inference.amortized.network import AbstractTokenNetwork, Cache, Ends, Shape
from inference.core.keys import tagged_key
from inference.core.typing import Key


class CellLayer(eqx.Module):
    """Attention along the rows of each column, and across the cells of each row.

    Attributes:
        along: the layer in which rows attend to one another, column by column.
        across: the layer in which the cells of a row attend to one another.
    """

    along: Layer
    across: Layer

    @classmethod
    def init(cls, shape: Shape, key: Key) -> CellLayer:
        """Return a layer with random weights."""
        return cls(
            *(
                Layer.init(shape.width, shape.hidden, tagged_key(key, way))
                for way in ("along", "across")
            )
        )

    def project_keys_values(self, h: jax.Array, heads: int) -> jax.Array:
        """Return keys and values of contexts, column by column.

        Args:
            h: the cells of contexts, shape (tasks, rows, cells, width).
            heads: the number of attention heads.
        """
        return self.along.project_keys_values(_columns_as_tasks(h), heads)

    def __call__(self, h: jax.Array, keys_values: jax.Array, lengths: jax.Array) -> jax.Array:
        """Return the cells after the layer.

        Args:
            h: the cells, shape (tasks, rows, cells, width).
            keys_values: the keys and values of contexts.
            lengths: the number of rows of each context.
        """
        tasks, rows, cells, width = h.shape
        flat = self.along(_columns_as_tasks(h), keys_values, jnp.repeat(lengths, cells))
        h = jnp.moveaxis(flat.reshape(tasks, cells, rows, width), 1, 2).reshape(
            tasks * rows, cells, width
        )
        h = self.across(h, self.across.project_keys_values(h, keys_values.shape[-2]), None)
        return h.reshape(tasks, rows, cells, width)


def _columns_as_tasks(h: jax.Array) -> jax.Array:
    """Reshape cells, shape (tasks, rows, cells, width), to shape (tasks * cells, rows, width)."""
    return jnp.moveaxis(h, 2, 1).reshape(-1, h.shape[1], h.shape[3])


class CellNetwork(AbstractTokenNetwork):
    """A network whose tokens are cells; the target's cell is the first of a row.

    Attributes:
        shape: the sizes of the network.
        inputs: the weights of E, shape (a number and its waves, width).
        inputs_bias: the biases of E, shape (width,).
        seen: the learned token that is added to rows with a target, shape (width,).
        asked_for: the learned token of rows without a target, shape (width,).
        null: the learned null row: its target's cell and its other cells, shape (2, width).
        layers: the attention layers.
        ends: the first and last weights, which all kinds of networks share.
    """

    shape: Shape = eqx.field(static=True)
    inputs: jax.Array
    inputs_bias: jax.Array
    seen: jax.Array
    asked_for: jax.Array
    null: jax.Array
    layers: tuple[CellLayer, ...]
    ends: Ends

    @classmethod
    def init(cls, shape: Shape, key: Key) -> CellNetwork:
        """Return a network with random weights."""
        width = shape.width
        return cls(
            shape=shape,
            inputs=init_uniform(tagged_key(key, "inputs"), 1 + 2 * shape.frequencies, width),
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

    def embed(self, X: jax.Array, target: jax.Array) -> jax.Array:
        """Return the tokens of rows, shape (tasks, rows, 1 + inputs, width).

        Args:
            X: the inputs, shape (tasks, rows, inputs).
            target: the tokens of their targets, which broadcast to (tasks, rows, width).
        """
        features = jnp.concatenate(
            [X[..., None], fourier_features(X, self.shape.frequencies)], -1
        ).astype(self.inputs.dtype)
        target = jnp.broadcast_to(target, (*X.shape[:2], self.shape.width))[:, :, None]
        cells = features @ self.inputs + self.inputs_bias[None, None, None, :] + target
        return jnp.concatenate([target, cells], 2)

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        targets, (tasks, _, columns) = self.embed_targets(y, num_rows), X.shape
        null = jnp.broadcast_to(self.null[None], (tasks, 2, self.shape.width))
        null = jnp.concatenate(
            [null[:, :1] + targets.null_shift[:, None], jnp.repeat(null[:, 1:], columns, 1)], 1
        )
        rows = self.embed(X, targets.tokens + as_row(self.seen))
        h = jnp.concatenate([null[:, None], rows], 1)
        return self.build_cache(h, num_rows, targets.units)

    def encode_queries(self, cache: Cache, X: jax.Array) -> jax.Array:
        return self.attend(cache, self.embed(X, as_row(self.asked_for)))[:, :, 0]

    def encode_latents(self, cache: Cache) -> jax.Array:
        cells = cache.keys_values[0].shape[1] // len(cache.lengths)
        sites, width = self.ends.latent_tokens.shape
        tokens = jnp.broadcast_to(
            self.ends.latent_tokens[None, :, None], (len(cache.lengths), sites, cells, width)
        )
        return self.attend(cache, tokens)[:, :, 0]
