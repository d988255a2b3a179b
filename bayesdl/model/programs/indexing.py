"""Refusals of indexes out of range, which JAX would clamp without a word."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.model.programs.finite import arrays_of
from bayesdl.typing import Values
from inference.core.problem import Problem
from inference.core.program import name_of
from inference.programs.indexes import BadIndex, bad_indexes

# indexes that a message shows
SHOWN = 5


def check_indexes(problem: Problem, trained: Problem | None = None) -> None:
    """Refuse indexes out of range.

    Negative indexes count from the end, and updates outside an array are dropped: both may be
    meant. They are refused where the training data have none; negative ones of an argument always.

    Args:
        problem: the program with the data.
        trained: the program with the training data, if these are other data.

    Raises:
        DataError: naming the argument, the indexes, and the number of entries.
    """
    # programs index constants of their own too, and arrays that they take out of tables
    before = set() if trained is None else {bad.kind for bad in bad_indexes(trained.traced[1])}
    # what lies above the range first
    for bad in sorted(bad_indexes(problem.traced[1]), key=lambda bad: bad.kind == "negative"):
        meant = trained is None or bad.kind in before
        if bad.kind == "negative":
            meant = meant and not _is_argument(problem, bad)
        if bad.kind == "clamped" or not meant:
            raise DataError(_about(problem, bad, new=trained is not None))


def _whole_arguments(problem: Problem) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the arguments that hold whole numbers, with their names, tables by column."""
    for name, leaf in arrays_of(problem):
        values = _whole(leaf)
        if values is not None:
            yield name, values


def _whole(leaf: Values) -> np.ndarray | None:
    """Return a leaf as an array where it holds whole numbers."""
    if isinstance(leaf, bool) or not isinstance(leaf, np.ndarray | np.generic | jax.Array | int):
        return None
    if isinstance(leaf, jax.Array) and not (
        np.issubdtype(leaf.dtype, np.integer) or np.issubdtype(leaf.dtype, np.floating)
    ):
        return None
    values = np.asarray(leaf)
    if values.dtype.kind == "f":
        # codes with missing rows, which pandas keeps as floats
        return values if values.size and bool(np.all(values == np.floor(values))) else None
    return values if values.dtype.kind in "iu" and values.size else None


def _is_argument(problem: Problem, bad: BadIndex) -> bool:
    """Whether negative indexes are the negative values of an argument."""
    return any(
        {int(v) for v in np.unique(values[values < 0])} == set(bad.values)
        for _, values in _whole_arguments(problem)
    )


def _about(problem: Problem, bad: BadIndex, new: bool) -> str:
    """Say which indexes of which argument are out of range, and what to do."""
    where = f"An index of {name_of(problem.program)}"
    for name, values in _whole_arguments(problem):
        inside = np.argwhere(np.atleast_1d(np.isin(values, bad.values)))
        if len(inside):
            places = ", ".join(map(str, inside[:SHOWN, 0]))
            rows = f"row{'s' * (len(inside) > 1)} {places}{', ...' * (len(inside) > SHOWN)}"
            where = f"Argument '{name}' ({rows})"
            break
    shown = ", ".join(map(str, bad.values[:SHOWN])) + ", ..." * (len(bad.values) > SHOWN)
    plural = "s" * (len(bad.values) > 1)
    cure = (
        "Give codes 0, 1, ... of the groups that were fitted; for a group that was not in the data "
        "raise their number too, with predict(..., new_levels='sample')."
        if new
        else "Give codes 0, 1, ..., e.g. np.unique(group, return_inverse=True)[1], and leave out "
        "rows whose group is missing."
    )
    return (
        f"{where} has the index{'es' * bool(plural)} {shown}, and the array that it indexes has "
        f"{bad.size} entries, 0 to {bad.size - 1}. {cure}"
    )
