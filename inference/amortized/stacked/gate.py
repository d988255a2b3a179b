"""The gate of a stacked network: from the statistics of learners on a context to their weights.

    w = classical stacking + U g(W_2 g(W_1 s))

Before training U = 0, so the network begins as classical stacking. One more output is the mass of
classes that the context lacks.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import init_uniform
from inference.core.keys import tagged_key
from inference.core.typing import Key


class Gate(eqx.Module):
    """The weights of the gate.

    Attributes:
        first: the weights from statistics to hidden units, shape (features, width).
        first_bias: the biases of these units, shape (width,).
        second: the weights to the second hidden units, shape (width, width).
        second_bias: the biases of these units, shape (width,).
        last: the weights to changes of weights and one number, shape (width, learners + 1).
        last_bias: the biases of these, shape (learners + 1,).
    """

    first: jax.Array
    first_bias: jax.Array
    second: jax.Array
    second_bias: jax.Array
    last: jax.Array
    last_bias: jax.Array

    @classmethod
    def init(cls, features: int, width: int, learners: int, key: Key) -> Gate:
        """Return random weights, and last ones of zero."""
        return cls(
            first=init_uniform(tagged_key(key, "first"), features, width),
            first_bias=jnp.zeros(width),
            second=init_uniform(tagged_key(key, "second"), width, width),
            second_bias=jnp.zeros(width),
            last=jnp.zeros((width, learners + 1)),
            last_bias=jnp.zeros(learners + 1),
        )

    def __call__(self, features: jax.Array, stacking: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the weights of learners, and the logarithm of the mass of other classes.

        Args:
            features: the statistics, shape (tasks, features).
            stacking: the weights of classical stacking, shape (tasks, learners).
        """
        h = jax.nn.gelu(features.astype(self.first.dtype) @ self.first + self.first_bias[None, :])
        h = jax.nn.gelu(h @ self.second + self.second_bias[None, :])
        out = (h @ self.last + self.last_bias[None, :]).astype(jnp.float32)
        return stacking + out[:, :-1], out[:, -1]
