"""The most promising inactive tiles: those with the largest |d ELBO / d W|, summed over a tile.

With h the inputs of a layer and d the derivatives by its outputs, both of all rows of several minibatches, the gradient is
d h', a mean over these rows and their noise. It is made for a few rows of tiles at a time, of which only the best tiles are
kept, so memory is that of `CHUNK` entries and of the answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.sparse.patterns.pattern import Pattern

CHUNK = 65_536  # entries of the gradient that are held at once


class Gradient(NamedTuple):
    """The factors of the gradient by a matrix of weights: `weight` * d h'.

    Attributes:
        outputs: d, shape (out, rows).
        inputs: h, shape (in, rows).
        weight: a number by which gradients of layers that share a budget are made comparable.
        prospects: a function from sorted numbers of tiles to factors of their scores, or None.
    """

    outputs: Any
    inputs: Any
    weight: Any = 1.0
    prospects: Any = None

    def weighted(self, scores: Any, numbers: Any) -> Any:
        """The scores of tiles with these numbers, times their prospects."""
        if self.prospects is None:
            return scores
        return scores * self.prospects(numbers.reshape(-1)).reshape(scores.shape)


def best(pattern: Pattern, index: Any, gradient: Gradient, count: int) -> Any:
    """The numbers of the best inactive candidates of each group, best first, shape (groups, count)."""
    if pattern.per_row:
        return best_of_rows(pattern, index, gradient, count)
    found = streamed(pattern.grid, pattern.tile, index.reshape(-1), gradient, nothing(count))
    return found[1][None, :]


def best_of_layers(index: Any, layers: list[tuple[int, Gradient]], count: int) -> Any:
    """The same for layers that share one budget of single weights, given where each begins in the store."""
    found = nothing(count)
    for start, gradient in layers:
        grid = gradient.outputs.shape[0], gradient.inputs.shape[0]
        size = grid[0] * grid[1]
        own = jnp.where((index >= start) & (index < start + size), index - start, size).reshape(-1)
        values, numbers = streamed(grid, (1, 1), own, gradient, nothing(count))
        found = merged(found, values, jnp.where(values >= 0, numbers + start, numbers))
    return found[1][None, :]


def nothing(count: int) -> tuple[Any, Any]:
    """No candidate yet: scores and numbers."""
    return jnp.full(count, -2.0), jnp.zeros(count, jnp.int32)


def merged(found: tuple[Any, Any], values: Any, numbers: Any) -> tuple[Any, Any]:
    """The best of those found and of others."""
    values, numbers = jnp.concatenate([found[0], values]), jnp.concatenate([found[1], numbers])
    values, order = jax.lax.top_k(values, len(found[0]))
    return values, numbers[order]


def streamed(
    grid: tuple[int, int], tile: tuple[int, int], active: Any, gradient: Gradient, found: tuple
) -> tuple[Any, Any]:
    """Scores and numbers of the best tiles of a matrix that are not active."""
    rows, columns = grid
    chunk = min(rows, max(1, CHUNK // (tile[0] * tile[1] * columns)))
    outputs = rows_of(gradient.outputs, tile[0], chunk)

    def add(found: tuple, one: tuple) -> tuple:
        start, outputs = one
        scores = tile_scores(outputs, gradient, tile, columns).reshape(-1)
        numbers = start + jnp.arange(scores.size, dtype=jnp.int32)
        scores = gradient.weighted(scores, numbers)
        here = jnp.where(
            (active >= start) & (active < start + scores.size), active - start, scores.size
        )
        scores = scores.at[here].set(-1.0, mode="drop")
        scores = jnp.where(
            numbers < rows * columns, scores, -2.0
        )  # the last chunk may go beyond the matrix
        return merged(found, scores, numbers), None

    starts = jnp.arange(len(outputs), dtype=jnp.int32) * chunk * columns
    return jax.lax.scan(add, found, (starts, outputs))[0]


def best_of_rows(pattern: Pattern, index: Any, gradient: Gradient, count: int) -> Any:
    """For groups that are rows of tiles: each chooses among its own."""
    rows, columns = pattern.grid
    chunk = min(rows, max(1, CHUNK // (pattern.tile[0] * pattern.tile[1] * columns)))
    outputs = rows_of(gradient.outputs, pattern.tile[0], chunk)
    active = jnp.pad(index, ((0, len(outputs) * chunk - rows), (0, 0))).reshape(
        len(outputs), chunk, -1
    )

    def one(given: tuple) -> Any:
        start, outputs, active = given
        scores = tile_scores(outputs, gradient, pattern.tile, columns)
        scores = gradient.weighted(scores, start + jnp.arange(scores.size, dtype=jnp.int32))
        scores = scores.at[jnp.arange(chunk)[:, None], active].set(-1.0)
        return jax.lax.top_k(scores, count)[1].astype(jnp.int32)

    starts = jnp.arange(len(outputs), dtype=jnp.int32) * chunk * columns
    return jax.lax.map(one, (starts, outputs, active)).reshape(-1, count)[:rows]


def rows_of(outputs: Any, side: int, chunk: int) -> Any:
    """D cut into chunks of so many rows of tiles, padded with zeros: shape (chunks, chunk * side, rows)."""
    size = chunk * side
    pieces = -(-outputs.shape[0] // size)
    return jnp.pad(outputs, ((0, pieces * size - outputs.shape[0]), (0, 0))).reshape(
        pieces, size, -1
    )


def tile_scores(outputs: Any, gradient: Gradient, tile: tuple[int, int], columns: int) -> Any:
    """|d ELBO / d W| of some rows of tiles, summed over each tile; shape (rows of tiles, columns)."""
    entries = jnp.abs(gradient.weight * (outputs @ gradient.inputs.T))
    entries = jnp.pad(entries, ((0, 0), (0, columns * tile[1] - entries.shape[1])))
    return entries.reshape(-1, tile[0], columns, tile[1]).sum((1, 3))
