"""What a sparse posterior costs: weights, bytes and floating-point operations, beside dense mean-field VI of the same network.

Of the operations those of matrix products are counted, with local reparametrisation: for each weight and row two products
forwards and, backwards, two for the weights and two for the inputs (which the first layer does not need). Noise, activations
and the optimiser come on top in both. The gradient for growth is one product with the dense matrix for each row it is averaged
over.
A transient dense kernel saves memory, and no operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from inference.vi.sparse.layout import Layout
from inference.vi.sparse.rewire import largest


def active(layout: Layout, index: Mapping[str, Any]) -> dict[str, int]:
    """The number of active weights of each layer."""
    return {
        layer: int(np.asarray(mask).sum())
        for store in layout.patterns
        for layer, mask in layout.member_masks(store, index[store])
    }


def operations(layout: Layout, rows: int, every: int, growth_rows: int, rate: float) -> dict[str, float]:
    """Floating-point operations of a step, those of dense mean-field VI, and those of an exchange for each step."""
    step = dense = exchange = 0.0
    for number, layer in enumerate(layout.shapes):
        size = math.prod(layout.flat_shape(layer))
        store = layout.store_of(layer)
        pattern, kernel = layout.patterns[store], layout.kernels[store]
        done = size if kernel == "transient" or store != layer else pattern.size
        passes = 4 if number == 0 else 6
        step += 2 * passes * rows * done
        dense += 2 * passes * rows * size
        exchange += 2 * growth_rows * size if largest(pattern, rate) else 0
    return {"step": step, "dense": dense, "exchanges_per_step": exchange / every}


def bytes_of(tree: Any) -> int:
    """Of all arrays of a tree."""
    return int(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def total(layout: Layout) -> int:
    """All weights of the network."""
    return sum(map(math.prod, layout.shapes.values()))
