"""The priors of active weights.

The prior of the active weights of a layer is the model's, made wider by 1 / sqrt(share of its
inputs that a unit sums), so that a unit keeps its prior variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, ExpandedDistribution, Independent

from inference.core.typing import AnyArray
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.layout import Layout


class Prior(NamedTuple):
    """The prior of the weights of a layer.

    Attributes:
        distribution: the distribution of w / scale, of each weight by itself or, with bursts, of
            all together.
        scale: the scale of the weights.
    """

    distribution: Distribution
    scale: AnyArray | float

    @property
    def sd(self) -> jax.Array:
        """The standard deviation.

        It is the scale of distributions that have none, such as Student's t with two degrees of
        freedom.
        """
        variance = jnp.asarray(self.distribution.variance).reshape(-1)[0]
        instead = getattr(self.distribution, "scale", 1.0)
        return jnp.where(jnp.isfinite(variance), jnp.sqrt(variance), instead) * self.scale


def entry_distribution(distribution: Distribution) -> Distribution | None:
    """Return the distribution of one entry of an array whose entries are independent and alike.

    Bursts are returned as they are; for other arrays the answer is None.
    """
    if isinstance(distribution, Bursts):
        return distribution
    while isinstance(distribution, Independent | ExpandedDistribution):
        distribution = distribution.base_dist
    alike = distribution.batch_shape == () and distribution.event_shape == ()
    return distribution if alike else None


def active_prior(prior: Prior, layout: Layout, layer: str) -> Prior:
    """Return the prior of the active weights of a layer; see the module's docstring."""
    return Prior(prior.distribution, prior.scale / math.sqrt(layout.shares[layer]))


def stored_prior_sds(
    layout: Layout, store: str, index: AnyArray, priors: Mapping[str, Prior]
) -> jax.Array:
    """Return the prior's standard deviation of each stored weight, shape (G, k, a, b)."""
    found = jnp.ones(layout.patterns[store].values_shape)
    for layer, mask in layout.member_masks(store, index):
        found = jnp.where(mask, active_prior(priors[layer], layout, layer).sd, found)
    return found
