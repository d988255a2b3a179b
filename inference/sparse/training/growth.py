"""The most promising inactive tiles: those with the largest |d ELBO / d W|, summed over a tile.

With h the inputs of a layer and d the derivatives by its outputs, both for all rows of several
minibatches, the gradient is d h', a mean over these rows and their noise. It is computed for a few
rows of tiles at a time, of which only the best tiles are kept, so memory is that of `CHUNK` entries
and of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.core.typing import AnyArray
from inference.sparse.patterns.pattern import Pattern

CHUNK = 65_536
"""The number of entries of the gradient that are held at once."""


class GradientFactors(NamedTuple):
    """The factors of the gradient by a matrix of weights: `weight` * d h'.

    Attributes:
        outputs: d, shape (out, rows).
        inputs: h, shape (in, rows).
        weight: a number by which gradients of layers that share a budget are made comparable.
        inclusion_probability: a function from sorted numbers of tiles to factors of their scores,
            or None.
    """

    outputs: jax.Array
    inputs: jax.Array
    weight: AnyArray | float = 1.0
    inclusion_probability: Callable[[jax.Array], jax.Array] | None = None

    def weight_scores(self, scores: jax.Array, numbers: jax.Array) -> jax.Array:
        """Return the scores of tiles with these numbers, times their inclusion probability."""
        if self.inclusion_probability is None:
            return scores
        return scores * self.inclusion_probability(numbers.reshape(-1)).reshape(scores.shape)


class Candidates(NamedTuple):
    """Inactive tiles, best first.

    Attributes:
        scores: the score of each tile; negative where there are fewer tiles than places.
        numbers: the number of each tile.
    """

    scores: jax.Array
    numbers: jax.Array


def best_candidates(
    pattern: Pattern, index: AnyArray, gradient: GradientFactors, count: int
) -> jax.Array:
    """Return the numbers of the best inactive tiles of each group, best first, (groups, count)."""
    if pattern.per_row:
        return _best_candidates_of_rows(pattern, index, gradient, count)
    start = _no_candidates(count)
    found = _scan_candidates(pattern.grid, pattern.tile, index.reshape(-1), gradient, start)
    return found.numbers[None, :]


def best_candidates_of_layers(
    index: AnyArray, layers: list[tuple[int, GradientFactors]], count: int
) -> jax.Array:
    """Return the best candidates of layers that share one budget of single weights.

    Args:
        index: the active weights of the store.
        layers: for each layer where it begins in the store, and its gradient.
        count: the number of candidates.
    """
    found = _no_candidates(count)
    for start, gradient in layers:
        grid = gradient.outputs.shape[0], gradient.inputs.shape[0]
        size = grid[0] * grid[1]
        own = jnp.where((index >= start) & (index < start + size), index - start, size).reshape(-1)
        scores, numbers = _scan_candidates(grid, (1, 1), own, gradient, _no_candidates(count))
        found = _merge_candidates(found, scores, jnp.where(scores >= 0, numbers + start, numbers))
    return found.numbers[None, :]


def _no_candidates(count: int) -> Candidates:
    """Return the candidates before any tile was looked at."""
    return Candidates(jnp.full(count, -2.0), jnp.zeros(count, jnp.int32))


def _merge_candidates(found: Candidates, scores: jax.Array, numbers: jax.Array) -> Candidates:
    """Return the best of the candidates found so far and of other tiles."""
    scores = jnp.concatenate([found.scores, scores])
    numbers = jnp.concatenate([found.numbers, numbers])
    scores, order = jax.lax.top_k(scores, len(found.scores))
    return Candidates(scores, numbers[order])


def _scan_candidates(
    grid: tuple[int, int],
    tile: tuple[int, int],
    active: AnyArray,
    gradient: GradientFactors,
    found: Candidates,
) -> Candidates:
    """Return the best inactive tiles of a matrix.

    Args:
        grid: the number of rows and of columns of tiles.
        tile: the shape of a tile.
        active: the numbers of the active tiles.
        gradient: the gradient by the matrix.
        found: the candidates so far.
    """
    rows, columns = grid
    chunk = _rows_per_chunk(grid, tile)
    outputs = _split_into_chunks(gradient.outputs, tile[0], chunk)

    def add(found: Candidates, one: tuple) -> tuple[Candidates, None]:
        start, outputs = one
        scores = _gradient_scores(outputs, gradient, tile, columns).reshape(-1)
        numbers = start + jnp.arange(scores.size, dtype=jnp.int32)
        scores = gradient.weight_scores(scores, numbers)
        in_chunk = (active >= start) & (active < start + scores.size)
        place = jnp.where(in_chunk, active - start, scores.size)
        scores = scores.at[place].set(-1.0, mode="drop")
        # the last chunk may go beyond the matrix
        scores = jnp.where(numbers < rows * columns, scores, -2.0)
        return _merge_candidates(found, scores, numbers), None

    starts = jnp.arange(len(outputs), dtype=jnp.int32) * chunk * columns
    return jax.lax.scan(add, found, (starts, outputs))[0]


def _best_candidates_of_rows(
    pattern: Pattern, index: AnyArray, gradient: GradientFactors, count: int
) -> jax.Array:
    """Return the best candidates where groups are rows of tiles; each chooses among its own."""
    rows, columns = pattern.grid
    chunk = _rows_per_chunk(pattern.grid, pattern.tile)
    outputs = _split_into_chunks(gradient.outputs, pattern.tile[0], chunk)
    chunks = len(outputs)
    active = jnp.pad(index, ((0, chunks * chunk - rows), (0, 0))).reshape(chunks, chunk, -1)

    def best_of_chunk(given: tuple) -> jax.Array:
        start, outputs, active = given
        scores = _gradient_scores(outputs, gradient, pattern.tile, columns)
        scores = gradient.weight_scores(scores, start + jnp.arange(scores.size, dtype=jnp.int32))
        scores = scores.at[jnp.arange(chunk)[:, None], active].set(-1.0)
        return jax.lax.top_k(scores, count)[1].astype(jnp.int32)

    starts = jnp.arange(chunks, dtype=jnp.int32) * chunk * columns
    return jax.lax.map(best_of_chunk, (starts, outputs, active)).reshape(-1, count)[:rows]


def _rows_per_chunk(grid: tuple[int, int], tile: tuple[int, int]) -> int:
    """Return the number of rows of tiles whose gradient is held at once."""
    return min(grid[0], max(1, CHUNK // (tile[0] * tile[1] * grid[1])))


def _split_into_chunks(outputs: jax.Array, side: int, chunk: int) -> jax.Array:
    """Cut d into chunks of rows of tiles, padded with zeros: shape (chunks, chunk * side, rows).

    Args:
        outputs: d, shape (out, rows).
        side: the number of units in a row of tiles.
        chunk: the number of rows of tiles in a chunk.
    """
    size = chunk * side
    pieces = -(-outputs.shape[0] // size)
    padded = jnp.pad(outputs, ((0, pieces * size - outputs.shape[0]), (0, 0)))
    return padded.reshape(pieces, size, -1)


def _gradient_scores(
    outputs: jax.Array, gradient: GradientFactors, tile: tuple[int, int], columns: int
) -> jax.Array:
    """Return |d ELBO / d W| of some rows of tiles, summed over each tile.

    Args:
        outputs: d of these rows of tiles.
        gradient: the gradient by the whole matrix.
        tile: the shape of a tile.
        columns: the number of tiles in a row.

    Returns:
        The scores, shape (rows of tiles, columns).
    """
    entries = jnp.abs(gradient.weight * (outputs @ gradient.inputs.T))
    entries = jnp.pad(entries, ((0, 0), (0, columns * tile[1] - entries.shape[1])))
    return entries.reshape(-1, tile[0], columns, tile[1]).sum((1, 3))
