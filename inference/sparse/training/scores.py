"""Which active weights are worth least: scores of N(mean, sd^2) under a prior N(0, s^2).

The weights with the lowest scores are removed first.

    snr        |mean| / sd. With t ~ N(mean, sd^2) this orders weights as E|t| / sd(|t|) of Li et
               al. (2024), arXiv:2402.11025, as both depend on |mean| / sd alone and increase with
               it; in single precision theirs is rounding error below 0.03 and infinite above 5,000.
    evidence   what setting the weight to zero does to the log evidence,
               log(s / sd) - (mean / sd)^2 / 2 (Bayesian model reduction, Friston and Penny 2011),
               with the sign turned; only weights whose removal gains are removed.
    magnitude  |mean|
    mean_abs   E|t| = mean (2 Phi(mean / sd) - 1) + 2 sd phi(mean / sd)
    random     nothing: a baseline
    support    the log odds that a tile is in the support, under a prior of bursts

A function (mean, sd) may stand in their place. The score of a tile is the sum over its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from inference.core.typing import AnyArray, Key, RemovalRule
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import SupportEvidence, log_odds, support_evidence
from inference.sparse.variational.priors import Prior, active_prior, stored_prior_sds

REMOVALS = ("snr", "evidence", "magnitude", "mean_abs", "random", "support")

Removal: TypeAlias = RemovalRule | Callable[..., ArrayLike]
"""One of `REMOVALS`, or a function of (mean, sd) that returns scores."""


def score_weights(
    removal: Removal, mean: AnyArray, sd: AnyArray, prior_sd: AnyArray | None, key: Key
) -> ArrayLike:
    """Return the score of each weight, of the shape of `mean`.

    Args:
        removal: one of `REMOVALS` but "support", or a function of (mean, sd).
        mean: the means of the weights.
        sd: their standard deviations.
        prior_sd: the prior's standard deviations; used by "evidence" alone.
        key: the random key of random scores.
    """
    if callable(removal):
        return removal(mean, sd)
    if removal == "snr":
        return jnp.abs(mean) / sd
    if removal == "evidence":
        assert prior_sd is not None
        return -evidence_gain(mean, sd, prior_sd)
    if removal == "magnitude":
        return jnp.abs(mean)
    if removal == "mean_abs":
        return mean * (2 * norm.cdf(mean / sd) - 1) + 2 * sd * norm.pdf(mean / sd)
    return jax.random.uniform(key, mean.shape)


def evidence_gain(
    mean: AnyArray | float, sd: AnyArray | float, prior_sd: AnyArray | float
) -> jax.Array:
    """Return the log evidence without a weight minus that with it; see the module's docstring."""
    return jnp.log(prior_sd / sd) - 0.5 * (mean / sd) ** 2


def score_tiles(
    layout: Layout,
    store: str,
    index: AnyArray,
    mean: AnyArray,
    sd: AnyArray,
    priors: Mapping[str, Prior],
    removal: Removal,
    key: Key,
) -> jax.Array:
    """Return the score of each tile of a store, shape (G, k); the lowest are removed first.

    Args:
        layout: the stores of the network.
        store: the name of one of them.
        index: its active tiles.
        mean: the means of their weights.
        sd: the standard deviations of their weights.
        priors: the prior of each layer.
        removal: one of `REMOVALS`, or a function of (mean, sd).
        key: the random key of random scores.
    """
    pattern = layout.patterns[store]
    if removal == "support":
        return log_odds(burst_evidence(layout, store, index, mean, sd, priors), pattern)
    prior_sds = stored_prior_sds(layout, store, index, priors)
    found = score_weights(removal, mean, sd, prior_sds, key)
    return jnp.where(pattern.inside_mask(index), found, 0.0).sum((2, 3))


def burst_evidence(
    layout: Layout,
    store: str,
    index: AnyArray,
    mean: AnyArray,
    sd: AnyArray,
    priors: Mapping[str, Prior],
) -> SupportEvidence:
    """Return what q says about the supports of a store, whose prior is of bursts."""
    pattern = layout.patterns[store]
    prior, scale = active_prior(priors[store], layout, store)
    assert isinstance(prior, Bursts)
    inside, second = pattern.inside_mask(index), mean**2 + sd**2
    return support_evidence(prior, scale, pattern, index, second, inside)
