"""The layers of a transformer, pre-normalised: h <- h + attention(norm h), h <- h + MLP(norm h).

The normalisation is by the root mean square (Zhang and Sennrich 2019, arXiv:1910.07467).
"""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.core.keys import tagged_key
from inference.core.typing import Key


class Layer(eqx.Module):
    """One layer of attention and an MLP.

    Attributes:
        norms: the scales of the two normalisations, each shape (width,).
        query: the projection to queries, shape (width, width).
        keys_values: the projection to keys and values, shape (width, 2 width).
        out: the projection of attended values, shape (width, width).
        up: the MLP's first weights, shape (width, hidden).
        up_bias: the MLP's first biases, shape (hidden,).
        down: the MLP's second weights, shape (hidden, width).
        down_bias: the MLP's second biases, shape (width,).
    """

    norms: tuple[jax.Array, jax.Array]
    query: jax.Array
    keys_values: jax.Array
    out: jax.Array
    up: jax.Array
    up_bias: jax.Array
    down: jax.Array
    down_bias: jax.Array

    @classmethod
    def init(cls, width: int, hidden: int, key: Key) -> Layer:
        """Return a layer that begins as the identity: `out` and `down` are zero."""
        return cls(
            (jnp.ones(width), jnp.ones(width)),
            init_uniform(tagged_key(key, "query"), width, width),
            init_uniform(tagged_key(key, "keys and values"), width, 2 * width),
            jnp.zeros((width, width)),
            init_uniform(tagged_key(key, "up"), width, hidden),
            jnp.zeros(hidden),
            jnp.zeros((hidden, width)),
            jnp.zeros(width),
        )

    def project_keys_values(self, h: jax.Array, heads: int) -> jax.Array:
        """Return keys and values of tokens, shape (2, batch, tokens, heads, width of a head)."""
        both = rms_normalize(h, self.norms[0]) @ self.keys_values
        return jnp.moveaxis(both.reshape(*both.shape[:-1], 2, heads, -1), -3, 0)

    def __call__(
        self, h: jax.Array, keys_values: jax.Array, lengths: jax.Array | None
    ) -> jax.Array:
        """Return the tokens after the layer.

        Args:
            h: the tokens, shape (batch, tokens, width).
            keys_values: the keys and values of the tokens that these attend to.
            lengths: for each batch entry the number of keys that count, or None for all.
        """
        query = (rms_normalize(h, self.norms[0]) @ self.query).reshape(
            *h.shape[:-1], keys_values.shape[-2], -1
        )
        attended = _attention(query, keys_values[0], keys_values[1], lengths)
        h = h + attended.reshape(h.shape) @ self.out
        up = jax.nn.gelu(rms_normalize(h, self.norms[1]) @ self.up + as_row(self.up_bias))
        return h + up @ self.down + as_row(self.down_bias)


def _attention(
    query: jax.Array, keys: jax.Array, values: jax.Array, lengths: jax.Array | None
) -> jax.Array:
    """Return softmax attention to the first `lengths` keys.

    cuDNN computes it where there is a GPU and the arithmetic is in half precision.
    """
    fused = query.dtype != jnp.float32 and _has_fused_attention()
    return jax.nn.dot_product_attention(
        query,
        keys,
        values,
        key_value_seq_lengths=lengths,
        implementation="cudnn" if fused else "xla",
    )


@functools.cache
def _has_fused_attention() -> bool:
    """Return whether cuDNN's attention runs here; it is tried once."""
    if jax.default_backend() != "gpu":
        return False
    probe = jnp.zeros((1, 8, 1, 8), jnp.bfloat16)
    # A library may be missing, or too old for this card: any error means that XLA's is taken.
    try:
        with jax.ensure_compile_time_eval():
            jax.block_until_ready(
                jax.nn.dot_product_attention(probe, probe, probe, implementation="cudnn")
            )
    except Exception:
        return False
    return True


def as_row(vector: jax.Array) -> jax.Array:
    """Return a vector over the last axis of tokens, shape (1, 1, width)."""
    return vector[None, None, :]


def rms_normalize(h: jax.Array, scale: jax.Array) -> jax.Array:
    """Divide tokens by their root mean square and multiply them by a scale."""
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6) * as_row(scale)


def init_uniform(key: Key, fan_in: int, fan_out: int) -> jax.Array:
    """Draw weights from U(-a, a) with variance 1 / fan_in, shape (fan_in, fan_out)."""
    limit = (3 / fan_in) ** 0.5
    return jax.random.uniform(key, (fan_in, fan_out), jnp.float32, -limit, limit)


def fourier_features(X: jax.Array, frequencies: int) -> jax.Array:
    """Return sines and cosines of numbers, shape (*X.shape, 2 frequencies).

    They show functions that vary over short distances. Angles are 2^k pi x for k below
    `frequencies`.
    """
    octaves = jnp.reshape(2.0 ** jnp.arange(frequencies, dtype=X.dtype), (1,) * X.ndim + (-1,))
    angles = X[..., None] * jnp.pi * octaves
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
