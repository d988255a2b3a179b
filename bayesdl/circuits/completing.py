"""The most probable values of all missing cells of a row together.

Combinations of categories are compared where they are few. Otherwise each cell moves to its most
probable value given all others, from the most probable values of single cells on, until the
density of the row rises no more: a local optimum.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.circuits.layout import Layout
from inference.circuits.leaves import Weights, log_density
from inference.circuits.queries import column_distribution

# combinations of categories that are compared at most
MOST = 4096
# rounds of moves
ROUNDS = 20


def complete(
    layout: Layout, weights: Weights, levels: tuple[int, ...], rows: np.ndarray
) -> np.ndarray:
    """Return rows with the most probable values of their missing cells.

    Args:
        layout: the circuit.
        weights: its numbers.
        levels: the number of categories of each column, 0 for numbers.
        rows: the rows, NaN where cells are missing.
    """
    filled = rows.copy()
    for row in np.flatnonzero(np.isnan(rows).any(1)):
        holes = np.flatnonzero(np.isnan(rows[row]))
        counts = [levels[c] for c in holes]
        if all(counts) and np.prod(np.array(counts, float)) <= MOST:
            tried = np.repeat(rows[row][None], int(np.prod(counts)), axis=0)
            tried[:, holes] = list(itertools.product(*(range(n) for n in counts)))
            filled[row] = tried[int(np.argmax(_densities(layout, weights, tried)))]
        else:
            filled[row] = _climb(layout, levels, weights, rows[row], holes)
    return filled


_log_density = jax.jit(log_density, static_argnums=0)


def _densities(layout: Layout, weights: Weights, rows: np.ndarray) -> np.ndarray:
    """Return the log densities of rows, in chunks whose size is a power of two."""
    size = min(1024, 1 << (len(rows) - 1).bit_length())
    found = []
    for start in range(0, len(rows), size):
        index = np.minimum(np.arange(start, start + size), len(rows) - 1)
        part = np.asarray(_log_density(layout, weights, jnp.asarray(rows[index])))
        found.append(part[: len(rows) - start])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _peaks(layout: Layout, weights: Weights, column: int, row: jax.Array) -> jax.Array:
    """Return the centres of the components of one number."""
    found: Any = column_distribution(layout, weights, row[None], column).mean
    return found[0]


def _climb(
    layout: Layout,
    levels: tuple[int, ...],
    weights: Weights,
    row: np.ndarray,
    holes: np.ndarray,
) -> np.ndarray:
    """Return a row whose missing cells are a local optimum of its density."""
    best = row.copy()
    for _ in range(ROUNDS):
        before = best.copy()
        for column in holes:
            if levels[column]:
                values = np.arange(levels[column], dtype=float)
            else:
                values = np.asarray(_peaks(layout, weights, int(column), jnp.asarray(best)))
                if not np.isnan(best[column]):
                    values = np.append(values, best[column])
            tried = np.repeat(best[None], len(values), axis=0)
            tried[:, column] = values
            best = tried[int(np.argmax(_densities(layout, weights, tried)))]
        if np.allclose(before, best, rtol=0, atol=1e-9, equal_nan=False):
            break
    return best
