"""Findings: what an engine has to say about its own result, as sentences that name the cure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from inference.core.typing import Info

Severity: TypeAlias = Literal["failure", "doubt", "note"]
"""How much a finding weighs.

A failure makes every other judgement moot, a doubt speaks against the result, a note does not.
"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that users should know about a result.

    Attributes:
        what: what is the matter, a clause without a full stop.
        cure: what to do about it, in settings that the engine has; empty where there is no cure.
        severity: "failure", "doubt" or "note".
        where: the name of the site, or of the part of the result, that is concerned; None for all.

    Example:
        >>> str(Finding("3 draws diverged", "raise target_accept"))
        '3 draws diverged: raise target_accept.'
    """

    what: str
    cure: str = ""
    severity: Severity = "doubt"
    where: str | None = None

    def __str__(self) -> str:
        if not self.cure:
            return self.what if self.what.endswith((".", "!", "?")) else f"{self.what}."
        # a second colon in one sentence would be hard to read
        return f"{self.what}{'; ' if ': ' in self.what else ': '}{self.cure}."


def hyperparameter_findings(info: Info, doubts: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Say what an engine found that searches for hyperparameters and answers in closed form.

    Args:
        info: facts about the run: whether it `converged`, and the kind of `answer` it gives.
        doubts: what else speaks against the answer, in full sentences.
    """
    if not info.get("converged", True):
        cure = "raise the number of steps or of restarts"
        return (Finding("The search for hyperparameters did not converge", cure, "failure"),)
    answer = Finding(f"The answer is {info['answer']}", severity="note")
    return (*map(Finding, doubts), answer)


def numbers_of(info: Info) -> dict[str, float]:
    """Return those facts about a run that are numbers."""
    return {
        name: float(value)
        for name, value in info.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def no_start_message(sites: Iterable[str], rows: str = "") -> str:
    """Return the error message for latent sites without a finite starting point.

    Args:
        sites: the latent sites.
        rows: a sentence on the rows that have no density.
    """
    return (
        f"No starting point with a finite log density was found for sites {list(sites)}. Check the "
        "data for values that the likelihood cannot produce (NaN, zero scale, wrong support), or "
        f"give tighter priors.{' ' * bool(rows)}{rows}"
    )
