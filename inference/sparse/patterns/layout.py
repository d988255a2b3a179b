"""How a network's weights are kept: a store of tiles for each layer, or one that layers share.

A store has a `Pattern`; what is kept under its name (index, means, scales) has the shapes that the
pattern says. With a global budget one store holds all layers that are not dense, one after the
other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.core.typing import AnyArray
from inference.sparse.patterns.budget import GLOBAL, Shapes, dense_pattern
from inference.sparse.patterns.pattern import Pattern


class Tiles(NamedTuple):
    """The values at the active tiles of one layer.

    Attributes:
        pattern: the pattern of the layer.
        kernel: the name of the kernel that multiplies by the tiles.
        index: the numbers of the active tiles, shape (G, k).
        values: their values, shape (G, k, a, b).
    """

    pattern: Pattern
    kernel: str
    index: AnyArray
    values: AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The stores of a network.

    Attributes:
        shapes: the shape of the weights of each layer, (out, in, ...).
        patterns: the pattern of each store.
        kernels: the name of the kernel for each store.
        shares: for each layer the share of its inputs that a unit sums, at the time of the fit: the
            prior of its weights is wider by 1 / sqrt(share), however many are taken out later.
    """

    shapes: Shapes
    patterns: Mapping[str, Pattern]
    kernels: Mapping[str, str]
    shares: Mapping[str, float]

    def members(self, store: str) -> list[tuple[str, int]]:
        """Return the layers of a store, and where each begins in it."""
        if store != GLOBAL:
            return [(store, 0)]
        found, start = [], 0
        for name, shape in self.shapes.items():
            if name not in self.patterns:
                found.append((name, start))
                start += math.prod(shape)
        return found

    def store_of(self, layer: str) -> str:
        """Return the name of the store that holds a layer."""
        return layer if layer in self.patterns else GLOBAL

    def flat_shape(self, layer: str) -> tuple[int, int]:
        """Return (out, in) of a layer; a convolution's kernel counts among its inputs."""
        shape = self.shapes[layer]
        return shape[0], math.prod(shape[1:])

    def layers(
        self, index: Mapping[str, AnyArray], values: Mapping[str, AnyArray]
    ) -> Iterator[tuple[str, Tiles]]:
        """Yield the layers with their values; those that share a store as dense ones."""
        for store, pattern in self.patterns.items():
            if store != GLOBAL:
                yield store, Tiles(pattern, self.kernels[store], index[store], values[store])
                continue
            every = pattern.scatter(index[store], values[store])[0]
            for name, start in self.members(store):
                out, width = self.flat_shape(name)
                matrix = every[start : start + out * width].reshape(1, 1, out, width)
                whole = dense_pattern((out, width))
                yield name, Tiles(whole, "dense", jnp.zeros((1, 1), jnp.int32), matrix)

    def matrices(
        self, index: Mapping[str, AnyArray], values: Mapping[str, AnyArray]
    ) -> dict[str, jax.Array]:
        """Return the weights of each layer in their own shape, zero where no tile is active."""
        return {
            name: tiles.pattern.scatter(tiles.index, tiles.values).reshape(self.shapes[name])
            for name, tiles in self.layers(index, values)
        }

    def member_masks(self, store: str, index: AnyArray) -> list[tuple[str, AnyArray]]:
        """Return for each layer of a store which stored entries are its weights, (G, k, a, b)."""
        inside, members = self.patterns[store].inside_mask(index), self.members(store)
        if len(members) == 1:
            return [(members[0][0], inside)]
        number = index[..., None, None]
        sizes = [math.prod(self.flat_shape(name)) for name, _ in members]
        return [
            (name, inside & (number >= start) & (number < start + size))
            for (name, start), size in zip(members, sizes, strict=True)
        ]


def input_shares(shapes: Shapes, patterns: Mapping[str, Pattern]) -> dict[str, float]:
    """Return the share of its inputs that a unit of each layer sums.

    Where whole units are active a layer sums over all of its inputs that are alive: the active
    units of the layer before it. Layers that share a budget have the density of all of them.
    """
    found, before = {}, 1.0
    for name in shapes:
        pattern = patterns.get(name, patterns.get(GLOBAL))
        assert pattern is not None
        neurons = pattern.has_whole_units and name in patterns
        found[name] = before if neurons or pattern.is_dense else pattern.density
        before = pattern.density if neurons else 1.0
    return found
