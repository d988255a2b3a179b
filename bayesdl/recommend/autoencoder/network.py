"""The encoder and the decoder of variational autoencoders for collaborative filtering, as functions of a dictionary of weights.

    h = x / |x|_2,  dropped out,    q(z | x) = N(mu(h), diag sigma(h)^2),    logits = f(z)

The first layer of the encoder sees h through its nonzeros only: a weighted sum of rows of its matrix. Where the items are few
beside the entries, the same sum by a product with the batch as a dense matrix is faster.
Reference: Liang, Krishnan, Hoffman, Jebara (2018), arXiv:1802.05814.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bayesdl.recommend.rows import Entries
from inference.core.keys import named_key

DENSE = (
    1 / 20
)  # share of nonzeros above which a dense product is faster than a sum of rows, as measured
BIASES = 0.001  # standard deviation at the start


@dataclasses.dataclass(frozen=True)
class Network:
    """Sizes of encoder and decoder.

    Attributes:
        num_items: columns of the data.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        latent: dimension of z.
        dropout: share of the entries that is dropped in training.
        stochastic: whether the code is q(z | x); otherwise it is tanh of the mean.
    """

    num_items: int
    hidden: tuple[int, ...]
    latent: int
    dropout: float
    stochastic: bool

    @property
    def encoder(self) -> list[tuple[int, int]]:
        """Shapes of the encoder's matrices."""
        out = self.latent * (2 if self.stochastic else 1)
        return list(zip((self.num_items, *self.hidden), (*self.hidden, out), strict=True))

    @property
    def decoder(self) -> list[tuple[int, int]]:
        """Shapes of the decoder's matrices."""
        widths = self.hidden[::-1]
        return list(zip((self.latent, *widths), (*widths, self.num_items), strict=True))

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Weights at the start: Glorot's uniform, biases truncated normal."""
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
                params[f"{name}.bias"] = BIASES * bias
        return params

    def encode(
        self, params: dict, x: Entries, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of q(z | x), each of shape (b, latent); for a code that is not stochastic, it and zeros.

        Args:
            params: weights.
            x: a batch of users.
            key: of the dropout, or None for none.
        """
        h = (
            summed(normalised(x, self.dropout, key), params["encoder0.weight"])
            + params["encoder0.bias"][None]
        )
        return self.encode_from(params, h)

    def encode_from(self, params: dict, h: Any) -> tuple[jax.Array, jax.Array]:
        """The same from what the first layer gives."""
        for layer in range(1, len(self.encoder)):
            h = (
                jnp.tanh(h) @ params[f"encoder{layer}.weight"]
                + params[f"encoder{layer}.bias"][None]
            )
        if not self.stochastic:
            return jnp.tanh(h), jnp.zeros_like(h)
        return h[:, : self.latent], h[:, self.latent :]

    def last_hidden(self, params: dict, z: Any) -> jax.Array:
        """What the last layer of the decoder sees, shape (b, width)."""
        for layer in range(len(self.decoder) - 1):
            z = jnp.tanh(
                z @ params[f"decoder{layer}.weight"] + params[f"decoder{layer}.bias"][None]
            )
        return z

    def item_layer(self, params: dict) -> tuple[Any, Any]:
        """Matrix (width, items) and biases (items,) of the last layer; with features of the items, around what these say."""
        name = f"decoder{len(self.decoder) - 1}"
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        if "features" in params:
            weight = weight + (params["features"] @ params["features.weight"]).T
            bias = bias + params["features"] @ params["features.bias"]
        return weight, bias

    def decode(self, params: dict, z: Any) -> jax.Array:
        """Scores of all items, shape (b, items)."""
        weight, bias = self.item_layer(params)
        return self.last_hidden(params, z) @ weight + bias[None]


def normalised(x: Entries, dropout: float, key: jax.Array | None) -> Entries:
    """The entries over the root of each user's sum of squares, some dropped and the rest raised; an empty row stays empty."""
    squares = jax.ops.segment_sum(x.value**2, x.user, len(x.present), indices_are_sorted=True)
    value = x.value * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))[x.user]
    if key is not None and dropout > 0:
        kept = jax.random.bernoulli(key, 1 - dropout, value.shape)
        value = jnp.where(kept, value / (1 - dropout), 0.0)
    return x._replace(value=value)


def summed(x: Entries, weight: Any) -> jax.Array:
    """The product of the batch with a matrix (items, width)."""
    if len(x.value) > DENSE * len(x.present) * len(weight):
        return dense(x, len(weight)) @ weight
    return jax.ops.segment_sum(
        x.value[:, None] * weight[x.item], x.user, len(x.present), indices_are_sorted=True
    )


def dense(x: Entries, num_items: int) -> jax.Array:
    """The batch as a matrix, shape (b, items)."""
    return jnp.zeros((len(x.present), num_items), x.value.dtype).at[x.user, x.item].add(x.value)
