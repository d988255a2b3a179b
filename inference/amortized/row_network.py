"""The network whose tokens are rows.

    context   h_0 = null,  h_i = E x_i + F y_i
    query     g_j = E x_j
    latent    g_s = a token of its own

E reads inputs beside their sines and cosines.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import Layer, as_row, fourier_features, init_uniform
from inference.amortized.network import AbstractTokenNetwork, Cache, Ends, Shape
from inference.core.keys import tagged_key
from inference.core.typing import Key


class RowNetwork(AbstractTokenNetwork):
    """A network whose tokens are rows; the module's docstring defines them.

    Attributes:
        shape: the sizes of the network.
        inputs: the weights of E, shape (inputs and their waves, width).
        inputs_bias: the biases of E, shape (width,).
        null: the learned null row, shape (width,).
        layers: the attention layers.
        ends: the first and last weights, which all kinds of networks share.
    """

    shape: Shape = eqx.field(static=True)
    inputs: jax.Array
    inputs_bias: jax.Array
    null: jax.Array
    layers: tuple[Layer, ...]
    ends: Ends

    @classmethod
    def init(cls, shape: Shape, key: Key) -> RowNetwork:
        """Return a network with random weights."""
        features = shape.num_inputs * (1 + 2 * shape.frequencies)
        width, hidden = shape.width, shape.hidden
        return cls(
            shape=shape,
            inputs=init_uniform(tagged_key(key, "inputs"), features, width),
            inputs_bias=jnp.zeros(width),
            null=jax.random.normal(tagged_key(key, "null"), (width,)) / width**0.5,
            layers=tuple(
                Layer.init(width, hidden, tagged_key(key, f"layer {number}"))
                for number in range(shape.layers)
            ),
            ends=Ends.init(shape, key),
        )

    def embed(self, X: jax.Array) -> jax.Array:
        """Return the tokens of inputs, shape (tasks, rows, width)."""
        waves = fourier_features(X, self.shape.frequencies).reshape(*X.shape[:-1], -1)
        # Waves are computed in single precision, and the cast comes after them.
        features = jnp.concatenate([X, waves], -1).astype(self.inputs.dtype)
        return features @ self.inputs + as_row(self.inputs_bias)

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        targets = self.embed_targets(y, num_rows)
        null = jnp.broadcast_to(self.null[None, :], (len(X), self.shape.width))
        null = null + targets.null_shift
        h = jnp.concatenate([null[:, None, :], self.embed(X) + targets.tokens], 1)
        return self.build_cache(h, num_rows, targets.units)

    def encode_queries(self, cache: Cache, X: jax.Array) -> jax.Array:
        return self.attend(cache, self.embed(X))

    def encode_latents(self, cache: Cache) -> jax.Array:
        tokens = self.ends.latent_tokens
        return self.attend(
            cache, jnp.broadcast_to(tokens[None], (len(cache.lengths), *tokens.shape))
        )
