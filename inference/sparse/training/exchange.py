"""Exchanging tiles: the least useful leave for the most promising, all in static shapes.

Of k active tiles of a group at most K = ceil(rate k) are exchanged, n <= K of them now. The n tiles
with the lowest scores leave their places to the n best candidates, which begin with mean 0 and the
initial scale; then each group is sorted again. The optimiser's state moves with the weights, and
begins anew for new ones. Tiles that are removed cannot be added in the same exchange.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.problem import ProblemError
from inference.core.typing import AnyArray, Key, Optimizer, PyTree
from inference.sparse.patterns.pattern import Pattern


class ExchangePlan(NamedTuple):
    """What happens to the places of a store.

    Attributes:
        index: the active tiles afterwards, sorted, shape (G, k).
        fresh: which places get a new tile, before sorting.
        order: the places in the order of the new index.
    """

    index: jax.Array
    fresh: jax.Array
    order: jax.Array


def max_exchanged(pattern: Pattern, rate: float) -> int:
    """Return K, the most tiles of a group that one exchange may replace."""
    return min(math.ceil(rate * pattern.count), pattern.candidates - pattern.count)


def plan_exchange(
    pattern: Pattern,
    index: AnyArray,
    scores: AnyArray,
    gains: AnyArray,
    candidates: AnyArray,
    rate: AnyArray | float,
    key: Key,
) -> ExchangePlan:
    """Plan the exchange in one store.

    Args:
        pattern: the pattern of the store.
        index: its active tiles, shape (G, k).
        scores: the score of each tile, shape (G, k).
        gains: whether a tile may be removed, shape (G, k).
        candidates: the best inactive tiles, best first, shape (G, K).
        rate: the share of the active tiles to replace; fractions of a tile are rounded up or down
            at random.
        key: the random key of the rounding.
    """
    most = candidates.shape[1]
    scores = jnp.where(gains, scores, jnp.inf)
    rank = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    uniform = jax.random.uniform(key, (pattern.groups, 1))
    wanted = jnp.floor(rate * pattern.count + uniform).astype(jnp.int32)
    number = jnp.minimum(jnp.minimum(wanted, most), gains.sum(1, keepdims=True))
    fresh = rank < number
    new = jnp.take_along_axis(candidates, jnp.minimum(rank, most - 1), axis=1)
    index = jnp.where(fresh, new, index)
    order = jnp.argsort(index, axis=1)
    return ExchangePlan(jnp.take_along_axis(index, order, axis=1), fresh, order)


def move_values(plan: ExchangePlan, values: AnyArray, new: AnyArray | float) -> jax.Array:
    """Return the values of a store after the exchange, where those of new tiles are `new`."""
    values = jnp.where(plan.fresh[:, :, None, None], new, values)
    return jnp.take_along_axis(values, plan.order[:, :, None, None], axis=1)


def move_optimizer_state(
    optimizer: Optimizer,
    state: PyTree,
    params: Mapping[str, Any],
    plans: Mapping[str, ExchangePlan],
) -> PyTree:
    """Return the optimiser's state after the exchange.

    What it holds for a weight moves with the weight; for new weights it is as at a start.

    Args:
        optimizer: the optax optimiser; what it keeps for a parameter must have the parameter's
            shape.
        state: its state before the exchange.
        params: the parameters after the exchange.
        plans: the plans of the stores that are exchanged.

    Raises:
        ProblemError: for an optimiser whose state has other shapes.
    """
    import optax

    stores = {name: dict.fromkeys(leaf, name) for name, leaf in params["weights"].items()}
    labels = jax.tree.map(lambda _: "", dict(params)) | {"weights": stores}

    def move(leaf: jax.Array, start: jax.Array, store: str) -> jax.Array:
        if store not in plans:
            return leaf
        if leaf.ndim != 4:
            raise ProblemError(
                f"The optimiser keeps arrays of shape {leaf.shape} for weights of shape "
                f"{start.shape}, which cannot move with them: choose one that keeps a number for "
                "each weight, such as optax.adam or optax.sgd."
            )
        plan = plans[store]
        fresh = jnp.take_along_axis(plan.fresh, plan.order, axis=1)[:, :, None, None]
        return jnp.where(fresh, start, move_values(plan, leaf, 0.0))

    store_of_leaf = optax.tree.map_params(
        optimizer, lambda _, store: store, state, labels, transform_non_params=lambda _: ""
    )
    return jax.tree.map(move, state, optimizer.init(dict(params)), store_of_leaf)
