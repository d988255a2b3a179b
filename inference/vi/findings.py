"""Findings on what variational inference maximised."""

from __future__ import annotations

from collections.abc import Mapping

from inference.core.findings import Finding
from inference.core.typing import Info

ERRORS = 4  # standard errors by which the ELBO must have fallen


def objective_findings(info: Info, facts: Mapping[str, float]) -> tuple[Finding, ...]:
    """Say where the objective was not the ELBO, and where maximising it lowered the ELBO.

    Args:
        info: the facts about the run.
        facts: the ELBO and its standard error, where they were computed.
    """
    objective, start = info.get("objective", "elbo"), info.get("elbo_at_start")
    note = Finding(f"The objective was {objective}, not the ELBO", severity="note")
    others = () if objective == "elbo" else (note,)
    if start is None or "elbo" not in facts:
        return others
    elbo = facts["elbo"]
    if not elbo < start - ERRORS * facts["elbo standard error"]:
        return others
    fell = Finding(
        f"The ELBO fell from {start:.4g} to {elbo:.4g}: the objective is not one to be maximised. "
        "Look at its sign.",
        severity="failure",
    )
    return (fell, *others)
