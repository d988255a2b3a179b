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
from bayesdl.functional.noise import NoiseHandler
from bayesdl.model.language import NUMPYRO
from bayesdl.priors.base import AbstractPrior, WeightArray
from bayesdl.priors.family import AbstractFamily
from inference.core.keys import parallel_keys, tagged_key

BATCH = 128  # functions at once, which bounds memory


@dataclasses.dataclass(frozen=True)
class FunctionSampler:
    """What gives functions: equal ones share what was compiled.

    Attributes:
        net: the network.
        arrays: its arrays of weights.
        blank: the prior; of a family, whose numbers are given as parameters, any member.
    """

    net: AbstractNetwork
    arrays: tuple[WeightArray, ...]
    prior: AbstractPrior

    @classmethod
    def from_prior(
        cls, net: AbstractNetwork, arrays: tuple[WeightArray, ...], prior: AbstractPrior
    ) -> tuple[FunctionSampler, Any]:
        """With the parameters of this prior."""
        if isinstance(prior, AbstractFamily):
            return cls(net, arrays, type(prior)()), prior.initialised(arrays).parameters()
        return cls(net, arrays, prior), None

    def sample_one(self, parameters: Any, X: jax.Array, key: jax.Array) -> jax.Array:
        """A function at X, shape (points, outputs)."""
        prior = self.prior
        if isinstance(prior, AbstractFamily):
            prior = prior.with_params(parameters)
        noise = jax.random.normal(
            tagged_key(key, "noise"), (sum(1 + math.prod(array.shape) for array in self.arrays),)
        )
        with NoiseHandler(noise, key):
            weights = prior.draws(self.arrays, NUMPYRO)
        return self.net.apply(weights, X, NUMPYRO)

    def sample_many(self, parameters: Any, X: jax.Array, key: jax.Array, num: int) -> jax.Array:
        """Functions at X as rows, shape (num, points * outputs)."""
        return jax.vmap(lambda k: self.sample_one(parameters, X, k).ravel())(
            parallel_keys(key, (num,))
        )


def draw_functions(
    net: AbstractNetwork,
    arrays: tuple[WeightArray, ...],
    prior: AbstractPrior,
    X: np.ndarray,
    num: int,
    seed: int,
) -> Any:
    """Functions of the network at X, shape (num, points * outputs)."""
    drawn, parameters = FunctionSampler.from_prior(net, arrays, prior)
    whole = -(-num // BATCH) * BATCH  # a remainder would be compiled too
    return np.asarray(
        draw_in_batches(drawn, whole, parameters, jnp.asarray(X, float), jax.random.key(seed)),
        float,
    )[:num]


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw_in_batches(
    drawn: FunctionSampler, num: int, parameters: Any, X: jax.Array, key: jax.Array
) -> jax.Array:
    """In pieces that bound memory."""
    return jax.lax.map(
        lambda k: drawn.sample_one(parameters, X, k).ravel(),
        jax.random.split(key, num),
        batch_size=BATCH,
    )
