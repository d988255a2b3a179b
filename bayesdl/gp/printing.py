"""Kernels as Python: `RBF(lengthscale=0.5) + Periodic() * Linear()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpyro.distributions as dist

# how tightly the parts of a kernel are bound together: those of a sum, of a product, of a call
SUM, PRODUCT, CALL = range(3)


@runtime_checkable
class Written(Protocol):
    """A kernel that says how tightly its parts are bound together."""

    binding: ClassVar[int]


def write_call(spec: Any) -> str:
    """Return a dataclass as the call that makes it, without what has its default.

    Example:
        >>> from bayesdl import kernels
        >>> write_call(kernels.RBF(dist.LogNormal(0.0, 1.0), ard=True))
        'RBF(lengthscale=LogNormal(0.0, 1.0), ard=True)'
    """
    settings = ", ".join(
        f"{field.name}={_value(getattr(spec, field.name))}"
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) is not field.default
        and not _same(getattr(spec, field.name), field.default)
    )
    return f"{type(spec).__name__}({settings})"


def write_operator(sign: str, binding: int, parts: Iterable[Written]) -> str:
    """Return kernels with an operator between them, in parentheses where Python needs them.

    Args:
        sign: the operator.
        binding: how tightly it binds.
        parts: the kernels.
    """
    written = []
    for number, part in enumerate(parts):
        # operators bind from the left
        loose = part.binding < binding or (number > 0 and part.binding == binding)
        written.append(f"({part!r})" if loose else repr(part))
    return f" {sign} ".join(written)


def _same(value: object, default: object) -> bool:
    """Whether a setting is its default, where both are plain values."""
    return type(value) is type(default) and isinstance(value, bool | int | str) and value == default


def _value(value: object) -> str:
    """Return a setting as Python; a distribution by its name and its parameters."""
    if not isinstance(value, dist.Distribution):
        return repr(value)
    parameters = [np.asarray(getattr(value, name)).tolist() for name in value.arg_constraints]
    return f"{type(value).__name__}({', '.join(map(repr, parameters))})"
