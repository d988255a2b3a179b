"""Warnings and loggers that are silenced in one thread, for the time of a block.

`warnings.catch_warnings` of Python before 3.14 saves and restores the filters of the whole process:
two threads in it at once leave filters behind for good. Here a block adds filters that look at the
thread, and takes away those alone.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator


class _Here:
    """A pattern of messages in the thread that made it, in the place of a regular expression."""

    def __init__(self, message: str) -> None:
        self.pattern, self.thread = re.compile(message, re.IGNORECASE), threading.get_ident()
        self.said: list[str] = []

    def match(self, text: str) -> bool:
        """Return whether the message was said in this thread, and begins as it should."""
        found = threading.get_ident() == self.thread and self.pattern.match(text) is not None
        self.said += [text] * found
        return found


@contextlib.contextmanager
def quiet(
    *categories: type[Warning], message: str = "", action: str = "ignore"
) -> Iterator[list[str]]:
    """Silence warnings of this thread while a block runs.

    Args:
        *categories: their classes; by default all.
        message: a regular expression that matches the beginning of their messages.
        action: what is done with them instead: "ignore", or "error" to raise them.

    Yields:
        The messages that begin so, as they come, of whatever class.

    Example:
        >>> with quiet(message="Out of"):
        ...     warnings.warn("Out of paper")
    """
    here = _Here(message)
    added = [(action, here, one, None, 0) for one in categories or (Warning,)]
    lists = [_filters()]
    for entry in added:
        lists[0].insert(0, entry)
    _forget_what_was_said()
    try:
        yield here.said
    finally:
        # a `catch_warnings` inside may have put a copy of the list in its place
        if _filters() is not lists[0]:
            lists.append(_filters())
        for filters in lists:
            for entry in added:
                # another thread may restore filters of before at any time
                with contextlib.suppress(ValueError):
                    filters.remove(entry)
        _forget_what_was_said()


@contextlib.contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Silence a logger in this thread while a block runs.

    Args:
        name: the name of the logger.
    """
    thread, log = threading.get_ident(), logging.getLogger(name)

    def elsewhere(record: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    log.addFilter(elsewhere)
    try:
        yield
    finally:
        log.removeFilter(elsewhere)


def _forget_what_was_said() -> None:
    """Tell Python that other filters are in force, as what was said once may be an error now."""
    if hasattr(warnings, "_filters_mutated"):
        warnings._filters_mutated()  # pyright: ignore[reportAttributeAccessIssue]
    else:  # Python 3.14 and later
        with warnings._lock:  # pyright: ignore[reportAttributeAccessIssue]
            warnings._filters_mutated_lock_held()  # pyright: ignore[reportAttributeAccessIssue]


def _filters() -> list:
    """Return the list of filters that is in force."""
    return warnings.filters  # pyright: ignore[reportReturnType]
