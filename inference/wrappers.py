"""What NumPyro wraps around a distribution: masks, plates and events.

`handlers.mask`, `dist.mask(...)` and `obs_mask=` make a `MaskedDistribution`, plates an
`ExpandedDistribution`, `to_event` an `Independent`; they may be nested in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import (
    BernoulliLogits,
    BernoulliProbs,
    CategoricalLogits,
    CategoricalProbs,
    Distribution,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    MixtureSameFamily,
    OrderedLogistic,
    constraints,
)

WRAPPERS = (MaskedDistribution, ExpandedDistribution, Independent)
DIRECTIONS = (type(constraints.circular), type(constraints.sphere))
CLASSES = (BernoulliLogits, BernoulliProbs, CategoricalLogits, CategoricalProbs)


def innermost(distribution: Distribution) -> Distribution:
    """Return the distribution inside all wrappers."""
    while isinstance(distribution, WRAPPERS):
        distribution = distribution.base_dist
    return distribution


def unmasked(distribution: Distribution) -> Distribution:
    """Return the distribution without its masks, wherever they are.

    Example:
        >>> import numpyro.distributions as dist
        >>> masked = dist.Normal(0, 1).expand([3]).mask(jnp.array([True, False, True]))
        >>> type(unmasked(masked)).__name__
        'ExpandedDistribution'
    """
    if isinstance(distribution, MaskedDistribution):
        return unmasked(distribution.base_dist)
    if not isinstance(distribution, WRAPPERS):
        return distribution
    base = unmasked(distribution.base_dist)
    if base is distribution.base_dist:
        return distribution
    if isinstance(distribution, Independent):
        return base.to_event(distribution.reinterpreted_batch_ndims)
    return base.expand(distribution.batch_shape)


def seen_entries(distribution: Distribution, shape: tuple[int, ...]) -> jax.Array:
    """Return which entries of a value of this shape no mask hides.

    Args:
        distribution: the distribution of the value.
        shape: the shape of the value.
    """
    if not isinstance(distribution, WRAPPERS):
        return jnp.ones(shape, bool)
    seen = seen_entries(distribution.base_dist, shape)
    if isinstance(distribution, MaskedDistribution):
        mask = jnp.asarray(distribution._mask)
        events = (1,) * (distribution.event_dim if mask.ndim else 0)
        seen &= jnp.broadcast_to(mask.reshape(mask.shape + events), shape)
    return seen


def has_mask(distribution: Distribution) -> bool:
    """Return whether a mask hides entries, or may do so."""
    if not isinstance(distribution, WRAPPERS):
        return False
    return isinstance(distribution, MaskedDistribution) or has_mask(distribution.base_dist)


def num_classes(distribution: Distribution) -> int | None:
    """Return the number of classes of a distribution of labels 0, 1, ...; None for numbers."""
    inside: Any = innermost(distribution)
    if not isinstance(inside, CLASSES):
        return None
    if isinstance(inside, CategoricalLogits | CategoricalProbs):
        weights: Any = inside.logits if isinstance(inside, CategoricalLogits) else inside.probs
        return weights.shape[-1]
    return 2


def has_ordered_classes(distribution: Distribution) -> bool:
    """Whether the labels of a distribution have an order, as those of ordinal regression do."""
    return isinstance(innermost(distribution), OrderedLogistic)


def class_probabilities(distribution: Distribution) -> jax.Array:
    """Return the probabilities of labels, shape (*shape of the value, classes)."""
    if isinstance(distribution, MaskedDistribution):
        return class_probabilities(distribution.base_dist)
    if isinstance(distribution, Independent):
        return class_probabilities(distribution.base_dist)
    if isinstance(distribution, ExpandedDistribution):
        probs = class_probabilities(distribution.base_dist)
        return jnp.broadcast_to(probs, (*distribution.batch_shape, *probs.shape[-1:]))
    labels: Any = distribution
    probs = jnp.asarray(labels.probs)
    if isinstance(distribution, BernoulliLogits | BernoulliProbs):
        return jnp.stack([1 - probs, probs], axis=-1)
    return probs


def marginal(distribution: Distribution) -> Distribution:
    """Return the distribution of each entry by itself, where a wrapper makes entries one event."""
    if isinstance(distribution, MaskedDistribution | Independent):
        return marginal(distribution.base_dist)
    return distribution


def innermost_support(distribution: Distribution) -> Any:
    """Return the support of one entry of a distribution's value."""
    support: Any = distribution.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def entropy(probs: jax.Array) -> jax.Array:
    """Compute -sum p log p along the last axis, in nats, with 0 log 0 = 0."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)


def marginal_cdf(distribution: Distribution, value: jax.Array) -> jax.Array:
    """Compute P(Y <= value) of each entry by itself.

    NumPyro's formulas hold inside the support; of counts, at whole numbers.

    Raises:
        NotImplementedError: where NumPyro has no distribution function, or only one of events.
    """
    inside: Any = marginal(distribution)
    if isinstance(inside, ExpandedDistribution):
        return marginal_cdf(inside.base_dist, value)
    if inside.event_shape:
        raise NotImplementedError
    if isinstance(inside, MixtureSameFamily):
        parts = marginal_cdf(
            inside.component_distribution, jnp.expand_dims(value, inside.mixture_dim)
        )
        weights: Any = inside.mixing_distribution
        shares = jnp.broadcast_to(weights.probs, parts.shape)
        return jnp.sum(shares * parts, axis=inside.mixture_dim)
    whole = jnp.floor(value) if inside.support.is_discrete else value
    low, high = _bounds(inside)
    # a value of the support in the place of those outside it
    known = jnp.clip(whole, low, high)
    cdf = jnp.clip(_computed(lambda: inside.cdf(known)), 0.0, 1.0)
    return jnp.where(whole < low, 0.0, jnp.where(whole >= high, 1.0, cdf))


def _bounds(distribution: Distribution) -> tuple[ArrayLike, ArrayLike]:
    """Return the least and the largest value of each entry, infinite where they are not known."""
    shape = distribution.batch_shape

    def bound(name: str, otherwise: float) -> ArrayLike:
        found = getattr(distribution.support, name, otherwise)
        try:
            return found if np.broadcast_shapes(np.shape(found), shape) == shape else otherwise
        except ValueError:
            return otherwise

    return bound("lower_bound", -jnp.inf), bound("upper_bound", jnp.inf)


def mean_of(distribution: Distribution) -> jax.Array:
    """Return E[Y] of each entry.

    Raises:
        NotImplementedError: where NumPyro has no mean, has that of a direction, or fails.
    """
    return _moment(distribution, "mean")


def variance_of(distribution: Distribution) -> jax.Array:
    """Return Var(Y) of each entry.

    Raises:
        NotImplementedError: where NumPyro has no variance, has that of a direction, or fails.
    """
    return _moment(distribution, "variance")


def _moment(distribution: Distribution, name: str) -> jax.Array:
    """Return the mean or the variance of each entry."""
    if isinstance(innermost_support(distribution), DIRECTIONS):
        # a mean direction is no mean of numbers, and differs from that of samples
        raise NotImplementedError(f"the {name} of a direction")
    found = _computed(lambda: jnp.asarray(getattr(distribution, name)))
    shape = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
    # that of some distributions is one for all entries
    one_for_all = found.ndim == len(shape) and set(found.shape) == {1}
    return jnp.broadcast_to(found, shape) if one_for_all else found


def _computed(function: Callable[[], jax.Array]) -> jax.Array:
    """Compute what NumPyro may not know, as for a mixture of distributions of several shapes."""
    try:
        return function()
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise NotImplementedError(str(error)) from error
