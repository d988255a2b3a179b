"""Small problems, and how the command line makes models: what each model class says of itself.

The table of engines and models, and the contract tests, try every engine on these examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A model with a few rows of data.

    Attributes:
        title: the heading of its column in the table of engines and models.
        model: the model.
        data: the arguments of `bdl.fit` after the model.
        named: keyword arguments of `bdl.fit` that are data.
    """

    title: str
    model: Any
    data: tuple[Any, ...]
    named: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Parts:
    """A field of a model that holds a part for each of the columns named on the command line.

    Attributes:
        field: the name of the field.
        part: the name of the part's settings, e.g. "mode" in `--set mode.rank=3`.
        cls: the class of the part, whose first field is the name of the column.
        choices: as in `CommandLine`.
    """

    field: str
    part: str
    cls: type
    choices: Mapping[str, ModuleType] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """How the command line makes a model: `bayesdl fit --model NAME --set ...`.

    Attributes:
        name: the value of `--model`.
        model: the class of the model.
        help: a few words on it; empty where the name says enough.
        choices: fields that hold another spec, with the module whose class names a user may give,
            e.g. `prior=horseshoe`.
        fixed: settings that the name decides.
        parts: a field with a part for each of the columns that `--modes` names, or None.
        only_normal: whether the model takes normal noise alone, so that numbers with two values
            are no classes.
    """

    name: str
    model: type
    help: str = ""
    choices: Mapping[str, ModuleType] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parts: Parts | None = None
    only_normal: bool = False


def rows(n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of two columns and a noisy linear trend."""
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 2))
    return X, X @ [1.0, -0.5] + 0.3 * random.normal(size=n)


def tensor_rows(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns of indexes, some of them repeated, and a noisy product of functions."""
    random = np.random.default_rng(0)
    i, j = random.uniform(size=n), random.uniform(size=n)
    y = np.sin(3 * i) * np.cos(2 * j) + 0.1 * random.normal(size=n)
    return np.round(np.stack([i, j], 1), 1), y


def line(x: Any, y: Any = None) -> None:
    """Draw a straight line through points with normal noise, its rows in a plate."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x)) as index:
        observed = None if y is None else y[index]
        numpyro.sample("y", dist.Normal(intercept + slope * x[index], 1.0), obs=observed)
