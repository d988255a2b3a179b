"""The network that reads a data set and predicts: a transformer whose tokens are rows, without positions.

    context   h_0 = null,  h_i = E x_i + F y_i            attend to the context, layer by layer
    query     g_j = E x_j                                  attends to the context of the same layer
    latent    g_s = a token of its own                     likewise

Queries are never keys, so a prediction cannot depend on other queries or on their targets; the order of the context does not
matter; a learned null token makes the empty context well defined. Cost is n^2 + n m for n rows and m queries. Rows beyond a
data set's own number of rows are padding, which no token attends to.

Layers are pre-normalised: h <- h + attention(norm h), h <- h + MLP(norm h). Inputs enter beside their sines and cosines, as
functions vary over short distances. Targets may be read in units of their own context,

    z = (y - c) / s,   c = (c_0 + sum y) / (1 + n),   s^2 = (s_0^2 + (c_0 - c)^2 + sum (y - c)^2) / (1 + n),

where c_0 and s_0 are of the prior's targets; the null token then tells c and s, and bars stand in these units.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.bars import Grid, law
from inference.keys import tagged


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        num_inputs: columns of x, at most.
        num_outputs: logits of a query.
        num_classes: of a target that is a class; 0 for a number.
        width: of a token.
        layers: attention layers.
        heads: attention heads.
        hidden: units of the MLP in a layer.
        frequencies: of the sines and cosines of each input.
        num_latents: latent sites that are predicted too.
        latent_bars: logits of each.
        unit: centre and spread of the prior's targets, where contexts are read in units of their own; None where they are not.
    """

    num_inputs: int
    num_outputs: int
    num_classes: int = 0
    width: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    frequencies: int = 4
    num_latents: int = 0
    latent_bars: int = 0
    unit: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} and heads={self.heads}: expected a width that the heads divide.")


class Layer(eqx.Module):
    """One layer; arrays only."""

    norms: tuple[jax.Array, jax.Array]
    query: jax.Array
    keys_values: jax.Array
    out: jax.Array
    up: jax.Array
    up_bias: jax.Array
    down: jax.Array
    down_bias: jax.Array

    @classmethod
    def init(cls, shape: Shape, key: jax.Array) -> Layer:
        width, hidden = shape.width, shape.hidden
        return cls(
            (jnp.ones(width), jnp.ones(width)),
            uniform(tagged(key, "query"), width, width),
            uniform(tagged(key, "keys and values"), width, 2 * width),
            jnp.zeros((width, width)),  # a layer begins as the identity
            uniform(tagged(key, "up"), width, hidden),
            jnp.zeros(hidden),
            jnp.zeros((hidden, width)),
            jnp.zeros(width),
        )


class Network(eqx.Module):
    """The whole network for a `Shape`."""

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
    def init(cls, shape: Shape, key: jax.Array) -> Network:
        features = shape.num_inputs * (1 + 2 * shape.frequencies)
        width = shape.width
        return cls(
            shape,
            uniform(tagged(key, "inputs"), features, width),
            jnp.zeros(width),
            uniform(tagged(key, "targets"), max(1, shape.num_classes), width),
            jax.random.normal(tagged(key, "null"), (width,)) / width**0.5,
            tuple(Layer.init(shape, tagged(key, f"layer {number}")) for number in range(shape.layers)),
            jnp.ones(width),
            uniform(tagged(key, "decode"), width, shape.hidden),
            jnp.zeros(shape.hidden),
            jnp.zeros((shape.hidden, shape.num_outputs)),
            jnp.zeros(shape.num_outputs),
            jax.random.normal(tagged(key, "latents"), (shape.num_latents, width)),
            jnp.zeros((shape.num_latents, shape.hidden, shape.latent_bars)),
            None if shape.unit is None else uniform(tagged(key, "units"), 2, width),
        )

    def embedded(self, X: jax.Array) -> jax.Array:
        """Tokens of inputs, shape (..., rows, width)."""
        octaves = 2.0 ** jnp.arange(self.shape.frequencies, dtype=X.dtype)
        angles = X[..., None] * jnp.pi * octaves[None, None, None, :]
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*X.shape[:-1], -1)
        seen = jnp.concatenate([X, waves], -1).astype(self.inputs.dtype)  # waves in single precision, whatever the weights'
        return seen @ self.inputs + wide(self.inputs_bias)

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        """Reads contexts: all that predictions need of them.

        Args:
            X: shape (tasks, rows, inputs), padded.
            y: numbers or class indices, shape (tasks, rows).
            num_rows: of each task, shape (tasks,).
        """
        null, units = jnp.broadcast_to(self.null, (len(X), 1, self.shape.width)), None
        if self.units is not None and self.shape.unit is not None:
            units = units_of(y, num_rows, self.shape.unit)
            y = (y - units[:, :1]) / units[:, 1:]
            null = null + (told(units, self.shape.unit).astype(null.dtype) @ self.units)[:, None, :]
        numbers = y[..., None].astype(self.targets.dtype) * wide(self.targets[0])
        target = self.targets[y.astype(jnp.int32)] if self.shape.num_classes else numbers
        h, kept = jnp.concatenate([null, self.embedded(X) + target], 1), []
        lengths = (num_rows + 1).astype(jnp.int32)
        for layer in self.layers:
            normed = normalised(h, layer.norms[0])
            kept.append(self.heads(normed @ layer.keys_values))
            h = self.through(layer, h, normed, kept[-1], lengths)
        return Cache(tuple(kept), lengths, units)

    def law(self, cache: Cache, X: jax.Array, grid: Grid | None, outputs: int | None = None) -> Any:
        """The predictive law of queries, shape (tasks, queries); of the first so many outputs."""
        return law(self.predict(cache, X)[..., :outputs], grid, cache.units)

    def predict(self, cache: Cache, X: jax.Array) -> jax.Array:
        """Logits of queries, shape (tasks, queries, outputs), given X of shape (tasks, queries, inputs)."""
        return (self.asked(cache, self.embedded(X)) @ self.head + wide(self.head_bias)).astype(jnp.float32)

    def latents(self, cache: Cache) -> jax.Array:
        """Logits of latent sites, shape (tasks, sites, bars)."""
        tokens = jnp.broadcast_to(self.latent_tokens[None], (len(cache.lengths), *self.latent_tokens.shape))
        return jnp.einsum("tsh,shb->tsb", self.asked(cache, tokens), self.latent_heads).astype(jnp.float32)

    def asked(self, cache: Cache, g: jax.Array) -> jax.Array:
        """What tokens find in the context, shape (tasks, tokens, hidden)."""
        for layer, kept in zip(self.layers, cache.keys_values, strict=True):
            g = self.through(layer, g, normalised(g, layer.norms[0]), kept, cache.lengths)
        return jax.nn.gelu(normalised(g, self.norm) @ self.decode + wide(self.decode_bias))

    def heads(self, keys_values: jax.Array) -> jax.Array:
        """Keys and values apart, shape (2, tasks, tokens, heads, width of a head)."""
        size = self.shape.width // self.shape.heads
        apart = keys_values.reshape(*keys_values.shape[:-1], 2, self.shape.heads, size)
        return jnp.moveaxis(apart, -3, 0)

    def through(self, layer: Layer, h: jax.Array, normed: jax.Array, kept: jax.Array, lengths: jax.Array) -> jax.Array:
        """Tokens after a layer, given those of the context as keys and values."""
        query = (normed @ layer.query).reshape(*h.shape[:-1], self.shape.heads, -1)
        found = attention(query, kept[0], kept[1], lengths).reshape(h.shape)
        h = h + found @ layer.out
        up = jax.nn.gelu(normalised(h, layer.norms[1]) @ layer.up + wide(layer.up_bias))
        return h + up @ layer.down + wide(layer.down_bias)


