"""The kernel of a wide network as tinygp's, whole matrices at once.

Imported lazily, as it needs tinygp.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from bayesdl.gp.matrices import AbstractMatrixKernel
from bayesdl.gp.wide.activations import AbstractActivation


class WideKernel(AbstractMatrixKernel):
    """The kernel of an infinitely wide network, or its tangent kernel.

    Attributes:
        phi: the activation.
        tangent: whether this is the tangent kernel.
        weight_in: the scale of each input, w_0d / sqrt(D), shape () or (inputs,).
        weights: the scale of the weights of each further layer.
        biases: the scale of the biases of each layer.
    """

    phi: AbstractActivation = eqx.field(static=True)
    tangent: bool = eqx.field(static=True)
    weight_in: Any
    weights: tuple
    biases: tuple

    def scaled(self, X: jax.Array) -> jax.Array:
        """Return rows whose products are those of the first layer."""
        return X * jnp.reshape(self.weight_in, (1, -1))

    def matrix(self, X1: jax.Array, X2: jax.Array) -> jax.Array:
        A, B = self.scaled(X1), self.scaled(X2)
        offset = self.biases[0] ** 2
        a, b = ((rows**2).sum(1) + offset for rows in (A, B))
        c = A @ B.T + offset
        theta = c
        for weight, bias in zip(self.weights, self.biases[1:], strict=True):
            before = a[:, None], b[None, :], c
            slope, offset = weight**2, bias**2
            c = slope * self.phi.product(*before) + offset
            if self.tangent:
                theta = c + slope * self.phi.slope_product(*before) * theta
            a, b = (slope * self.phi.product(x, x, x) + offset for x in (a, b))
        return theta if self.tangent else c

    def diagonal(self, X: jax.Array) -> jax.Array:
        a = (self.scaled(X) ** 2).sum(1) + self.biases[0] ** 2
        theta = a
        for weight, bias in zip(self.weights, self.biases[1:], strict=True):
            before, slope = (a, a, a), weight**2
            a = slope * self.phi.product(*before) + bias**2
            if self.tangent:
                theta = a + slope * self.phi.slope_product(*before) * theta
        return theta if self.tangent else a
