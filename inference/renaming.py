"""Old names, which work for one version and warn: what every alias of a public name uses."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def warn_renamed(old: str, new: str) -> None:
    """Warn whoever called the caller that what they used has a new name.

    Args:
        old: the old name, as users wrote it.
        new: the new one, as users write it.
    """
    warnings.warn(
        f"{old} is deprecated and will be removed in the next version: use {new}.",
        DeprecationWarning,
        stacklevel=3,
    )


def renamed_names(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module some of whose names are new.

    Args:
        module: the name of the module.
        new_names: the new names by the old ones.
    """

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", f"{module}.{new_names[name]}")
        return getattr(importlib.import_module(module), new_names[name])

    return find
