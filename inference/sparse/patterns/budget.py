"""How many weights each layer may have: the budget over layers, and the patterns of a structure.

    uniform  the same density in every layer
    erk      Erdos-Renyi-Kernel: density in proportion to (sum of the sides of W) / (product of
             them), at most 1 (Evci et al. 2020, arXiv:1911.11134)
    global   one budget for all layers, whose shares change while tiles are exchanged;
             unstructured only

Layers that stay dense count: density is that of the whole network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeAlias

from inference.sparse.patterns.pattern import BudgetError, Pattern

ALLOCATIONS = ("uniform", "erk", "global")
GLOBAL = "all layers"
"""The name of the one pattern of a global budget."""

ROUNDED_ABOVE = 1000
"""A budget of more weights than this is rounded to an even number."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shape of the weights of each layer, (out, in, ...)."""


def allocate_budget(
    shapes: Shapes, density: float, allocation: str, structure: str, dense: tuple[str, ...]
) -> dict[str, Pattern]:
    """Return the pattern of each layer; under a global budget one for all sparse layers.

    Args:
        shapes: the shape of the weights of each layer, (out, in, ...).
        density: the number of active weights divided by the number of all weights.
        allocation: one of `ALLOCATIONS`.
        structure: "unstructured", "fan_in", "block:B" or "neurons".
        dense: the names of the layers that keep all their weights.

    Raises:
        BudgetError: where a layer would be empty.
    """
    if not shapes:
        raise BudgetError("The network has no layer of weights to choose from.")
    sparse = {name: shape for name, shape in shapes.items() if name not in dense}
    budget = density * _count(shapes) - sum(math.prod(shapes[name]) for name in dense)
    total = _count(sparse)
    if sparse and budget <= 0:
        least = sum(math.prod(shapes[name]) for name in dense) / _count(shapes)
        raise BudgetError(
            f"density={density:g} leaves nothing but the dense layers {list(dense)}, which are "
            f"{least:.3g} of the weights: raise density, or give dense_output=False."
        )
    found = {name: dense_pattern(shapes[name]) for name in dense}
    if density == 1:
        return {name: dense_pattern(shape) for name, shape in shapes.items()}
    if allocation == "global":
        if not sparse:
            return found
        shared = Pattern((1, total), (1, 1), False, max(1, math.floor(budget)))
        return found | {GLOBAL: _with_even_count(shared)}
    if allocation == "erk":
        densities = _erk_densities(sparse, budget)
    else:
        densities = dict.fromkeys(sparse, budget / max(total, 1))
    rounded_down = {
        name: _layer_pattern(name, shape, densities[name], structure)
        for name, shape in sparse.items()
    }
    found |= _spend_remainder(rounded_down, densities, budget)
    return {name: _with_even_count(found[name]) for name in shapes}


def _count(shapes: Shapes) -> int:
    """Count the weights of layers."""
    return sum(map(math.prod, shapes.values()))


def _with_even_count(pattern: Pattern) -> Pattern:
    """Return the pattern with one single weight less where their number is large and odd.

    XLA computes arrays of an odd number of entries without vector instructions, which takes a CPU
    seven times as long.
    """
    odd = pattern.count % 2 == 1 and pattern.count > ROUNDED_ABOVE
    if pattern.has_single_weights and odd:
        return dataclasses.replace(pattern, count=pattern.count - 1)
    return pattern


def _spend_remainder(
    found: dict[str, Pattern], densities: Mapping[str, float], budget: float
) -> dict[str, Pattern]:
    """Return the patterns with one tile more per group where rounding down left budget for it.

    The layers with the largest remainders come first.
    """
    remainders = {
        name: densities[name] * math.prod(pattern.shape) / _weights_per_step(pattern)
        - pattern.count
        for name, pattern in found.items()
    }
    left = budget - sum(pattern.size for pattern in found.values())
    for name in sorted(found, key=lambda name: -remainders[name]):
        pattern = found[name]
        step = _weights_per_step(pattern)
        if remainders[name] > 0 and step <= left and pattern.count < pattern.candidates:
            found[name] = _dense_if_full(dataclasses.replace(pattern, count=pattern.count + 1))
            left -= step
    return found


def _dense_if_full(pattern: Pattern) -> Pattern:
    """Return the pattern, or that of a dense layer where all of its tiles are active."""
    return dense_pattern(pattern.shape) if pattern.count == pattern.candidates else pattern


def dense_pattern(shape: tuple[int, ...]) -> Pattern:
    """Return the pattern of a dense layer: one tile."""
    flat = (shape[0], math.prod(shape[1:]))
    return Pattern(flat, flat, False, 1)


def _layer_pattern(name: str, shape: tuple[int, ...], density: float, structure: str) -> Pattern:
    """Return the pattern of one layer with this density, rounded down to whole tiles.

    Raises:
        BudgetError: where not one tile is left.
    """
    flat = (shape[0], math.prod(shape[1:]))
    side = _block_side(structure)
    tile = {"neurons": (1, flat[1])}.get(structure, (side, side))
    per_row = structure not in ("unstructured", "neurons")
    least = Pattern(flat, tile, per_row, 1)
    # the small number makes up for rounding of whole quotients
    tiles = math.floor(density * math.prod(flat) / _weights_per_step(least) + 1e-9)
    if tiles < 1:
        unit = _weights_per_step(least)
        raise BudgetError(_empty_layer_message(name, flat, density, structure, unit))
    return _dense_if_full(dataclasses.replace(least, count=min(tiles, least.candidates)))


def _empty_layer_message(
    name: str, shape: tuple[int, int], density: float, structure: str, unit: int
) -> str:
    """Say why a layer would have no weight, and what to do.

    Args:
        name: the name of the layer.
        shape: the shape of its matrix, (out, in).
        density: the density that the budget gives it.
        structure: the structure that was asked for.
        unit: the number of weights of one tile in each group.
    """
    if unit > math.prod(shape):
        return (
            f"structure='{structure}' does not fit layer '{name}', shape {shape}, which is smaller "
            "than one tile in each row: choose smaller blocks, or structure='fan_in'."
        )
    cure = "raise density"
    if structure != "unstructured":
        cure += ", or choose structure='unstructured'"
    return (
        f"The budget has {100 * density:.3g} % for layer '{name}', shape {shape}, which leaves it "
        f"empty: with structure='{structure}' the least is "
        f"{100 * unit / math.prod(shape):.3g} %. What dense layers keep counts; {cure}."
    )


def _weights_per_step(pattern: Pattern) -> int:
    """Return the number of weights that one tile more in each group stores."""
    return pattern.groups * math.prod(pattern.tile)


def _block_side(structure: str) -> int:
    """Return B of "block:B"; 1 for other structures."""
    return int(structure.partition(":")[2] or 1)


def _erk_densities(shapes: Shapes, budget: float) -> dict[str, float]:
    """Return densities in proportion to sum(shape) / prod(shape); those above 1 are cut to 1.

    Args:
        shapes: the shape of the weights of each layer.
        budget: the number of active weights of all layers together.
    """
    full: set[str] = set()
    while True:
        rest = {name: shape for name, shape in shapes.items() if name not in full}
        left = budget - sum(math.prod(shapes[name]) for name in full)
        unit = left / sum(sum(shape) for shape in rest.values()) if rest else 0.0
        found = {name: unit * sum(shape) / math.prod(shape) for name, shape in rest.items()}
        above = {name for name, density in found.items() if density > 1}
        if not above:
            return found | dict.fromkeys(full, 1.0)
        full |= above
