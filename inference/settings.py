"""Settings as plain Python values: what NumPy calls an integer is one, and only truth is true.

A spec (an engine, a model, a prior, ...) is a frozen dataclass whose annotations say what its
settings are. Whatever class inherits `AbstractSettings` has them read before its own checks:
numbers of NumPy become Python's, which JSON can hold; truth values, whole numbers and numbers are
told apart; NaN, infinity and sizes beyond any use are refused.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import operator
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

LARGEST_INTEGER = 2**31  # counts and sizes are 32-bit integers to JAX
LARGEST_NUMBER = 1e18  # squares of larger numbers overflow single precision

WHOLE, REAL, TRUTH = "a whole number", "a finite number", "True or False"
EXPECTED = {"int": WHOLE, "float": REAL, "bool": TRUTH}


class AbstractSettings:
    """A frozen dataclass of settings, which are read before its own `__post_init__` looks at them.

    Classes of plug-ins are read too, whether or not they call `super().__post_init__()`.
    """

    # what is passed is checked here, with a sentence, rather than by the type checker of the tests
    __no_type_check__ = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            # set before the decorator `dataclass` looks for the method
            type.__setattr__(cls, "__post_init__", _after_reading(own))

    def __post_init__(self) -> None:
        read_settings(self)


def _after_reading(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a class's own check, which sees settings that have been read."""

    @functools.wraps(check)
    def read_and_check(self: Any) -> None:
        read_settings(self)
        check(self)

    return read_and_check


def read_settings(spec: Any) -> None:
    """Make the settings of a dataclass plain values.

    Raises:
        ValueError: naming the class, the setting, what was got and what was expected.
    """
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        plain = _as_plain(value)
        expected = _refuse(plain, _alternatives(field.type))
        if expected:
            raise ValueError(f"{type(spec).__name__}({field.name}={value!r}): expected {expected}.")
        if plain is not value:
            object.__setattr__(spec, field.name, plain)


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """Return whether a value is a whole number of Python or NumPy, at least `least`.

    Example:
        >>> is_whole(np.int64(3)), is_whole(True), is_whole(0), is_whole(2.0)
        (True, False, False, False)
    """
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and least <= int(value) < LARGEST_INTEGER
    )


def is_positive(value: object) -> bool:
    """Return whether a value is a finite number above zero.

    Example:
        >>> is_positive(0.5), is_positive(True), is_positive(math.inf)
        (True, False, False)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf


def check_positive(spec: object, *names: str) -> None:
    """Refuse settings that are not positive numbers, or tuples of them.

    Raises:
        ValueError: naming the class, the setting, its value and what was expected.
    """
    for name in names:
        value = getattr(spec, name)
        several = isinstance(value, tuple)
        if not all(map(is_positive, value if several else (value,))):
            expected = "positive numbers" if several else "a positive number"
            raise ValueError(f"{type(spec).__name__}({name}={value!r}): expected {expected}.")


def as_seed(seed: object) -> int:
    """Return a seed as a plain integer, which JAX takes and files hold.

    Raises:
        ValueError: for anything but a whole number that JAX can take.
    """
    if not is_whole(seed, -LARGEST_INTEGER):
        raise ValueError(f"seed={seed!r}: expected a whole number below 2**31, e.g. seed=0.")
    return operator.index(seed)  # type: ignore[arg-type]


def _as_plain(value: object) -> Any:
    """Return numbers, truth values and texts of NumPy as Python's, in tuples too."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf":
        return value.item()
    if type(value) is tuple:
        plain = tuple(map(_as_plain, value))
        same = all(new is old for new, old in zip(plain, value, strict=True))
        return value if same else plain
    return value


def _alternatives(annotation: object) -> frozenset[str]:
    """Return the names of the types in an annotation such as `float | tuple[float, ...] | None`."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return frozenset(part.strip().partition("[")[0] for part in text.split("|"))


def _refuse(value: object, types: frozenset[str]) -> str | None:
    """Return what was expected, where a value is none of the types; otherwise None."""
    alone = types - {"None"}
    if value is None:
        given = [words for name, words in EXPECTED.items() if types == {name}]
        return given[0] if given else None
    if alone == {"bool"}:
        return None if isinstance(value, bool) else TRUTH
    if isinstance(value, bool) and alone & {"int", "float"} and "bool" not in types:
        return WHOLE if alone == {"int"} else REAL
    if alone == {"int"} and not is_whole(value, -LARGEST_INTEGER):
        too_large = isinstance(value, int) and not isinstance(value, bool)
        return f"{WHOLE} below 2**31" if too_large else WHOLE
    if alone == {"float"} and not isinstance(value, int | float):
        return REAL
    return _refuse_sizes(value)


def _refuse_sizes(value: object) -> str | None:
    """Return what was expected in place of NaN, infinity, or a number beyond any use."""
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(entry, float) and not math.isfinite(entry):
            return "finite numbers" if isinstance(value, tuple) else REAL
        if isinstance(entry, int | float) and abs(entry) > LARGEST_NUMBER:
            return f"numbers up to {LARGEST_NUMBER:g}"
    return None
