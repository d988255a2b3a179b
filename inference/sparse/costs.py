"""What a sparse posterior costs: weights and floating-point operations, beside dense VI.

Dense VI is mean-field VI of the same network. Of the operations those of matrix products are
counted, with local reparametrisation: for each weight and row two products forwards and, backwards,
two for the weights and two for the inputs (which the first layer does not need). Noise, activations
and the optimiser come on top in both. An exchange is the same without the products for the weights,
and for the gradient one product with the dense matrix for each row over which it is averaged. A
transient dense kernel saves memory, and no operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from inference.core.typing import AnyArray
from inference.sparse.patterns.layout import Layout
from inference.sparse.training.exchange import max_exchanged


def count_active(layout: Layout, index: Mapping[str, AnyArray]) -> dict[str, int]:
    """Count the active weights of each layer."""
    return {
        layer: int(np.asarray(mask).sum())
        for store in layout.patterns
        for layer, mask in layout.member_masks(store, index[store])
    }


def count_operations(
    layout: Layout, output_rows: Mapping[str, int], every: int, batches: int, rate: float
) -> dict[str, float]:
    """Count the floating-point operations of a step.

    Args:
        layout: the stores of the weights.
        output_rows: the rows of each layer's outputs in a step, which are the rows of a minibatch
            times the places of a row at which the layer multiplies; 0 for lookups.
        every: the number of steps between exchanges.
        batches: the number of minibatches of an exchange.
        rate: the rate of the exchanges; 0 for none.

    Returns:
        The operations of a step ("step"), those of a step of dense VI ("dense"), and those of the
        exchanges for each step ("exchanges_per_step").
    """
    step = dense = exchange = 0.0
    first = next(iter(layout.shapes))
    for layer, rows in output_rows.items():
        size, store = math.prod(layout.flat_shape(layer)), layout.store_of(layer)
        pattern, kernel = layout.patterns[store], layout.kernels[store]
        done = size if kernel == "transient" or store != layer else pattern.size
        passes = 4 if layer == first else 6
        step += 2 * passes * rows * done
        dense += 2 * passes * rows * size
        # forwards, and backwards to the layers
        exchange += batches * 2 * (passes - 2) * rows * done
        # the gradient
        exchange += batches * 2 * rows * size if max_exchanged(pattern, rate) else 0
    exchanges = any(max_exchanged(pattern, rate) for pattern in layout.patterns.values())
    return {
        "step": step,
        "dense": dense,
        "exchanges_per_step": exchange / every if exchanges else 0.0,
    }


def count_weights(layout: Layout) -> int:
    """Count all weights of the network."""
    return sum(map(math.prod, layout.shapes.values()))
