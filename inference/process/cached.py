"""Attributes and answers that are computed when first asked for, in any number of threads.

What Python 3.11 has for this holds one lock for all objects of a class while it computes: threads
wait for each other, and two that compute one attribute inside of the other, in another order, wait
for ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class cached(Generic[T]):
    """An attribute that a method computes when it is first asked for.

    Threads that ask at once may compute it twice; all of them are given the first of the values.

    Example:
        >>> class Square:
        ...     side = 3
        ...     @cached
        ...     def area(self) -> int:
        ...         print("computed")
        ...         return self.side**2
        >>> square = Square()
        >>> square.area + square.area
        computed
        18
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.name = compute, compute.__name__
        self.__doc__ = compute.__doc__
        self.__module__ = compute.__module__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> cached[T] | T:
        if instance is None:
            return self
        # frozen dataclasses keep it too
        return instance.__dict__.setdefault(self.name, self.compute(instance))


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function whose answers are kept by its first argument, as long as that lives.

    Args:
        function: a function of positional arguments; all but the first have a hash.
    """
    place = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        owner: Any = args[0]
        known = owner.__dict__.setdefault(place, {})
        if args[1:] not in known:
            known.setdefault(args[1:], function(*args, **kwargs))
        return known[args[1:]]

    return answer
