"""What lets programs run in several threads at once, each as if it were alone.

NumPyro keeps the handlers that are active in one list of the process, so that a program traced in
one thread would see the handlers of another. Here each thread has a list of its own. That is the
one thing that importing this package changes outside of it.

Funsor and Pyro keep more state of that kind; what runs them holds a lock.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, MutableSequence
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from numpyro import primitives

P = ParamSpec("P")
R = TypeVar("R")


class OwnHandlers(threading.local, MutableSequence):
    """A list of which each thread sees its own."""

    def __init__(self) -> None:
        self.active: list = []

    def __getitem__(self, index: Any) -> Any:
        return self.active[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.active[index] = value

    def __delitem__(self, index: Any) -> None:
        del self.active[index]

    def __len__(self) -> int:
        return len(self.active)

    def __reversed__(self) -> Any:
        return reversed(self.active)

    def insert(self, index: int, value: Any) -> None:
        self.active.insert(index, value)

    def __repr__(self) -> str:
        return repr(self.active)


def give_threads_their_own_handlers() -> None:
    """Replace NumPyro's list of active handlers by one for each thread.

    Handlers that are active while this runs stay so in this thread.
    """
    shared = primitives._PYRO_STACK
    if not isinstance(shared, list):  # done, or a NumPyro that does so itself
        return
    own = OwnHandlers()
    own.extend(shared)
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("_PYRO_STACK") is shared:
            module.__dict__["_PYRO_STACK"] = own


def one_at_a_time(lock: AbstractContextManager) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of functions that one thread runs at a time.

    Args:
        lock: the lock that they share.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return function(*args, **kwargs)

        return alone

    return decorate
