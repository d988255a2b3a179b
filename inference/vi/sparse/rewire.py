"""Exchanging tiles: the least useful are removed, as many of the most promising are added, all in static shapes.

Of k active tiles of a group at most K = ceil(rate k) are exchanged, n <= K of them now. The n with the lowest scores leave
their places to the n best candidates, which begin with mean 0 and the initial scale; then each group is sorted again. The
optimiser's state moves with the weights, and begins with zeros for new ones. Tiles that are removed cannot be added in the
same exchange.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.vi.sparse.pattern import Pattern


class Plan(NamedTuple):
    """What happens to the places of a store.

    Attributes:
        index: the active tiles afterwards, sorted, shape (G, k).
        fresh: which places get a new tile, before sorting.
        order: the places in the order of the new index.
    """

    index: Any
    fresh: Any
    order: Any


def largest(pattern: Pattern, rate: float) -> int:
    """K: the most tiles of a group that one exchange may replace."""
    return min(math.ceil(rate * pattern.count), pattern.candidates - pattern.count)


def plan(pattern: Pattern, index: Any, scores: Any, gains: Any, candidates: Any, rate: Any, key: jax.Array) -> Plan:
    """The exchange in one store.

    Args:
        pattern: of the store.
        index: its active tiles.
        scores: of each tile, shape (G, k).
        gains: whether a tile may be removed, shape (G, k).
        candidates: the best inactive ones, best first, shape (G, K).
        rate: share of the active tiles to replace; fractions of a tile are rounded up or down at random.
        key: of the rounding.
    """
    most = candidates.shape[1]
    scores = jnp.where(gains, scores, jnp.inf)
    rank = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    wanted = jnp.floor(rate * pattern.count + jax.random.uniform(key, (pattern.groups, 1))).astype(jnp.int32)
    number = jnp.minimum(jnp.minimum(wanted, most), gains.sum(1, keepdims=True))
    fresh = rank < number
    new = jnp.take_along_axis(candidates, jnp.minimum(rank, most - 1), axis=1)
    index = jnp.where(fresh, new, index)
    order = jnp.argsort(index, axis=1)
    return Plan(jnp.take_along_axis(index, order, axis=1), fresh, order)


def moved(plan: Plan, values: Any, new: Any) -> Any:
    """Values of a store after the exchange, those of new tiles being `new`."""
    values = jnp.where(plan.fresh[:, :, None, None], new, values)
    return jnp.take_along_axis(values, plan.order[:, :, None, None], axis=1)


def moved_state(optimizer: Any, state: Any, params: Mapping[str, Any], plans: Mapping[str, Plan]) -> Any:
    """The optimiser's state after the exchange: what it holds for each parameter moves with it."""
    import optax

    stores = {name: dict.fromkeys(leaf, name) for name, leaf in params["weights"].items()}
    labels = jax.tree.map(lambda _: "", dict(params)) | {"weights": stores}

    def move(leaf: Any, store: str) -> Any:
        return moved(plans[store], leaf, 0.0) if store in plans else leaf

    return optax.tree.map_params(optimizer, move, state, labels)
