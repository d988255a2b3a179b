"""How many weights each layer may have: the budget over layers, and the patterns of a structure.

    uniform  the same density in every layer
    erk      Erdos-Renyi-Kernel: density in proportion to (sum of the sides of W) / (product of them), at most 1
             (Evci et al. 2020, arXiv:1911.11134)
    global   one budget for all layers, whose shares change while tiles are exchanged; unstructured only

Layers that stay dense count: density is that of the whole network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from inference.sparse.patterns.pattern import BudgetError, Pattern

ALLOCATIONS = ("uniform", "erk", "global")
LARGE = 1000  # weights from which a budget is rounded to an even number
GLOBAL = "all layers"  # the name of the one pattern of a global budget
Shapes = Mapping[str, tuple[int, ...]]


def patterns(
    shapes: Shapes, density: float, allocation: str, structure: str, dense: tuple[str, ...]
) -> dict[str, Pattern]:
    """The pattern of each layer, or the one of all layers that are not dense.

    Args:
        shapes: of the weights of each layer, (out, in, ...).
        density: active weights over all weights.
        allocation: one of `ALLOCATIONS`.
        structure: "unstructured", "fan_in", "block:B" or "neurons".
        dense: layers that keep all their weights.

    Raises:
        BudgetError: where a layer would be empty.
    """
    if not shapes:
        raise BudgetError("The network has no layer of weights to choose from.")
    sparse = {name: shape for name, shape in shapes.items() if name not in dense}
    wanted = density * sum(map(math.prod, shapes.values())) - sum(
        math.prod(shapes[name]) for name in dense
    )
    total = sum(map(math.prod, sparse.values()))
    if sparse and wanted <= 0:
        least = sum(math.prod(shapes[name]) for name in dense) / sum(
            map(math.prod, shapes.values())
        )
        raise BudgetError(
            f"density={density:g} leaves nothing but the dense layers {list(dense)}, which are {least:.3g} of the weights: "
            "raise density, or give dense_output=False."
        )
    found = {name: whole(shapes[name]) for name in dense}
    if density == 1:
        return {name: whole(shape) for name, shape in shapes.items()}
    if allocation == "global":
        return found | (
            {GLOBAL: even(Pattern((1, total), (1, 1), False, max(1, math.floor(wanted))))}
            if sparse
            else {}
        )
    shares = (
        erk(sparse, wanted)
        if allocation == "erk"
        else dict.fromkeys(sparse, wanted / max(total, 1))
    )
    found |= filled_up(
        {name: pattern(name, shape, shares[name], structure) for name, shape in sparse.items()},
        shares,
        wanted,
    )
    return {name: even(found[name]) for name in shapes}


def even(p: Pattern) -> Pattern:
    """The pattern with one single weight less where their number is large and odd.

    XLA computes arrays of an odd number of entries without vector instructions, which takes a CPU seven times as long.
    """
    odd = p.groups == 1 and p.tile == (1, 1) and p.count % 2 == 1 and p.count > LARGE
    return dataclasses.replace(p, count=p.count - 1) if odd else p


def filled_up(
    found: dict[str, Pattern], shares: Mapping[str, float], wanted: float
) -> dict[str, Pattern]:
    """The patterns with one tile more per group where rounding down left budget for it, largest remainders first."""
    remainders = {
        name: shares[name] * math.prod(p.shape) / unit_of(p) - p.count for name, p in found.items()
    }
    left = wanted - sum(p.size for p in found.values())
    for name in sorted(found, key=lambda name: -remainders[name]):
        p = found[name]
        step = unit_of(p)
        if remainders[name] > 0 and step <= left and p.count < p.candidates:
            found[name], left = simplest(dataclasses.replace(p, count=p.count + 1)), left - step
    return found


def simplest(p: Pattern) -> Pattern:
    """The pattern, or that of a dense layer where all of its tiles are active."""
    return whole(p.shape) if p.count == p.candidates else p


def whole(shape: tuple[int, ...]) -> Pattern:
    """Of a dense layer: one tile."""
    flat = (shape[0], math.prod(shape[1:]))
    return Pattern(flat, flat, False, 1)


def pattern(name: str, shape: tuple[int, ...], density: float, structure: str) -> Pattern:
    """The pattern of one layer with this density, rounded down to whole tiles.

    Raises:
        BudgetError: where not one tile is left.
    """
    flat = (shape[0], math.prod(shape[1:]))
    side = block_side(structure)
    tile = {"neurons": (1, flat[1])}.get(structure, (side, side))
    per_row = structure not in ("unstructured", "neurons")
    least = Pattern(flat, tile, per_row, 1)
    count = math.floor(density * math.prod(flat) / unit_of(least) + 1e-9)
    if count < 1:
        raise BudgetError(empty_message(name, flat, density, structure, unit_of(least)))
    return simplest(dataclasses.replace(least, count=min(count, least.candidates)))


def empty_message(
    name: str, shape: tuple[int, int], density: float, structure: str, unit: int
) -> str:
    """What is said of a layer that would have no weight."""
    if unit > math.prod(shape):
        return (
            f"structure='{structure}' does not fit layer '{name}', shape {shape}, which is smaller than one tile in each row: "
            "choose smaller blocks, or structure='fan_in'."
        )
    cure = (
        "raise density"
        if structure == "unstructured"
        else "raise density, or choose structure='unstructured'"
    )
    return (
        f"The budget has {100 * density:.3g} % for layer '{name}', shape {shape}, which leaves it empty: with "
        f"structure='{structure}' the least is {100 * unit / math.prod(shape):.3g} %. What dense layers keep counts; {cure}."
    )


def unit_of(p: Pattern) -> int:
    """The weights that one tile more in each group stores."""
    return p.groups * math.prod(p.tile)


def block_side(structure: str) -> int:
    """B of "block:B"; 1 for other structures."""
    return int(structure.partition(":")[2] or 1)


def erk(shapes: Shapes, wanted: float) -> dict[str, float]:
    """Densities in proportion to sum(shape) / prod(shape) with `wanted` active weights; those above 1 are cut to 1."""
    full: set[str] = set()
    while True:
        rest = {name: shape for name, shape in shapes.items() if name not in full}
        left = wanted - sum(math.prod(shapes[name]) for name in full)
        unit = left / sum(sum(shape) for shape in rest.values()) if rest else 0.0
        found = {name: unit * sum(shape) / math.prod(shape) for name, shape in rest.items()}
        above = {name for name, density in found.items() if density > 1}
        if not above:
            return found | dict.fromkeys(full, 1.0)
        full |= above
