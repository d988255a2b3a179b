"""Which active weights are worth the least: scores of N(mean, sd^2) under a prior N(0, s^2), the lowest are removed first.

    snr        |mean| / sd. With t ~ N(mean, sd^2) this orders weights as E|t| / sd(|t|) of Li et al. (2024), arXiv:2402.11025,
               as both depend on |mean| / sd alone and increase with it; in single precision theirs is rounding error below
               0.03 and infinite above 5,000.
    evidence   what setting the weight to zero does to the log evidence, log(s / sd) - (mean / sd)^2 / 2 (Bayesian model
               reduction, Friston and Penny 2011), with the sign turned; only weights whose removal gains are removed.
    magnitude  |mean|
    mean_abs   E|t| = mean (2 Phi(mean / sd) - 1) + 2 sd phi(mean / sd)
    random     nothing: a baseline
    support    the log odds that a tile is in the support, under a prior of bursts

A function (mean, sd) may stand in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

REMOVALS = ("snr", "evidence", "magnitude", "mean_abs", "random", "support")


def score(removal: str | Callable, mean: Any, sd: Any, prior_sd: Any, key: jax.Array) -> Any:
    """The score of each weight, of the shape of `mean`."""
    if callable(removal):
        return removal(mean, sd)
    if removal == "snr":
        return jnp.abs(mean) / sd
    if removal == "evidence":
        return -evidence_gain(mean, sd, prior_sd)
    if removal == "magnitude":
        return jnp.abs(mean)
    if removal == "mean_abs":
        return mean * (2 * norm.cdf(mean / sd) - 1) + 2 * sd * norm.pdf(mean / sd)
    return jax.random.uniform(key, mean.shape)


def evidence_gain(mean: Any, sd: Any, prior_sd: Any) -> Any:
    """Log evidence without the weight minus that with it; see the module's docstring."""
    return jnp.log(prior_sd / sd) - 0.5 * (mean / sd) ** 2
