"""The encoder and the decoder of autoencoders for collaborative filtering.

    h = x / |x|_2,  dropped out,    q(z | x) = N(mu(h), diag sigma(h)^2),    logits = f(z)

Both are functions of a dictionary of weights. The first layer of the encoder sees h through its
nonzeros only: a weighted sum of rows of its matrix. Where there are few items for the number of
entries, the same sum is faster as a product of the matrix with the batch as a dense matrix.
Reference: Liang, Krishnan, Hoffman, Jebara (2018), arXiv:1802.05814.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

from bayesdl.recommend.rows import AnyArray, Entries
from inference.core.keys import named_key

Weights: TypeAlias = Mapping[str, AnyArray]
"""Weights of the network, and of the prior, by name."""

# The share of nonzeros above which a dense product is faster than a sum of rows, as measured.
DENSE_SHARE = 1 / 20
# The standard deviation of biases at the start.
BIAS_SCALE = 0.001


@dataclasses.dataclass(frozen=True)
class Network:
    """The sizes of encoder and decoder.

    Attributes:
        num_items: the number of columns of the data.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        latent: the dimension of z.
        dropout: the share of the entries that is dropped in training.
        stochastic: whether the code is q(z | x); otherwise it is tanh of the mean.
    """

    num_items: int
    hidden: tuple[int, ...]
    latent: int
    dropout: float
    stochastic: bool

    @property
    def encoder(self) -> list[tuple[int, int]]:
        """The shapes of the encoder's matrices."""
        out = self.latent * (2 if self.stochastic else 1)
        return list(zip((self.num_items, *self.hidden), (*self.hidden, out), strict=True))

    @property
    def decoder(self) -> list[tuple[int, int]]:
        """The shapes of the decoder's matrices."""
        widths = self.hidden[::-1]
        return list(zip((self.latent, *widths), (*widths, self.num_items), strict=True))

    @property
    def item_layer_name(self) -> str:
        """The beginning of the names of the last layer's weights."""
        return f"decoder{len(self.decoder) - 1}"

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw weights for the start: Glorot's uniform, biases truncated normal."""
        params = {}
        for part, shapes in (("encoder", self.encoder), ("decoder", self.decoder)):
            for layer, shape in enumerate(shapes):
                name = f"{part}{layer}"
                params[f"{name}.weight"] = jax.nn.initializers.glorot_uniform()(
                    named_key(key, f"{name}.weight"), shape
                )
                bias = jax.random.truncated_normal(
                    named_key(key, f"{name}.bias"), -2.0, 2.0, (shape[1],)
                )
                params[f"{name}.bias"] = BIAS_SCALE * bias
        return params

    def encode(
        self, params: Weights, x: Entries, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Return mean and log variance of q(z | x), each of shape (b, latent).

        For a code that is not stochastic these are the code and zeros.

        Args:
            params: the weights.
            x: a batch of users.
            key: the key of the dropout, or None for no dropout.
        """
        inputs = normalise(x, self.dropout, key)
        first = _multiply_entries(inputs, params["encoder0.weight"])
        return self.encode_from(params, first + params["encoder0.bias"][None])

    def encode_from(self, params: Weights, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mean and log variance of q(z | x) from the output of the first layer.

        Args:
            params: the weights.
            h: the output of the first layer, shape (b, width).
        """
        for layer in range(1, len(self.encoder)):
            weight, bias = params[f"encoder{layer}.weight"], params[f"encoder{layer}.bias"]
            h = jnp.tanh(h) @ weight + bias[None]
        if not self.stochastic:
            return jnp.tanh(h), jnp.zeros_like(h)
        return h[:, : self.latent], h[:, self.latent :]

    def last_hidden(self, params: Weights, z: AnyArray) -> AnyArray:
        """Return the input of the decoder's last layer, shape (b, width)."""
        for layer in range(len(self.decoder) - 1):
            weight, bias = params[f"decoder{layer}.weight"], params[f"decoder{layer}.bias"]
            z = jnp.tanh(z @ weight + bias[None])
        return z

    def item_layer(self, params: Weights) -> tuple[AnyArray, AnyArray]:
        """Return matrix (width, items) and biases (items,) of the last layer.

        With features of the items they are sums of a linear function of the features and of
        deviations from it.
        """
        name = self.item_layer_name
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        if "features" in params:
            weight = weight + (params["features"] @ params["features.weight"]).T
            bias = bias + params["features"] @ params["features.bias"]
        return weight, bias

    def decode(self, params: Weights, z: AnyArray) -> AnyArray:
        """Return the scores of all items, shape (b, items)."""
        weight, bias = self.item_layer(params)
        return self.last_hidden(params, z) @ weight + bias[None]


def normalise(x: Entries, dropout: float, key: jax.Array | None) -> Entries:
    """Divide the entries of each user by their Euclidean norm, and drop some of them.

    The others are raised so that means stay. An empty row stays empty.

    Args:
        x: a batch of users.
        dropout: the share of the entries that is dropped.
        key: the key of the dropout, or None for no dropout.
    """
    squares = jax.ops.segment_sum(x.value**2, x.user, len(x.present), indices_are_sorted=True)
    value = x.value * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))[x.user]
    if key is not None and dropout > 0:
        kept = jax.random.bernoulli(key, 1 - dropout, value.shape)
        value = jnp.where(kept, value / (1 - dropout), 0.0)
    return x._replace(value=value)


def _multiply_entries(x: Entries, weight: AnyArray) -> jax.Array:
    """Return the product of the batch with a matrix (items, width), shape (b, width)."""
    if len(x.value) > DENSE_SHARE * len(x.present) * len(weight):
        return as_dense(x, len(weight)) @ weight
    return jax.ops.segment_sum(
        x.value[:, None] * weight[x.item], x.user, len(x.present), indices_are_sorted=True
    )


def as_dense(x: Entries, num_items: int) -> jax.Array:
    """Return the batch as a matrix, shape (b, items)."""
    return jnp.zeros((len(x.present), num_items), x.value.dtype).at[x.user, x.item].add(x.value)
