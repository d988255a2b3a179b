"""The network whose tokens are rows.

    context   h_0 = null,  h_i = E x_i + F y_i            query   g_j = E x_j            latent   g_s = a token of its own

E reads inputs beside their sines and cosines.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import Layer, uniform, waves, wide
from inference.amortized.network import AbstractNetwork, Cache, Ends, Shape
from inference.core.keys import tagged_key


class RowNetwork(AbstractNetwork):
    """See the module's docstring."""

    shape: Shape = eqx.field(static=True)
    inputs: jax.Array
    inputs_bias: jax.Array
    null: jax.Array
    layers: tuple[Layer, ...]
    ends: Ends

    @classmethod
    def init(cls, shape: Shape, key: jax.Array) -> RowNetwork:
        features = shape.num_inputs * (1 + 2 * shape.frequencies)
        width, hidden = shape.width, shape.hidden
        return cls(
            shape=shape,
            inputs=uniform(tagged_key(key, "inputs"), features, width),
            inputs_bias=jnp.zeros(width),
            null=jax.random.normal(tagged_key(key, "null"), (width,)) / width**0.5,
            layers=tuple(
                Layer.init(width, hidden, tagged_key(key, f"layer {number}"))
                for number in range(shape.layers)
            ),
            ends=Ends.init(shape, key),
        )

    def embedded(self, X: jax.Array) -> jax.Array:
        """Tokens of inputs, shape (tasks, rows, width)."""
        seen = jnp.concatenate([X, waves(X, self.shape.frequencies).reshape(*X.shape[:-1], -1)], -1)
        return seen.astype(self.inputs.dtype) @ self.inputs + wide(
            self.inputs_bias
        )  # waves in single precision

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        read = self.read(y, num_rows)
        null = jnp.broadcast_to(self.null[None, :], (len(X), self.shape.width)) + read.told
        h = jnp.concatenate([null[:, None, :], self.embedded(X) + read.tokens], 1)
        return self.kept(h, num_rows, read.units)

    def asked(self, cache: Cache, X: jax.Array) -> jax.Array:
        return self.through(cache, self.embedded(X))

    def asked_latents(self, cache: Cache) -> jax.Array:
        tokens = self.ends.latent_tokens[None]
        return self.through(
            cache, jnp.broadcast_to(tokens, (len(cache.lengths), *self.ends.latent_tokens.shape))
        )
