"""Statistics T(y) of a data set by which replicated data sets are compared with the observed one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from bayesdl.data.target import Target

QUANTILES = ("5%", "50%", "95%")
OF_NUMBERS: dict[str, Callable] = {
    "mean": lambda y: y.mean(1),
    "sd": lambda y: y.std(1),
    "min": lambda y: y.min(1),
    "max": lambda y: y.max(1),
}
OF_COUNTS: dict[str, Callable] = {"share of zeros": lambda y: (y == 0).mean(1)}
SHARE = "share of "

Statistic = Callable[
    [np.ndarray], np.ndarray
]  # of many data sets at once: shape (sets, rows, ...) to (sets,)


def chosen(statistics: Any, target: Target) -> dict[str, Statistic]:
    """The statistics asked for by name, each a function of many data sets at once.

    Args:
        statistics: None for the usual ones; names; functions of one target array giving a number; a list of these, or a
            dictionary of functions by name.
        target: whose kind says which names there are. Several target columns have one statistic each.

    Raises:
        ValueError: for an unknown name, or anything that is neither a name nor a function.
    """
    if isinstance(statistics, Mapping):
        return {str(name): one_by_one(name, function) for name, function in statistics.items()}
    asked = usual(target) if statistics is None else statistics
    found: dict[str, Statistic] = {}
    for entry in [asked] if isinstance(asked, str) or callable(asked) else asked:
        if callable(entry):
            name = getattr(entry, "__name__", type(entry).__name__)
            found[name if name not in found else f"{name} {len(found)}"] = one_by_one(name, entry)
        else:
            found |= per_column(entry, by_name(entry, target), target)
    if not found:
        raise ValueError(
            f"statistics={statistics!r}: expected at least one of {', '.join(usual(target))}, or a function."
        )
    return found


def usual(target: Target) -> tuple[str, ...]:
    """The names that stand for None."""
    if target.classes is not None:
        return tuple(f"{SHARE}{label}" for label in target.classes)
    return (*OF_NUMBERS, *QUANTILES, *(OF_COUNTS if target.kind == "count" else ()))


def by_name(name: Any, target: Target) -> Statistic:
    """The statistic of one column of numbers or labels, shape (sets, rows)."""
    if isinstance(name, str) and target.classes is not None and name in usual(target):
        label = np.array(target.classes)[usual(target).index(name)]
        return lambda y: (y == label).mean(1)
    if isinstance(name, str) and target.classes is None:
        known = OF_NUMBERS | (OF_COUNTS if target.kind == "count" else {})
        if name in known:
            return known[name]
        percentage = re.fullmatch(r"(\d+(?:\.\d+)?)%", name)
        level = float(percentage[1]) / 100 if percentage else np.inf
        if level <= 1:
            return lambda y: np.quantile(y, level, axis=1)
    raise ValueError(
        f"No statistic {name!r} of {target.kind} targets: expected some of {', '.join(usual(target))}, "
        f"{'' if target.classes else 'another percentage, '}or a function of a target array, e.g. lambda y: y.max() - y.min()."
    )


def per_column(name: str, statistic: Statistic, target: Target) -> dict[str, Statistic]:
    """The statistic of each target column; of all entries together where there is one column, or a program's site."""

    def of(column: Any) -> Statistic:
        return lambda y: statistic((y if column is None else y[..., column]).reshape(len(y), -1))

    if len(target.names) == 1:
        return {name: of(None)}
    return {f"{name} of {column}": of(j) for j, column in enumerate(target.names)}


def one_by_one(name: Any, function: Any) -> Statistic:
    """A user's function of one target array, called once per data set: it may be any Python."""
    if not callable(function):
        raise ValueError(
            f"The statistic {name!r} is {function!r}: expected a function of a target array."
        )

    def many(sets: np.ndarray) -> np.ndarray:
        values = [np.asarray(function(y)) for y in sets]
        if any(value.size != 1 or value.dtype.kind not in "iufb" for value in values):
            raise ValueError(
                f"The statistic {name!r} gave {values[0]!r}: expected a function that gives one number."
            )
        return np.array([float(value.ravel()[0]) for value in values])

    return many


def summarised(
    values: Real[np.ndarray, "sets statistics"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and bounds of the central 90 % interval over data sets, each of shape (statistics,)."""
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    return values.mean(0), low, high
