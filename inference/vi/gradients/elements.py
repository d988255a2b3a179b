"""The independent elements of a site's distribution: their distribution, values and number."""

from __future__ import annotations

import copy
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro.distributions import Distribution

from inference.core.typing import Key

# nothing beside 1, and not zero
NUDGE = 1e-30


def element_distribution(distribution: Distribution) -> Distribution:
    """Return the distribution of one element.

    It has no masks, expansion and reinterpreted dimensions, which keep elements independent.
    """
    while isinstance(
        distribution, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution
    ):
        distribution = distribution.base_dist
    return distribution


def sample_once(distribution: Distribution, key: Key) -> jax.Array:
    """Draw one value of the site."""
    return jnp.asarray(distribution.sample(key))


def display_name(distribution: Distribution) -> str:
    """Return the name of a distribution as users write it."""
    name = type(element_distribution(distribution)).__name__
    return name.removesuffix("Probs").removesuffix("Logits")


def is_discrete(distribution: Distribution) -> bool:
    """Return whether the support is discrete."""
    support: Any = distribution.support
    return bool(support.is_discrete)


def depends_on_parameters(distribution: Distribution) -> bool:
    """Return whether the bounds of the support are computed."""
    return any(
        isinstance(getattr(distribution.support, bound, None), Tracer)
        for bound in ("lower_bound", "upper_bound")
    )


def count_elements(distribution: Distribution) -> int:
    """Return the number of independent elements of a site."""
    shape = distribution.shape()
    return math.prod(shape[: len(shape) - event_dim(distribution)])


def event_dim(distribution: Distribution) -> int:
    """Return the number of trailing dimensions of one element."""
    return len(element_distribution(distribution).event_shape)


def count_states(distribution: Distribution) -> int | None:
    """Return the number of values of one element, or None if it is infinite."""
    base = element_distribution(distribution)
    if not base.has_enumerate_support:
        return None
    try:
        return base.enumerate_support(expand=False).shape[0]
    except NotImplementedError:
        return None


def enumerate_states(distribution: Distribution) -> jax.Array:
    """Return the values of each element, shape (states, *site shape)."""
    base = element_distribution(distribution)
    states = base.enumerate_support(expand=False)
    ones = (1,) * _count_expanded_dims(distribution)
    states = states.reshape(states.shape[0], *ones, *states.shape[1:])
    return jnp.broadcast_to(states, (states.shape[0], *distribution.shape()))


def element_log_probs(distribution: Distribution, states: jax.Array) -> jax.Array:
    """Return log probabilities of each element at each of its states, shape (states, *elements)."""
    function = element_distribution(distribution).log_prob
    for _ in range(1 + _count_expanded_dims(distribution)):
        function = jax.vmap(function)
    return jnp.asarray(function(states))


def _count_expanded_dims(distribution: Distribution) -> int:
    """Return how many leading dimensions expansion added to the distribution of one element."""
    base = element_distribution(distribution)
    return len(distribution.shape()) - len(base.event_shape) - len(base.batch_shape)


def smooth_at_zero_logits(distribution: Distribution) -> Distribution:
    """Return the same distribution with the right derivative at logits of zero.

    There NumPyro's log_prob has the derivative of one side, and parameters often begin there.
    """
    if isinstance(distribution, dist.BernoulliLogits):
        logits = distribution.logits
        return dist.BernoulliLogits(logits + jnp.where(jnp.equal(logits, 0), NUDGE, 0.0))
    if isinstance(
        distribution, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution
    ):
        base = smooth_at_zero_logits(distribution.base_dist)
        if base is not distribution.base_dist:
            distribution = copy.copy(distribution)
            distribution.base_dist = base
    return distribution
