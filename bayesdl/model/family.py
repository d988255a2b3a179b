"""Verbs that only the fits of one family have, such as those of circuits."""

from __future__ import annotations

import functools
from typing import Any

from bayesdl.model.base import AbstractModel


class AbstractFamily:
    """A posterior that has the verbs of its model's family, besides its own."""

    model: AbstractModel

    def __getattr__(self, name: str) -> Any:
        """Return a verb of the family.

        Raises:
            AttributeError: for a name that the family does not have.
        """
        verbs = {} if name.startswith("_") or name == "model" else self.model.verbs()
        if name not in verbs:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return functools.partial(verbs[name], self)

    def __dir__(self) -> list[str]:
        """Return the names of attributes, those of the family included."""
        return sorted({*super().__dir__(), *self.model.verbs()})

    def _settle(self, named: dict, site: Any) -> tuple[dict, Any]:
        """Return the arguments of `predict` without `of`, and the site or column that it names."""
        if not self.model.predicts_columns or "of" not in named:
            return named, site
        return {name: value for name, value in named.items() if name != "of"}, named["of"]
