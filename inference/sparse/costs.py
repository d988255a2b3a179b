"""What a sparse posterior costs: weights, bytes and floating-point operations, beside dense mean-field VI of the same network.

Of the operations those of matrix products are counted, with local reparametrisation: for each weight and row two products
forwards and, backwards, two for the weights and two for the inputs (which the first layer does not need). Noise, activations
and the optimiser come on top in both. An exchange is the same without the products for the weights, and for the gradient one
product with the dense matrix for each row it is averaged over.
A transient dense kernel saves memory, and no operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from inference.sparse.patterns.layout import Layout
from inference.sparse.training.exchange import largest


def active(layout: Layout, index: Mapping[str, Any]) -> dict[str, int]:
    """The number of active weights of each layer."""
    return {
        layer: int(np.asarray(mask).sum())
        for store in layout.patterns
        for layer, mask in layout.member_masks(store, index[store])
    }


def operations(
    layout: Layout, places: Mapping[str, int], every: int, batches: int, rate: float
) -> dict[str, float]:
    """Floating-point operations of a step, those of dense mean-field VI, and those of the exchanges for each step.

    Args:
        layout: of the weights.
        places: rows of a minibatch times the places of a row at which each layer multiplies; 0 for lookups.
        every: steps between exchanges.
        batches: minibatches of an exchange.
        rate: of the exchanges; 0 for none.
    """
    step = dense = exchange = 0.0
    first = next(iter(layout.shapes))
    for layer, rows in places.items():
        size, store = math.prod(layout.flat_shape(layer)), layout.store_of(layer)
        pattern, kernel = layout.patterns[store], layout.kernels[store]
        done = size if kernel == "transient" or store != layer else pattern.size
        passes = 4 if layer == first else 6
        step += 2 * passes * rows * done
        dense += 2 * passes * rows * size
        exchange += (
            batches * 2 * (passes - 2) * rows * done
        )  # forwards, and backwards to the layers
        exchange += batches * 2 * rows * size if largest(pattern, rate) else 0  # the gradient
    exchanges = any(largest(pattern, rate) for pattern in layout.patterns.values())
    return {
        "step": step,
        "dense": dense,
        "exchanges_per_step": exchange / every if exchanges else 0.0,
    }


def bytes_of(tree: Any) -> int:
    """Of all arrays of a tree."""
    return int(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def total(layout: Layout) -> int:
    """All weights of the network."""
    return sum(map(math.prod, layout.shapes.values()))
