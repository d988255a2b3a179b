"""Statistics T(y) by which replicated data sets are compared with the observed one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Real

from bayesdl.data.target import Target

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A statistic of many data sets at once: maps shape (sets, rows, ...) to (sets,)."""

if TYPE_CHECKING:
    StatisticsLike: TypeAlias = (
        str | Callable | Iterable[str | Callable] | Mapping[str, Callable] | None
    )
    """A name, a function of one target array, several of these, functions by name, or None."""
else:
    # what users give is validated here, with errors that say the cure
    StatisticsLike = object

QUANTILES = ("5%", "50%", "95%")
OF_NUMBERS: dict[str, Statistic] = {
    "mean": lambda y: y.mean(1),
    "sd": lambda y: y.std(1),
    "min": lambda y: y.min(1),
    "max": lambda y: y.max(1),
}
OF_COUNTS: dict[str, Statistic] = {"share of zeros": lambda y: (y == 0).mean(1)}
SHARE = "share of "


def resolve_statistics(statistics: StatisticsLike, target: Target) -> dict[str, Statistic]:
    """Return the statistics by name, each as a function of many data sets at once.

    Args:
        statistics: None for the usual ones; names; functions of one target array that give a
            number; a list of these, or a dictionary of functions by name.
        target: the target, whose kind says which names there are. With several target columns
            there is one statistic for each.

    Raises:
        ValueError: for an unknown name, or anything that is neither a name nor a function.
    """
    if isinstance(statistics, Mapping):
        return {str(name): _map_over_sets(name, function) for name, function in statistics.items()}
    entries = _usual_names(target) if statistics is None else statistics
    found: dict[str, Statistic] = {}
    for entry in [entries] if isinstance(entries, str) or callable(entries) else entries:
        if callable(entry):
            name = getattr(entry, "__name__", type(entry).__name__)
            unique = name if name not in found else f"{name} {len(found)}"
            found[unique] = _map_over_sets(name, entry)
        else:
            found |= _split_by_column(entry, _find_by_name(entry, target), target)
    if not found:
        raise ValueError(
            f"statistics={statistics!r}: expected at least one of "
            f"{', '.join(_usual_names(target))}, or a function."
        )
    return found


def _usual_names(target: Target) -> tuple[str, ...]:
    """Return the names of the statistics that None stands for."""
    if target.classes is not None:
        return tuple(f"{SHARE}{label}" for label in target.classes)
    return (*OF_NUMBERS, *QUANTILES, *(OF_COUNTS if target.kind == "count" else ()))


def _find_by_name(name: object, target: Target) -> Statistic:
    """Return the statistic of one column of numbers or labels, shape (sets, rows).

    Raises:
        ValueError: listing the names.
    """
    if isinstance(name, str) and target.classes is not None and name in _usual_names(target):
        label = np.array(target.classes)[_usual_names(target).index(name)]
        return lambda y: (y == label).mean(1)
    if isinstance(name, str) and target.classes is None:
        known = OF_NUMBERS | (OF_COUNTS if target.kind == "count" else {})
        if name in known:
            return known[name]
        percentage = re.fullmatch(r"(\d+(?:\.\d+)?)%", name)
        level = float(percentage[1]) / 100 if percentage else np.inf
        if level <= 1:
            return lambda y: np.quantile(y, level, axis=1)
    other = "" if target.classes else "another percentage, "
    raise ValueError(
        f"No statistic {name!r} of {target.kind} targets: expected some of "
        f"{', '.join(_usual_names(target))}, {other}or a function of a target array, e.g. "
        "lambda y: y.max() - y.min()."
    )


def _split_by_column(name: str, statistic: Statistic, target: Target) -> dict[str, Statistic]:
    """Return the statistic of each target column.

    Where there is one column, or a program's site, it is that of all entries together.
    """

    def of_column(column: int | None) -> Statistic:
        return lambda y: statistic((y if column is None else y[..., column]).reshape(len(y), -1))

    if len(target.names) == 1:
        return {name: of_column(None)}
    return {f"{name} of {column}": of_column(j) for j, column in enumerate(target.names)}


def _map_over_sets(name: object, function: object) -> Statistic:
    """Return a user's function of one target array, called once per data set.

    It may be any Python.

    Raises:
        ValueError: where it is no function, or gives anything but one number.
    """
    if not callable(function):
        raise ValueError(
            f"The statistic {name!r} is {function!r}: expected a function of a target array."
        )

    def many(sets: np.ndarray) -> np.ndarray:
        values = [np.asarray(function(y)) for y in sets]
        if any(value.size != 1 or value.dtype.kind not in "iufb" for value in values):
            raise ValueError(
                f"The statistic {name!r} gave {values[0]!r}: expected a function that gives one "
                "number."
            )
        return np.array([float(value.ravel()[0]) for value in values])

    return many


def mean_and_interval(
    values: Real[np.ndarray, "sets statistics"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and bounds of the central 90 % interval over data sets, shape (statistics,)."""
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    return values.mean(0), low, high