class Cache(eqx.Module):
    """What `condition` keeps of contexts.

    Attributes:
        keys_values: of each layer, shape (2, tasks, tokens, heads, width of a head).
        lengths: tokens of each task that are not padding, shape (tasks,).
        units: centre and spread of each task's targets, shape (tasks, 2), where it is read in them.
    """

    keys_values: tuple[jax.Array, ...]
    lengths: jax.Array
    units: jax.Array | None


def units_of(y: jax.Array, num_rows: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """Centre and spread of the first so many targets of each task, as if one more at the prior's centre and spread was seen."""
    seen = jnp.arange(y.shape[1])[None, :] < num_rows[:, None]
    rows = 1 + num_rows[:, None]
    center = (unit[0] + jnp.where(seen, y, 0.0).sum(1, keepdims=True)) / rows
    squares = jnp.where(seen, (y - center) ** 2, 0.0).sum(1, keepdims=True)
    return jnp.concatenate([center, jnp.sqrt((unit[1] ** 2 + (unit[0] - center) ** 2 + squares) / rows)], 1)


def told(units: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """What the network is told of units, in those of the prior: shape (tasks, 2)."""
    return jnp.stack([(units[:, 0] - unit[0]) / unit[1], jnp.log(units[:, 1] / unit[1])], 1)


def attention(query: jax.Array, keys: jax.Array, values: jax.Array, lengths: jax.Array) -> jax.Array:
    """Softmax attention to the first so many keys; cuDNN's where there is a GPU and half precision."""
    fused = query.dtype != jnp.float32 and has_fused_attention()
    return jax.nn.dot_product_attention(
        query, keys, values, key_value_seq_lengths=lengths, implementation="cudnn" if fused else "xla"
    )


@functools.cache
def has_fused_attention() -> bool:
    """Whether cuDNN's attention runs here: it is tried once."""
    if jax.default_backend() != "gpu":
        return False
    probe = jnp.zeros((1, 8, 1, 8), jnp.bfloat16)
    try:
        with jax.ensure_compile_time_eval():
            jax.block_until_ready(jax.nn.dot_product_attention(probe, probe, probe, implementation="cudnn"))
    except Exception:  # a library that is missing, or too old for this card: any error means that XLA's is taken
        return False
    return True


def wide(vector: jax.Array) -> jax.Array:
    """A vector over the last axis of tokens, shape (1, 1, width)."""
    return vector[None, None, :]


def normalised(h: jax.Array, scale: jax.Array) -> jax.Array:
    """Root-mean-square normalisation."""
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6) * wide(scale)


def uniform(key: jax.Array, fan_in: int, fan_out: int) -> Any:
    """U(-a, a) with variance 1 / fan_in."""
    limit = (3 / fan_in) ** 0.5
    return jax.random.uniform(key, (fan_in, fan_out), jnp.float32, -limit, limit)
