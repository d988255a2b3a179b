"""Exchanging tiles: the least useful are removed, as many of the most promising are added, all in static shapes.

Of k active tiles of a group at most K = ceil(rate k) are exchanged, n <= K of them now. The n with the lowest scores leave
their places to the n best candidates, which begin with mean 0 and the initial scale; then each group is sorted again. The
optimiser's state moves with the weights, and begins anew for new ones. Tiles that are removed cannot be added in the
same exchange.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.problem import ProblemError
from inference.sparse.patterns.pattern import Pattern


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


def plan(
    pattern: Pattern,
    index: Any,
    scores: Any,
    gains: Any,
    candidates: Any,
    rate: Any,
    key: jax.Array,
) -> Plan:
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
    wanted = jnp.floor(rate * pattern.count + jax.random.uniform(key, (pattern.groups, 1))).astype(
        jnp.int32
    )
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


def moved_state(
    optimizer: Any, state: Any, params: Mapping[str, Any], plans: Mapping[str, Plan]
) -> Any:
    """The optimiser's state after the exchange: what it holds for each weight moves with it, that of new ones is as at a start.

    Args:
        optimizer: of optax; what it keeps for a parameter must have the parameter's shape.
        state: before the exchange.
        params: after the exchange.
        plans: of the stores that are exchanged.

    Raises:
        ProblemError: for an optimiser whose state has other shapes.
    """
    import optax

    stores = {name: dict.fromkeys(leaf, name) for name, leaf in params["weights"].items()}
    labels = jax.tree.map(lambda _: "", dict(params)) | {"weights": stores}

    def move(leaf: Any, start: Any, store: str) -> Any:
        if store not in plans:
            return leaf
        if leaf.ndim != 4:
            raise ProblemError(
                f"The optimiser keeps arrays of shape {leaf.shape} for weights of shape {start.shape}, which cannot move with "
                "them: choose one that keeps a number for each weight, such as optax.adam or optax.sgd."
            )
        plan = plans[store]
        fresh = jnp.take_along_axis(plan.fresh, plan.order, axis=1)[:, :, None, None]
        return jnp.where(fresh, start, moved(plan, leaf, 0.0))

    of_leaves = optax.tree.map_params(
        optimizer, lambda _, store: store, state, labels, transform_non_params=lambda _: ""
    )
    return jax.tree.map(move, state, optimizer.init(dict(params)), of_leaves)
