"""Functions drawn from the prior of a network, each with its own weights and scales."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.bnn.networks import AbstractNetwork
from bayesdl.functional.noise import NoiseHandler
from bayesdl.model.language import NUMPYRO
from bayesdl.priors.base import AbstractPrior, WeightArray
from inference.core.keys import parallel_keys, tagged_key
from inference.core.typing import Key, Params

# functions drawn at once, which bounds the memory
BATCH = 128


@dataclasses.dataclass(frozen=True)
class FunctionSampler:
    """A sampler of functions of a network; equal samplers share compiled programs.

    Attributes:
        net: the network.
        arrays: its arrays of weights.
        prior: the prior over the weights. The numbers of a family are given as parameters, so
            that any member of the family stands for all.
    """

    net: AbstractNetwork
    arrays: tuple[WeightArray, ...]
    prior: AbstractPrior

    @classmethod
    def from_prior(
        cls, net: AbstractNetwork, arrays: tuple[WeightArray, ...], prior: AbstractPrior
    ) -> tuple[FunctionSampler, Params]:
        """Return the sampler for a prior, and the prior's parameters (None without a family)."""
        shared, parameters = prior.split_parameters(arrays)
        return cls(net, arrays, shared), parameters

    def sample_one(self, parameters: Params, X: jax.Array, key: Key) -> jax.Array:
        """Draw one function at X, shape (points, outputs)."""
        prior = self.prior.with_params(parameters)
        size = sum(1 + math.prod(array.shape) for array in self.arrays)
        noise = jax.random.normal(tagged_key(key, "noise"), (size,))
        with NoiseHandler(noise, key):
            weights = prior.draws(self.arrays, NUMPYRO)
        return self.net.apply(weights, X, NUMPYRO)

    def sample_many(self, parameters: Params, X: jax.Array, key: Key, num: int) -> jax.Array:
        """Draw functions at X as rows, shape (num, points * outputs)."""
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
) -> np.ndarray:
    """Draw functions of the network at X, shape (num, points * outputs).

    Args:
        net: the network.
        arrays: its arrays of weights.
        prior: the prior of the weights.
        X: the points, shape (points, inputs).
        num: the number of functions.
        seed: the seed of all randomness.
    """
    sampler, parameters = FunctionSampler.from_prior(net, arrays, prior)
    # whole batches, as a smaller last batch would be compiled too
    whole = -(-num // BATCH) * BATCH
    key = jax.random.key(seed)
    drawn = _draw_in_batches(sampler, whole, parameters, jnp.asarray(X, float), key)
    return np.asarray(drawn, float)[:num]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_in_batches(
    sampler: FunctionSampler, num: int, parameters: Params, X: jax.Array, key: Key
) -> jax.Array:
    """Draw functions in batches to bound memory, shape (num, points * outputs)."""
    return jax.lax.map(
        lambda k: sampler.sample_one(parameters, X, k).ravel(),
        jax.random.split(key, num),
        batch_size=BATCH,
    )
