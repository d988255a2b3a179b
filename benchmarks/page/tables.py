"""Tables in Markdown whose best numbers are bold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OURS = "bayesdl"


@dataclasses.dataclass
class Section:
    """A section of the page: what was measured, by which command, and tables.

    Attributes:
        title: the heading.
        command: the command that makes the numbers.
        text: what was measured, and what the reader should know.
        parts: tables and pictures in Markdown, in their order.
        won: how many rows have their best number from bayesdl.
        lost: how many have it from another.
    """

    title: str
    command: str
    text: str
    parts: list[str] = dataclasses.field(default_factory=list)
    won: int = 0
    lost: int = 0

    def picture(self, name: str, about: str) -> None:
        """Add a chart that `benchmarks.page.charts` writes."""
        self.parts.append(f"![{about}](_static/benchmarks/{name}.svg)")

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        best: str | None = None,
        ours: Sequence[int] = (),
        form: str = ".3f",
    ) -> None:
        """Add a table whose first column says what its row is.

        Args:
            head: the names of the columns.
            rows: numbers, pairs (mean, standard error), words, or None.
            best: "lowest" or "highest" makes the best number of a row bold; None none.
            ours: the columns of bayesdl; rows are counted as won or lost where there are any.
            form: the format of numbers.
        """
        lines = [list(head), ["---"] * len(head)]
        for row in rows:
            means = [_mean(cell) for cell in row]
            known = [i for i, mean in enumerate(means) if mean is not None]
            winner = None
            if best is not None and len(known) > 1:
                pick = min if best == "lowest" else max
                winner = pick(known, key=lambda i: means[i])  # type: ignore[arg-type, return-value]
                if ours:
                    self.won += winner in ours
                    self.lost += winner not in ours
            cells = [_cell(cell, form) for cell in row]
            if winner is not None:
                cells[winner] = f"**{cells[winner]}**"
            lines.append(cells)
        self.parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))

    def markdown(self) -> str:
        """Return the section."""
        made = f"Made by `{self.command}`."
        return "\n\n".join([f"## {self.title}", self.text, made, *self.parts]) + "\n"


def read(name: str) -> dict[str, Any]:
    """Read benchmarks/results/NAME.json."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Compute the mean of values, and its standard error."""
    array = np.asarray(values, float)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(error)


def _mean(cell: Any) -> float | None:
    value = cell[0] if isinstance(cell, tuple) else cell
    return float(value) if isinstance(value, float) else None


def _cell(cell: Any, form: str) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, tuple):
        mean, error = cell
        return f"{mean:{form}}" + ("" if np.isnan(error) else f"\u00a0±\u00a0{error:{form}}")
    return f"{cell:{form}}" if isinstance(cell, float) else str(cell)
