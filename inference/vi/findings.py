"""Findings on what variational inference maximised, and on whether it was done."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.core.findings import Finding
from inference.core.typing import Info

# standard errors by which the ELBO must have fallen, or the objective must have risen
ERRORS = 4
# The objective rises a little to the very end, as parameters tremble less and less: so much is no
# matter, in nats and in nats for each latent dimension.
FEW_NATS, NATS_PER_DIMENSION = 2.0, 0.02
# the parts of a run that are compared, as shares of its steps
BEFORE, AFTER = (0.7, 0.8), (0.9, 1.0)


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


def rise_finding(objective: np.ndarray, steps: int, dimensions: int) -> Finding | None:
    """Say whether the objective still rose when the steps were at an end, or return None.

    Its mean over the last tenth of the steps is held against that over an earlier tenth.

    Args:
        objective: the objective at each step.
        steps: the number of steps that were asked for.
        dimensions: the number of latent dimensions.
    """
    before, after = (
        objective[int(len(objective) * low) : int(len(objective) * high)]
        for low, high in (BEFORE, AFTER)
    )
    if len(before) < 2:
        return Finding(f"{len(objective)} steps are too few to judge", "raise steps")
    rise = after.mean() - before.mean()
    noise = np.hypot(before.std(), after.std()) / np.sqrt(len(before))
    if not rise > max(ERRORS * noise, FEW_NATS + NATS_PER_DIMENSION * dimensions):
        return None
    return Finding(
        f"The objective still rose by {rise:.3g} nats over the last fifth of the steps",
        f"raise steps, now {steps}, or learning_rate",
    )
