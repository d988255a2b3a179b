"""Progress of long work: engines report steps, and a progress object shows them or not."""

from __future__ import annotations

import abc
import importlib.util
import math
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm.std import tqdm


class AbstractProgress(abc.ABC):
    """A receiver of progress; engines call it once per compiled block, never once per step."""

    @abc.abstractmethod
    def note(self, message: str) -> None:
        """Show one line that stays."""

    @abc.abstractmethod
    def start(self, total: int, label: str) -> None:
        """Begin a stage of `total` steps."""

    @abc.abstractmethod
    def advance(self, steps: int, **facts: object) -> None:
        """Report that `steps` more are done; `facts` are shown beside the bar."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the stage."""

    def stopped(self) -> None:  # noqa: B027 - only what watches a run wants to know
        """Hear that the engine was interrupted, and gives what it has so far."""

    @property
    def is_stopped(self) -> bool:
        """Whether the engine was interrupted."""
        return False


class TimeUp(KeyboardInterrupt):
    """The time of a run is over."""


class Watched(AbstractProgress):
    """A progress that ends a run when its time is over, and knows how far it was interrupted.

    Engines that are interrupted give what they have so far.

    Args:
        shown: the progress that is shown.
        seconds: the time that the run has, or None.
    """

    def __init__(self, shown: AbstractProgress, seconds: float | None = None) -> None:
        self.shown = shown
        self.end = math.inf if seconds is None else time.monotonic() + seconds
        self.total = self.done = 0
        self.interrupted: str | None = None

    def note(self, message: str) -> None:
        self.shown.note(message)

    def start(self, total: int, label: str) -> None:
        self.total, self.done = total, 0
        self.shown.start(total, label)

    def advance(self, steps: int, **facts: object) -> None:
        self.done += steps
        self.shown.advance(steps, **facts)
        if time.monotonic() > self.end and self.done < self.total:
            raise TimeUp

    def stopped(self) -> None:
        self.interrupted = f"{self.done} of {self.total} steps"

    @property
    def is_stopped(self) -> bool:
        return self.interrupted is not None

    def close(self) -> None:
        self.shown.close()


class Silent(AbstractProgress):
    """A progress that shows nothing."""

    def note(self, message: str) -> None:
        pass

    def start(self, total: int, label: str) -> None:
        pass

    def advance(self, steps: int, **facts: object) -> None:
        pass

    def close(self) -> None:
        pass


def _bars() -> type[tqdm]:
    """Return tqdm's bar: the one of notebooks needs ipywidgets, and warns without it."""
    if importlib.util.find_spec("ipywidgets") is None:
        from tqdm.std import tqdm as plain

        return plain
    from tqdm.auto import tqdm as automatic

    return automatic


class Bar(AbstractProgress):
    """A tqdm bar in a terminal or a notebook."""

    _bar: tqdm | None = None

    def note(self, message: str) -> None:
        _bars().write(message, file=sys.stderr)

    def start(self, total: int, label: str) -> None:
        self._bar = _bars()(total=total, desc=label, leave=False)

    def advance(self, steps: int, **facts: object) -> None:
        if self._bar is not None:
            self._bar.update(steps)
            self._bar.set_postfix(facts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def as_progress(progress: bool | AbstractProgress) -> AbstractProgress:
    """Return a bar for True, silence for False, and a progress object as it is."""
    if isinstance(progress, AbstractProgress):
        return progress
    return Bar() if progress else Silent()
