"""Specs as plain data: models, priors, likelihoods, kernels and engines to JSON and back.

Only registered classes, and NumPyro distributions with constant parameters, can be made from a
file: nothing in a file is ever run.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpyro.distributions as dist

from bayesdl import priors
from bayesdl.data import columns, encoding, reading, table, target
from bayesdl.engines import ENGINES
from bayesdl.gp import kernels
from bayesdl.model import likelihoods
from bayesdl.model.registry import registered_specs
from inference.core.engine import AbstractEngine
from inference.vi.gradients.estimators import MVD, Enum, Implicit, Reinforce, Reparam
from inference.vi.objectives import OBJECTIVES

# what files call classes that have another name by now
NAMES_IN_FILES = {
    "TableSchema": "TableFrame",
    "ProgramSchema": "ProgramFrame",
    "WeightArray": "Leaf",
}


class SpecError(ValueError):
    """A spec that cannot be written as data."""


# what files call the classes of a module: `priors.Gaussian`
MODULES = {
    "priors": priors,
    "kernels": kernels,
    "likelihoods": likelihoods,
    "data": table,
    "columns": columns,
    "encoding": encoding,
    "reading": reading,
    "target": target,
}


def _without(*names: str) -> Callable[[dict], dict]:
    """Return what leaves out fields that earlier versions stored, and nothing read."""
    return lambda fields: {name: one for name, one in fields.items() if name not in names}


# what reads the fields that earlier versions stored
OLDER_FILES = {
    "columns.Columns": columns.from_older_files,
    "formula.Fixed": _without("columns"),
    "formula.Variable": _without("typical", "low", "high"),
}


def registry() -> dict[str, type]:
    """Return the classes that may stand in a file, by name."""
    return _registered(tuple(ENGINES), tuple(registered_specs().items()))


@functools.cache
def _registered(
    engines: tuple[type[AbstractEngine], ...], specs: tuple[tuple[str, type], ...]
) -> dict[str, type]:
    """Return the classes that may stand in a file, with these engines and specs."""
    found = {NAMES_IN_FILES.get(name, name): cls for name, cls in specs}
    found |= {f"engines.{engine.__name__}": engine for engine in engines}
    found |= {f"vi.{cls.__name__}": cls for cls in (Reparam, Implicit, Reinforce, Enum, MVD)}
    for prefix, module in MODULES.items():
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and dataclasses.is_dataclass(value)
                and not inspect.isabstract(value)
                and value.__module__.startswith(module.__name__)
                and not name.startswith("Abstract")
                and name != "TinyGP"
            ):
                found[f"{prefix}.{NAMES_IN_FILES.get(name, name)}"] = value
    return found


def to_data(value: Any) -> Any:
    """Return a spec as JSON data.

    Raises:
        SpecError: for functions, modules and anything else that is code.
    """
    names = {cls: name for name, cls in registry().items()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [to_data(entry) for entry in value]
    if type(value) in names:
        fields = {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": names[type(value)], **fields}
    if isinstance(value, dist.Distribution):
        return _distribution_data(value)
    if isinstance(value, dict):
        return {"by name": {name: to_data(entry) for name, entry in value.items()}}
    function = getattr(value, "func", value)
    if callable(function) and function in OBJECTIVES.values() and not getattr(value, "args", ()):
        return {
            "vi objective": function.__name__,
            "settings": to_data(dict(getattr(value, "keywords", {}))),
        }
    raise SpecError(f"{type(value).__name__} is code, not data, and cannot be stored in a file.")


def _distribution_data(distribution: dist.Distribution) -> dict:
    """Return a NumPyro distribution as JSON data.

    Raises:
        SpecError: where name and parameters do not give the same distribution again, as for a
            truncated one.
    """
    try:
        data = {"distribution": type(distribution).__name__} | {
            k: np.asarray(getattr(distribution, k)).tolist() for k in distribution.arg_constraints
        }
        rebuilt = from_data(data)
    # a constructor may refuse arguments that are not its own in any way
    except Exception as error:
        raise SpecError(
            f"{type(distribution).__name__} cannot be made from its parameters alone ({error})."
        ) from None
    if not same_distribution(distribution, rebuilt):
        raise SpecError(
            f"{type(distribution).__name__} is another distribution when made from its parameters "
            "alone."
        )
    return data


def same_distribution(one: dist.Distribution, other: dist.Distribution) -> bool:
    """Return whether class, shapes and parameters are the same."""
    shapes_agree = one.batch_shape == other.batch_shape and one.event_shape == other.event_shape
    if type(one) is not type(other) or not shapes_agree:
        return False
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in one.arg_constraints
    )


def from_data(data: object) -> Any:
    """Return a spec from JSON data: the inverse of `to_data`.

    Raises:
        SpecError: for a class that is not known here.
    """
    if isinstance(data, list):
        return tuple(from_data(entry) for entry in data)
    if not isinstance(data, dict):
        return data
    if "by name" in data:
        return {name: from_data(entry) for name, entry in data["by name"].items()}
    if "vi objective" in data:
        if data["vi objective"] not in OBJECTIVES:
            raise SpecError(f"Unknown objective {data['vi objective']!r}.")
        objective, settings = OBJECTIVES[data["vi objective"]], from_data(data["settings"])
        return functools.partial(objective, **settings) if settings else objective
    fields = {
        name: from_data(entry)
        for name, entry in data.items()
        if name not in ("class", "distribution")
    }
    if "distribution" in data:
        if data["distribution"] not in dist.__all__:
            raise SpecError(f"Unknown distribution {data['distribution']!r}.")
        return getattr(dist, data["distribution"])(
            **{k: np.asarray(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        )
    if data.get("class") not in registry():
        raise SpecError(f"Unknown class {data.get('class')!r}.")
    cls = registry()[data["class"]]
    fields = OLDER_FILES.get(data["class"], dict)(fields)
    known = {f.name for f in dataclasses.fields(cls)}
    if set(fields) - known:
        raise SpecError(f"{data['class']} has no setting {sorted(set(fields) - known)[0]!r}.")
    return cls(**fields)
