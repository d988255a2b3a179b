"""The registry of models, and of the classes of plain data that may stand in a file.

`bayesdl/models.py` lists the models of this package; a package of one's own calls
`bayesdl.models.register_model`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import TypeVar

from bayesdl.model.base import AbstractModel

M = TypeVar("M", bound=type[AbstractModel])
C = TypeVar("C", bound=type)

MODELS: list[type[AbstractModel]] = []

SPECS: dict[str, type] = {}
"""Classes that may stand in a file, by the name that they have there."""


def registered_models() -> list[type[AbstractModel]]:
    """Return all models: those of this package and those that were registered."""
    _import_models()
    return MODELS


def registered_specs() -> dict[str, type]:
    """Return all classes that may stand in a file, by their names there."""
    _import_models()
    return SPECS


def _import_models() -> None:
    # by its name, since the list knows every model, and every model may know this file
    importlib.import_module("bayesdl.models")


def register_model(model: M) -> M:
    """Add a model to those that the whole package knows; usable as a decorator of its class.

    A class that is defined again, as in a notebook, takes the place of its first definition.

    Raises:
        ValueError: where another class has its name in files, or one on the command line.
    """
    add_named(MODELS, model, _names)
    if not model.holds_code:
        register_spec(model.__name__)(model)
    return model


def register_spec(name: str) -> Callable[[C], C]:
    """Let files hold a frozen dataclass of plain data, such as a part of a model, under a name.

    Raises:
        ValueError: where another class has this name.
    """

    def register(cls: C) -> C:
        if name in SPECS and not _is_same(cls, SPECS[name]):
            raise _name_taken(cls, name, SPECS[name])
        SPECS[name] = cls
        return cls

    return register


def add_named(known: list[C], cls: C, names: Callable[[C], Collection[str]]) -> None:
    """Add a class to a list of classes that are found by their names.

    Args:
        known: the classes so far.
        cls: the new class; it takes the place of an earlier definition of itself.
        names: gives the names by which a class is found.

    Raises:
        ValueError: where another class has one of its names.
    """
    others = [other for other in known if not _is_same(cls, other)]
    for other in others:
        for name in names(cls):
            if name in names(other):
                raise _name_taken(cls, name, other)
    if len(others) == len(known):
        known.append(cls)
    else:
        known[:] = [cls if _is_same(cls, other) else other for other in known]


def _names(model: type[AbstractModel]) -> list[str]:
    """Return the names of a model: that of its class, and those on the command line."""
    return [model.__name__, *(line.name for line in model.command_lines())]


def _is_same(one: type, two: type) -> bool:
    """Whether two classes are one, or definitions of the same class at different times."""
    return _place(one) == _place(two)


def _place(cls: type) -> str:
    """Return where a class is defined."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _name_taken(cls: type, name: str, other: type) -> ValueError:
    """Return the error for a name that another class has."""
    return ValueError(
        f"{_place(cls)} cannot be registered: its name {name!r} is that of {_place(other)}. "
        "Expected a name that no other has: give the class, or its name on the command line, "
        "another one."
    )
