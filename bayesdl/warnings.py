"""Warnings of bayesdl: results that cannot be trusted, and calls that have a new name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from inference.renaming import warn_renamed

Args = ParamSpec("Args")
Result = TypeVar("Result")


class TrustWarning(UserWarning):
    """A result that cannot be trusted as it is."""


def deprecated(
    call: str, forward: str | None = None
) -> Callable[[Callable[Args, Result]], Callable[Args, Result]]:
    """Mark a method as having a new name, which its DeprecationWarning says.

    Args:
        call: the new call, as users write it, such as "bdl.tensor.mode(post, name)".
        forward: the function that does the work and takes the arguments of the method, as
            "module:function"; None where the method still does it. It is imported when the method
            is called, since old methods know families that stand above the class.
    """

    def mark(method: Callable[Args, Result]) -> Callable[Args, Result]:
        @functools.wraps(method)
        def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
            warn_renamed(method.__qualname__, call)
            if forward is None:
                return method(*args, **kwargs)
            module, _, name = forward.partition(":")
            function: Any = getattr(importlib.import_module(module), name)
            return function(*args, **kwargs)

        return wrapped

    return mark
