"""Warnings of bayesdl: results that cannot be trusted, and calls that have a new name."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from inference.renaming import warn_renamed

Args = ParamSpec("Args")
Result = TypeVar("Result")


class TrustWarning(UserWarning):
    """A result that cannot be trusted as it is."""


class DataWarning(UserWarning):
    """Data that were read in a way that a user should know of, such as a column left out."""


def distrust(
    result: object,
    verdict: str,
    stacklevel: int,
    category: type[Warning] = TrustWarning,
) -> None:
    """Warn that a result cannot be trusted, once.

    A notebook shows the result of a cell's last line, and with it the verdict. There nothing is
    added; where the result is kept in a variable instead, the warning comes when the cell ends.

    Args:
        result: the result, which prints its verdict.
        verdict: the verdict, in sentences.
        stacklevel: as in `warnings.warn`, counted from the caller.
        category: the kind of warning.
    """
    python = sys.modules.get("IPython")
    shell: Any = None if python is None else python.get_ipython()
    if shell is None:
        warnings.warn(verdict, category, stacklevel=stacklevel + 1)
        return
    frame = sys._getframe(stacklevel)
    place = frame.f_code.co_filename, frame.f_lineno

    def warn_unless_shown(cell: Any) -> None:
        shell.events.unregister("post_run_cell", warn_unless_shown)
        shown = cell.result if isinstance(cell.result, tuple | list) else [cell.result]
        if not any(one is result for one in shown):
            warnings.warn_explicit(verdict, category, *place)

    shell.events.register("post_run_cell", warn_unless_shown)


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
