"""Refusing what can never fit into memory, before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

# what a group of processes may use, as Linux says
LIMIT = Path("/sys/fs/cgroup/memory.max")


class MemoryBoundError(ValueError):
    """Settings that ask for more memory than the machine has."""


def whole_memory() -> float:
    """Return the memory of this machine, or of its container, in bytes."""
    try:
        found = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        found = math.inf
    try:
        limit = float(LIMIT.read_text())
    except (OSError, ValueError):
        limit = math.inf
    return min(found, limit)


def require_memory(size: float, what: str, cure: str) -> None:
    """Refuse what needs more memory than there is in all.

    Args:
        size: the memory that it needs, in bytes.
        what: what needs it, with the settings that ask for it.
        cure: what to do instead.

    Raises:
        MemoryBoundError: naming both sizes.
    """
    there = whole_memory()
    if size > there:
        raise MemoryBoundError(
            f"{what} would need {_in_words(size)} of memory, and this machine has "
            f"{_in_words(there)}: {cure}."
        )


def size_of(shapes: Iterable[tuple[int, ...]], itemsize: int = 4) -> float:
    """Return the size of arrays of these shapes, in bytes.

    Example:
        >>> size_of([(10, 2), ()])
        84.0
    """
    return float(sum(itemsize * math.prod(shape) for shape in shapes))


def _in_words(size: float) -> str:
    """Return a number of bytes in words."""
    return f"{size / 1e9:,.1f} GB"
