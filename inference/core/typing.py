"""Names for the types that engines and models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree

Key: TypeAlias = jax.Array
"""A random key, as `jax.random.key` makes it."""

Params: TypeAlias = PyTree
"""Parameters that are optimised or stored: arrays in nested tuples, lists and dictionaries."""

SiteArrays: TypeAlias = dict[str, jax.Array]
"""Values of a program's sites by name, as compiled functions see them."""

StoredArrays: TypeAlias = dict[str, np.ndarray]
"""Arrays by name in host memory, as results and files hold them."""

Info: TypeAlias = dict[str, Any]
"""Facts about a run as plain data, ready for JSON."""

Program: TypeAlias = Callable[..., Any]
"""A NumPyro program: a function that calls `numpyro.sample`."""

Arguments: TypeAlias = tuple[Any, ...]
"""Positional arguments of a program."""

KeywordArguments: TypeAlias = Mapping[str, Any]
"""Keyword arguments of a program."""

__all__ = [
    "Arguments",
    "Info",
    "Key",
    "KeywordArguments",
    "Params",
    "Program",
    "PyTree",
    "SiteArrays",
    "StoredArrays",
]
