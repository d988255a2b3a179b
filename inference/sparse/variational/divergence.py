"""The KL divergence of q from the prior, over the active weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Normal

from inference.core.keys import named_key
from inference.core.typing import AnyArray, Key
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import log_prior
from inference.sparse.products.sparse_product import store_noise
from inference.sparse.variational.priors import Prior, active_prior

NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
"""The entropy of a standard normal distribution, in nats."""


def kl_of_weights(
    layout: Layout,
    index: Mapping[str, AnyArray],
    mean: Mapping[str, AnyArray],
    sd: Mapping[str, AnyArray],
    priors: Mapping[str, Prior],
    key: Key,
) -> jax.Array:
    """Return KL(q(w) || p(w)) over the active weights.

    It is computed in closed form for normal priors and bursts, otherwise estimated by one draw.

    Args:
        layout: the stores of the network.
        index: the active tiles of each store.
        mean: the means of their weights.
        sd: the standard deviations of their weights.
        priors: the prior of each layer.
        key: the random key of the draw.
    """
    total = jnp.zeros(())
    for store, pattern in layout.patterns.items():
        for layer, mask in layout.member_masks(store, index[store]):
            prior = active_prior(priors[layer], layout, layer)
            bursts = prior.distribution
            if isinstance(bursts, Bursts):
                entropy = jnp.where(mask, NORMAL_ENTROPY + jnp.log(sd[store]), 0.0).sum()
                second = mean[store] ** 2 + sd[store] ** 2
                bound = log_prior(bursts, prior.scale, pattern, index[store], second, mask)
                total = total - entropy - bound
                continue
            term = kl_of_entries(mean[store], sd[store], prior, named_key(key, store))
            total = total + jnp.where(mask, term, 0.0).sum()
    return total


def kl_of_entries(mean: AnyArray, sd: AnyArray, prior: Prior, key: Key) -> jax.Array:
    """Return the KL divergence of each N(mean, sd^2) from the prior."""
    distribution, scale = prior
    if isinstance(distribution, Normal):
        # the types of NumPyro's parameters are wider than what arrays can be multiplied by
        normal: Any = distribution
        s, m = normal.scale * scale, normal.loc * scale
        return jnp.log(s / sd) + (sd**2 + (mean - m) ** 2) / (2 * s**2) - 0.5
    w = mean + sd * store_noise(key, "kl", mean)
    return -NORMAL_ENTROPY - jnp.log(sd) - (distribution.log_prob(w / scale) - jnp.log(scale))
