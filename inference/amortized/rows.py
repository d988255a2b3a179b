"""The network whose tokens are rows.

    context   h_0 = null,  h_i = E x_i + F y_i            query   g_j = E x_j            latent   g_s = a token of its own

E reads inputs beside their sines and cosines.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import Layer, uniform, waves, wide
from inference.amortized.network import AbstractNetwork, Cache, Shape
from inference.keys import tagged


class RowNetwork(AbstractNetwork):
    """See the module's docstring."""

    shape: Shape = eqx.field(static=True)
    inputs: jax.Array
    inputs_bias: jax.Array
    targets: jax.Array
    null: jax.Array
    layers: tuple[Layer, ...]
    norm: jax.Array
    decode: jax.Array
    decode_bias: jax.Array
    head: jax.Array
    head_bias: jax.Array
    latent_tokens: jax.Array
    latent_heads: jax.Array
    units: jax.Array | None

    @classmethod
    def init(cls, shape: Shape, key: jax.Array) -> RowNetwork:
        features = shape.num_inputs * (1 + 2 * shape.frequencies)
        width, hidden = shape.width, shape.hidden
        return cls(
            shape=shape,
            inputs=uniform(tagged(key, "inputs"), features, width),
            inputs_bias=jnp.zeros(width),
            targets=uniform(tagged(key, "targets"), max(1, shape.num_classes), width),
            null=jax.random.normal(tagged(key, "null"), (width,)) / width**0.5,
            layers=tuple(Layer.init(width, hidden, tagged(key, f"layer {number}")) for number in range(shape.layers)),
            norm=jnp.ones(width),
            decode=uniform(tagged(key, "decode"), width, hidden),
            decode_bias=jnp.zeros(hidden),
            head=jnp.zeros((hidden, shape.num_outputs)),
            head_bias=jnp.zeros(shape.num_outputs),
            latent_tokens=jax.random.normal(tagged(key, "latents"), (shape.num_latents, width)),
            latent_heads=jnp.zeros((shape.num_latents, hidden, shape.latent_bars)),
            units=None if shape.unit is None else uniform(tagged(key, "units"), 2, width),
        )

    def embedded(self, X: jax.Array) -> jax.Array:
        """Tokens of inputs, shape (tasks, rows, width)."""
        seen = jnp.concatenate([X, waves(X, self.shape.frequencies).reshape(*X.shape[:-1], -1)], -1)
        return seen.astype(self.inputs.dtype) @ self.inputs + wide(self.inputs_bias)  # waves in single precision

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        read = self.read(y, num_rows)
        null = jnp.broadcast_to(self.null[None, :], (len(X), self.shape.width)) + read.told
        h, kept = jnp.concatenate([null[:, None, :], self.embedded(X) + read.tokens], 1), []
        lengths = (num_rows + 1).astype(jnp.int32)
        for layer in self.layers:
            kept.append(layer.kept(h, self.shape.heads))
            h = layer(h, kept[-1], lengths)
        return Cache(tuple(kept), lengths, read.units)

    def asked(self, cache: Cache, X: jax.Array) -> jax.Array:
        return self.through(cache, self.embedded(X))

    def asked_latents(self, cache: Cache) -> jax.Array:
        tokens = self.latent_tokens[None]
        return self.through(cache, jnp.broadcast_to(tokens, (len(cache.lengths), *self.latent_tokens.shape)))

    def through(self, cache: Cache, g: jax.Array) -> jax.Array:
        """Tokens that attend to the context, after the last layer."""
        for layer, kept in zip(self.layers, cache.keys_values, strict=True):
            g = layer(g, kept, cache.lengths)
        return g
