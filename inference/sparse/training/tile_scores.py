"""What the active tiles of a store are worth: the scores of their weights, summed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import Evidence, evidence, log_odds
from inference.sparse.training.scores import score
from inference.sparse.variational.sites import Prior, prior_sds, widened


def tile_scores(
    layout: Layout,
    store: str,
    index: Any,
    mean: Any,
    sd: Any,
    priors: Mapping[str, Prior],
    removal: Any,
    key: jax.Array,
) -> Any:
    """The score of each tile of a store, shape (G, k); the lowest are removed first.

    Args:
        layout: of the stores.
        store: one of them.
        index: its active tiles.
        mean: of their weights.
        sd: of their weights.
        priors: of the layers.
        removal: one of `REMOVALS`, or a function of (mean, sd).
        key: of random scores.
    """
    pattern = layout.patterns[store]
    if removal == "support":
        return log_odds(burst_evidence(layout, store, index, mean, sd, priors), pattern)
    found = score(removal, mean, sd, prior_sds(layout, store, index, priors), key)
    return jnp.where(pattern.inside(index), found, 0.0).sum((2, 3))


def burst_evidence(
    layout: Layout, store: str, index: Any, mean: Any, sd: Any, priors: Mapping[str, Prior]
) -> Evidence:
    """What q says of the supports of a store, whose prior is of bursts."""
    pattern = layout.patterns[store]
    prior: Any = widened(priors[store], layout, store)
    return evidence(prior.law, prior.scale, pattern, index, mean**2 + sd**2, pattern.inside(index))
