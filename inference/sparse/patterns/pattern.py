"""Which weights of a matrix may be active together: tiles, and how many of them.

A matrix W, shape (out, in), is cut into tiles of shape (a, b), R rows of C tiles (padded with zeros where they do not divide
it). A pattern keeps k tiles of each of G groups, chosen among as many candidates as the group has:

    structure        tile         groups               candidates of a group
    unstructured     (1, 1)       1                    all weights
    fan_in           (1, 1)       a unit each          its inputs
    block:B          (B, B)       a row of tiles each  its tiles
    neurons          (1, in)      1                    all units
    dense            (out, in)    1                    1

The state of a layer is `index`, shape (G, k), the numbers of the active candidates, sorted in each group, and its values,
shape (G, k, a, b). Shapes do not change while tiles are exchanged.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class BudgetError(ValueError):
    """A budget or a structure that does not fit a network, or an index that does not fit its pattern."""


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The active tiles of one matrix of weights.

    Attributes:
        shape: (out, in).
        tile: (a, b).
        per_row: whether each row of tiles has its own k; otherwise k is of the whole matrix.
        count: k.

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
                f"A matrix {self.shape} has {self.candidates} tiles {self.tile} to choose from, got {self.count}."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    @property
    def groups(self) -> int:
        return self.grid[0] if self.per_row else 1

    @property
    def candidates(self) -> int:
        """Tiles that a group chooses from."""
        return self.grid[1] if self.per_row else math.prod(self.grid)

    @property
    def size(self) -> int:
        """Weights that are stored."""
        return self.groups * self.count * math.prod(self.tile)

    @property
    def density(self) -> float:
        """Active tiles over all tiles."""
        return self.count / self.candidates

    @property
    def padded(self) -> tuple[int, int]:
        """Shape of the matrix of whole tiles."""
        return self.grid[0] * self.tile[0], self.grid[1] * self.tile[1]

    @property
    def index_shape(self) -> tuple[int, int]:
        return self.groups, self.count

    @property
    def values_shape(self) -> tuple[int, int, int, int]:
        return self.groups, self.count, *self.tile

    @property
    def is_dense(self) -> bool:
        return self.tile == self.shape

    def numbers(self, index: Any) -> Any:
        """Active tiles as numbers in the whole grid, sorted, shape (G * k,)."""
        return (
            (index + self.grid[1] * jnp.arange(self.groups)[:, None]).reshape(-1)
            if self.per_row
            else index.reshape(-1)
        )

    def scattered(self, index: Any, values: Any) -> Any:
        """The matrix, shape (out, in), zero where no tile is active."""
        (rows, columns), (a, b) = self.grid, self.tile
        tiles = jnp.zeros((rows * columns, a, b), values.dtype)
        flat = tiles.at[self.numbers(index)].set(
            values.reshape(-1, a, b),
            unique_indices=True,
            indices_are_sorted=True,
            mode="promise_in_bounds",
        )
        whole = flat.reshape(rows, columns, a, b).transpose(0, 2, 1, 3).reshape(self.padded)
        return whole[: self.shape[0], : self.shape[1]]

    def gathered(self, index: Any, matrix: Any) -> Any:
        """The inverse of `scattered`: the entries of a matrix at the active tiles, zero where tiles go beyond it."""
        (rows, columns), (a, b) = self.grid, self.tile
        whole = jnp.pad(matrix, [(0, p - s) for p, s in zip(self.padded, self.shape, strict=True)])
        tiles = whole.reshape(rows, a, columns, b).transpose(0, 2, 1, 3).reshape(-1, a, b)
        return tiles[self.numbers(index)].reshape(self.values_shape)

    def inside(self, index: Any) -> Any:
        """Which stored entries lie in the matrix, and not in the padding; shape (G, k, a, b)."""
        if self.padded == self.shape:
            return jnp.ones(self.values_shape, bool)
        (out, width), (a, b), columns = self.shape, self.tile, self.grid[1]
        number = self.numbers(index).reshape(self.index_shape)[..., None, None]
        row = number // columns * a + jnp.arange(a).reshape(1, 1, a, 1)
        column = number % columns * b + jnp.arange(b).reshape(1, 1, 1, b)
        return (row < out) & (column < width)

    def draw(self, key: jax.Array) -> jax.Array:
        """A random index."""
        groups = jax.random.split(key, self.groups)
        chosen = jax.vmap(lambda key: jax.random.permutation(key, self.candidates)[: self.count])(
            groups
        )
        return jnp.sort(chosen, axis=1).astype(jnp.int32)

    def check(self, index: np.ndarray, name: str) -> None:
        """Refuses numbers that are not an index of this pattern.

        Raises:
            BudgetError: saying what is wrong, and where.
        """
        index = np.asarray(index)
        if index.shape != self.index_shape or index.dtype.kind not in "iu":
            raise BudgetError(
                f"The index of {name} has shape {index.shape} and type {index.dtype}: expected whole numbers of shape "
                f"{self.index_shape}."
            )
        wide = index.astype(np.int64)  # unsigned numbers have no negative differences
        if wide.min() < 0 or wide.max() >= self.candidates:
            bad = wide[(wide < 0) | (wide >= self.candidates)].flat[0]
            raise BudgetError(
                f"The index of {name} is out of range: got {bad}, expected 0..{self.candidates - 1}."
            )
        steps = np.diff(wide, axis=1)
        if (steps <= 0).any():
            group, place = map(int, np.argwhere(steps <= 0)[0])
            what = "not unique" if steps[group, place] == 0 else "not sorted"
            pair = wide[group, place : place + 2].tolist()
            raise BudgetError(
                f"The index of {name} is {what}: {pair[0]} before {pair[1]} in group {group}."
            )
