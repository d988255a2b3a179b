"""Functions drawn from the prior of a network, each with weights (and scales) of its own."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.networks import AbstractNetwork
from bayesdl.functional.noise import FromNoise
from bayesdl.model.language import NUMPYRO
from bayesdl.priors.base import AbstractPrior, Leaf
from bayesdl.priors.family import AbstractFamily
from inference.core.keys import parallel_keys, tagged_key

TOGETHER = 128  # functions at once, which bounds memory


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What gives functions: equal ones share what was compiled.

    Attributes:
        net: the network.
        leaves: its arrays of weights.
        blank: the prior; of a family, whose numbers are given as parameters, any member.
    """

    net: AbstractNetwork
    leaves: tuple[Leaf, ...]
    blank: AbstractPrior

    @classmethod
    def of(
        cls, net: AbstractNetwork, leaves: tuple[Leaf, ...], prior: AbstractPrior
    ) -> tuple[Drawn, Any]:
        """With the parameters of this prior."""
        if isinstance(prior, AbstractFamily):
            return cls(net, leaves, type(prior)()), prior.started(leaves).parameters()
        return cls(net, leaves, prior), None

    def one(self, parameters: Any, X: jax.Array, key: jax.Array) -> jax.Array:
        """A function at X, shape (points, outputs)."""
        prior = self.blank
        if isinstance(prior, AbstractFamily):
            prior = prior.at(parameters)
        noise = jax.random.normal(
            tagged_key(key, "noise"), (sum(1 + math.prod(leaf.shape) for leaf in self.leaves),)
        )
        with FromNoise(noise, key):
            weights = prior.draws(self.leaves, NUMPYRO)
        return self.net.apply(weights, X, NUMPYRO)

    def many(self, parameters: Any, X: jax.Array, key: jax.Array, num: int) -> jax.Array:
        """Functions at X as rows, shape (num, points * outputs)."""
        return jax.vmap(lambda k: self.one(parameters, X, k).ravel())(parallel_keys(key, (num,)))


def functions(
    net: AbstractNetwork,
    leaves: tuple[Leaf, ...],
    prior: AbstractPrior,
    X: np.ndarray,
    num: int,
    seed: int,
) -> Any:
    """Functions of the network at X, shape (num, points * outputs)."""
    drawn, parameters = Drawn.of(net, leaves, prior)
    whole = -(-num // TOGETHER) * TOGETHER  # a remainder would be compiled too
    return np.asarray(
        compiled(drawn, whole, parameters, jnp.asarray(X, float), jax.random.key(seed)), float
    )[:num]


@functools.partial(jax.jit, static_argnums=(0, 1))
def compiled(drawn: Drawn, num: int, parameters: Any, X: jax.Array, key: jax.Array) -> jax.Array:
    """In pieces that bound memory."""
    return jax.lax.map(
        lambda k: drawn.one(parameters, X, k).ravel(),
        jax.random.split(key, num),
        batch_size=TOGETHER,
    )
