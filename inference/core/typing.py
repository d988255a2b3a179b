"""Names for the types that engines and models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree

Integer: TypeAlias = int | np.integer
"""A whole number of Python or NumPy."""

Key: TypeAlias = jax.Array
"""A random key, as `jax.random.key` makes it."""

AnyArray: TypeAlias = jax.Array | np.ndarray
"""An array of JAX, traced or not, or of NumPy."""

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

if TYPE_CHECKING:
    import optax

    Optimizer: TypeAlias = optax.GradientTransformation
    """An optimiser of optax, which is imported where it is used only."""

    class Tensor(Protocol):
        """An array of JAX, NumPy or torch, in code that is written once for all of them."""

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def T(self) -> Any: ...

        def reshape(self, *shape: Any) -> Any: ...

        def __getitem__(self, key: Any, /) -> Any: ...

        def __matmul__(self, other: Any, /) -> Any: ...

        def __add__(self, other: Any, /) -> Any: ...

        def __mul__(self, other: Any, /) -> Any: ...

        def __truediv__(self, other: Any, /) -> Any: ...
else:
    Optimizer = Tensor = object

__all__ = [
    "AnyArray",
    "Arguments",
    "Info",
    "Key",
    "KeywordArguments",
    "Optimizer",
    "Params",
    "Program",
    "PyTree",
    "SiteArrays",
    "StoredArrays",
    "Tensor",
]
