"""Which weights of a matrix may be active together: tiles, and how many of them.

A matrix W, shape (out, in), is cut into tiles of shape (a, b), R rows of C tiles (padded with zeros
where they do not divide it). A pattern keeps k tiles of each of G groups, selected among as many
candidates as the group has:

    structure        tile         groups               candidates of a group
    unstructured     (1, 1)       1                    all weights
    fan_in           (1, 1)       a unit each          its inputs
    block:B          (B, B)       a row of tiles each  its tiles
    neurons          (1, in)      1                    all units
    dense            (out, in)    1                    1

The state of a layer is `index`, shape (G, k), the numbers of the active candidates, sorted in each
group, and its values, shape (G, k, a, b). Shapes do not change while tiles are exchanged.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.typing import AnyArray, Key


class BudgetError(ValueError):
    """A budget or a structure does not fit a network, or an index does not fit its pattern."""


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The active tiles of one matrix of weights.

    Attributes:
        shape: the shape of the matrix, (out, in).
        tile: the shape of a tile, (a, b).
        per_row: whether each row of tiles has its own k; otherwise k counts for the whole matrix.
        count: the number k of active tiles in each group.

    Raises:
        BudgetError: for more tiles than there are, or none.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    per_row: bool
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.candidates:
            raise BudgetError(
                f"A matrix {self.shape} has {self.candidates} tiles {self.tile} to choose from, "
                f"got {self.count}."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """The number of rows and of columns of tiles."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    @property
    def groups(self) -> int:
        """The number G of groups."""
        return self.grid[0] if self.per_row else 1

    @property
    def candidates(self) -> int:
        """The number of tiles from which a group selects its active ones."""
        return self.grid[1] if self.per_row else math.prod(self.grid)

    @property
    def size(self) -> int:
        """The number of weights that are stored."""
        return self.groups * self.count * math.prod(self.tile)

    @property
    def density(self) -> float:
        """The number of active tiles divided by the number of all tiles."""
        return self.count / self.candidates

    @property
    def padded_shape(self) -> tuple[int, int]:
        """The shape of the matrix of whole tiles."""
        return self.grid[0] * self.tile[0], self.grid[1] * self.tile[1]

    @property
    def index_shape(self) -> tuple[int, int]:
        """The shape of an index, (G, k)."""
        return self.groups, self.count

    @property
    def values_shape(self) -> tuple[int, int, int, int]:
        """The shape of the stored values, (G, k, a, b)."""
        return self.groups, self.count, *self.tile

    @property
    def is_dense(self) -> bool:
        """Whether the whole matrix is one tile."""
        return self.tile == self.shape

    @property
    def has_single_weights(self) -> bool:
        """Whether tiles are single weights of the whole matrix, as in an unstructured layer."""
        return self.groups == 1 and self.tile == (1, 1)

    @property
    def has_whole_units(self) -> bool:
        """Whether tiles are the rows of the matrix, of which some are inactive."""
        return self.tile == (1, self.shape[1]) and not self.per_row and not self.is_dense

    def tile_numbers(self, index: AnyArray) -> AnyArray:
        """Return the active tiles as numbers in the whole grid, sorted, shape (G * k,)."""
        if not self.per_row:
            return index.reshape(-1)
        return (index + self.grid[1] * jnp.arange(self.groups)[:, None]).reshape(-1)

    def scatter(self, index: AnyArray, values: AnyArray) -> jax.Array:
        """Return the matrix, shape (out, in), zero where no tile is active."""
        (rows, columns), (a, b) = self.grid, self.tile
        tiles = jnp.zeros((rows * columns, a, b), values.dtype)
        flat = tiles.at[self.tile_numbers(index)].set(
            values.reshape(-1, a, b),
            unique_indices=True,
            indices_are_sorted=True,
            mode="promise_in_bounds",
        )
        whole = flat.reshape(rows, columns, a, b).transpose(0, 2, 1, 3).reshape(self.padded_shape)
        return whole[: self.shape[0], : self.shape[1]]

    def gather(self, index: AnyArray, matrix: AnyArray) -> jax.Array:
        """Return the entries of a matrix at the active tiles: the inverse of `scatter`.

        Entries are zero where tiles go beyond the matrix.
        """
        (rows, columns), (a, b) = self.grid, self.tile
        padding = [(0, p - s) for p, s in zip(self.padded_shape, self.shape, strict=True)]
        whole = jnp.pad(matrix, padding)
        tiles = whole.reshape(rows, a, columns, b).transpose(0, 2, 1, 3).reshape(-1, a, b)
        return tiles[self.tile_numbers(index)].reshape(self.values_shape)

    def inside_mask(self, index: AnyArray) -> AnyArray:
        """Return which stored entries lie in the matrix, not in the padding; shape (G, k, a, b)."""
        if self.padded_shape == self.shape:
            return jnp.ones(self.values_shape, bool)
        (out, width), (a, b), columns = self.shape, self.tile, self.grid[1]
        number = self.tile_numbers(index).reshape(self.index_shape)[..., None, None]
        row = number // columns * a + jnp.arange(a).reshape(1, 1, a, 1)
        column = number % columns * b + jnp.arange(b).reshape(1, 1, 1, b)
        return (row < out) & (column < width)

    def draw_index(self, key: Key) -> jax.Array:
        """Draw a random index."""

        def draw_group(key: Key) -> jax.Array:
            return jax.random.permutation(key, self.candidates)[: self.count]

        selected = jax.vmap(draw_group)(jax.random.split(key, self.groups))
        return jnp.sort(selected, axis=1).astype(jnp.int32)

    def check_index(self, index: AnyArray, name: str) -> None:
        """Refuse numbers that are not an index of this pattern.

        Raises:
            BudgetError: saying what is wrong, and where.
        """
        index = np.asarray(index)
        if index.shape != self.index_shape or index.dtype.kind not in "iu":
            raise BudgetError(
                f"The index of {name} has shape {index.shape} and type {index.dtype}: expected "
                f"whole numbers of shape {self.index_shape}."
            )
        # unsigned numbers have no negative differences
        wide = index.astype(np.int64)
        if wide.min() < 0 or wide.max() >= self.candidates:
            bad = wide[(wide < 0) | (wide >= self.candidates)].flat[0]
            raise BudgetError(
                f"The index of {name} is out of range: got {bad}, "
                f"expected 0..{self.candidates - 1}."
            )
        steps = np.diff(wide, axis=1)
        if (steps <= 0).any():
            group, place = map(int, np.argwhere(steps <= 0)[0])
            what = "not unique" if steps[group, place] == 0 else "not sorted"
            pair = wide[group, place : place + 2].tolist()
            raise BudgetError(
                f"The index of {name} is {what}: {pair[0]} before {pair[1]} in group {group}."
            )
