"""Progress of long work: engines report steps, somebody shows them or not."""

from __future__ import annotations

import abc
import sys
from typing import Any


class AbstractProgress(abc.ABC):
    """Receives steps done; engines call it once per compiled block, never once per step."""

    @abc.abstractmethod
    def note(self, message: str) -> None:
        """One line that stays."""

    @abc.abstractmethod
    def start(self, total: int, label: str) -> None:
        """A stage of `total` steps begins."""

    @abc.abstractmethod
    def advance(self, steps: int, **facts: Any) -> None:
        """`steps` more are done; `facts` are shown beside the bar."""

    @abc.abstractmethod
    def close(self) -> None:
        """The stage is over."""


class Silent(AbstractProgress):
    """Shows nothing."""

    def note(self, message: str) -> None:
        pass

    def start(self, total: int, label: str) -> None:
        pass

    def advance(self, steps: int, **facts: Any) -> None:
        pass

    def close(self) -> None:
        pass


class Bar(AbstractProgress):
    """A tqdm bar, in a terminal or a notebook."""

    _bar: Any = None

    def note(self, message: str) -> None:
        from tqdm.auto import tqdm

        tqdm.write(message, file=sys.stderr)

    def start(self, total: int, label: str) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc=label, leave=False)

    def advance(self, steps: int, **facts: Any) -> None:
        self._bar.update(steps)
        self._bar.set_postfix(facts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def as_progress(progress: Any) -> AbstractProgress:
    """True shows a bar, False nothing; anything else shows itself."""
    if isinstance(progress, AbstractProgress):
        return progress
    return Bar() if progress else Silent()
