"""Chunks of rows: of a few sizes, so that little is compiled, and joined again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike


def padded(rows: int) -> int:
    """Return how many rows are computed for some: of a few numbers, each of which is compiled once.

    The powers of 8 up to 64, then multiples of 256.
    """
    return next((size for size in (1, 8, 64) if rows <= size), -(-rows // 256) * 256)


def take(array: ArrayLike, start: int, size: int) -> np.ndarray:
    """Return rows start..start+size of an array.

    A chunk that has fewer repeats its last row, so that all chunks have one shape.
    """
    array = np.asarray(array)
    return array[np.minimum(np.arange(start, start + size), len(array) - 1)]


def joined(chunks: Iterable[Any], axis: int = 0) -> Any:
    """Return what was computed for some rows after the other as one; a single part may be anything.

    Args:
        chunks: arrays, or trees of them.
        axis: the axis that runs over rows.
    """
    parts = list(chunks)
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *parts)
