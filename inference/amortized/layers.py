"""The layers of a transformer, pre-normalised: h <- h + attention(norm h), h <- h + MLP(norm h)."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key


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
    def init(cls, width: int, hidden: int, key: jax.Array) -> Layer:
        return cls(
            (jnp.ones(width), jnp.ones(width)),
            uniform(tagged_key(key, "query"), width, width),
            uniform(tagged_key(key, "keys and values"), width, 2 * width),
            jnp.zeros((width, width)),  # a layer begins as the identity
            uniform(tagged_key(key, "up"), width, hidden),
            jnp.zeros(hidden),
            jnp.zeros((hidden, width)),
            jnp.zeros(width),
        )

    def kept(self, h: jax.Array, heads: int) -> jax.Array:
        """Keys and values of tokens, shape (2, batch, tokens, heads, width of a head)."""
        both = normalised(h, self.norms[0]) @ self.keys_values
        return jnp.moveaxis(both.reshape(*both.shape[:-1], 2, heads, -1), -3, 0)

    def __call__(self, h: jax.Array, kept: jax.Array, lengths: jax.Array | None) -> jax.Array:
        """Tokens after the layer, given the keys and values of those they attend to, the first so many."""
        query = (normalised(h, self.norms[0]) @ self.query).reshape(
            *h.shape[:-1], kept.shape[-2], -1
        )
        h = h + attention(query, kept[0], kept[1], lengths).reshape(h.shape) @ self.out
        up = jax.nn.gelu(normalised(h, self.norms[1]) @ self.up + wide(self.up_bias))
        return h + up @ self.down + wide(self.down_bias)


def attention(
    query: jax.Array, keys: jax.Array, values: jax.Array, lengths: jax.Array | None
) -> jax.Array:
    """Softmax attention to the first so many keys; cuDNN's where there is a GPU and half precision."""
    fused = query.dtype != jnp.float32 and has_fused_attention()
    return jax.nn.dot_product_attention(
        query,
        keys,
        values,
        key_value_seq_lengths=lengths,
        implementation="cudnn" if fused else "xla",
    )


@functools.cache
def has_fused_attention() -> bool:
    """Whether cuDNN's attention runs here: it is tried once."""
    if jax.default_backend() != "gpu":
        return False
    probe = jnp.zeros((1, 8, 1, 8), jnp.bfloat16)
    try:
        with jax.ensure_compile_time_eval():
            jax.block_until_ready(
                jax.nn.dot_product_attention(probe, probe, probe, implementation="cudnn")
            )
    except (
        Exception
    ):  # a library that is missing, or too old for this card: any error means that XLA's is taken
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


def waves(X: jax.Array, frequencies: int) -> jax.Array:
    """Sines and cosines of numbers, as functions vary over short distances; shape (*that of X, 2 frequencies)."""
    octaves = jnp.reshape(2.0 ** jnp.arange(frequencies, dtype=X.dtype), (1,) * X.ndim + (-1,))
    angles = X[..., None] * jnp.pi * octaves
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
