"""Progress of long work: engines report steps, and a progress object shows them or not."""

from __future__ import annotations

import abc
import importlib.util
import sys
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
