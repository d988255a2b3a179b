"""The result of a diagnosis: what can be trusted, in words and numbers."""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What can be trusted.

    Attributes:
        ok: whether nothing speaks against the fit.
        verdict: one sentence per finding, the cure included.
        facts: the numbers behind it.
        table: per site its worst R-hat and smallest ESS; None where there are no draws.
    """

    ok: bool
    verdict: tuple[str, ...]
    facts: dict[str, float]
    table: pd.DataFrame | None = None

    def __repr__(self) -> str:
        head = "can be trusted" if self.ok else "NOT to be trusted as it is"
        lines = [head, *(f"- {line}" for line in self.verdict)]
        lines += [f"  {name:<32}{value:>10.4g}" for name, value in self.facts.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = "#1b7837" if self.ok else "#b2182b"
        head = "can be trusted" if self.ok else "not to be trusted as it is"
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self.verdict)
        table = "" if self.table is None else self.table.round(3)._repr_html_()
        return f"<b style='color:{colour}'>{head}</b><ul>{items}</ul>{table}"
