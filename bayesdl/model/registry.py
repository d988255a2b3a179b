"""The registry of models, and of the classes of plain data that may stand in a file.

`bayesdl/models.py` lists the models of this package; a package of one's own calls `register_model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bayesdl.model.base import AbstractModel

M = TypeVar("M", bound=type[AbstractModel])
C = TypeVar("C", bound=type)

MODELS: list[type[AbstractModel]] = []

SPECS: dict[str, type] = {}
"""Classes that may stand in a file, by the name that they have there."""


def register_model(model: M) -> M:
    """Add a model to those that the whole package knows; usable as a decorator of its class."""
    if model not in MODELS:
        MODELS.append(model)
    if not model.holds_code:
        SPECS[model.__name__] = model
    return model


def register_spec(name: str) -> Callable[[C], C]:
    """Let files hold a frozen dataclass of plain data, such as a part of a model, under a name."""

    def register(cls: C) -> C:
        SPECS[name] = cls
        return cls

    return register
