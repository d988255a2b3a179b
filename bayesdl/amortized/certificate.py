"""The certificate of a prior-data fitted network in words and as a table; `inference.amortized.certificate` measures it."""

from __future__ import annotations

from typing import Any

import numpy as np

DOUBTFUL_GAP = 0.1  # nats
DOUBTFUL_P = 0.01


def in_a_line(certificate: dict[str, Any], measurable: bool) -> str:
    """The gap and calibration.

    Args:
        certificate: as plain data.
        measurable: whether `PFN.certify` can measure a gap that is not known.
    """
    gaps = [row["gap"][0] for row in certificate["rows"] if row["gap"]]
    engine, p = certificate.get("engine"), calibration(certificate)
    gap = "gap not known (pfn.certify(bdl.NUTS()) measures it)" if measurable else "gap not known"
    if gaps:
        gap = f"gap to the exact predictive {np.mean(gaps):.3f} nats"
    elif engine:
        of = f"{engine['num_tasks']} data sets of {engine['num_rows']} rows"
        gap = (
            f"gap to {engine['name']} {engine['gap'][0]:.3f} +- {engine['gap'][1]:.3f} nats ({of})"
        )
    return gap if p is None else f"{gap}, calibration p = {p:.2g}"


def calibration(certificate: dict[str, Any]) -> float | None:
    """The p-value of calibration at all numbers of rows, and of latent sites, together (Bonferroni); None without any."""
    checked = [*certificate["rows"], *certificate["latents"]]
    p = [one["p_uniform"] for one in checked if one["p_uniform"] is not None]
    return min(1.0, len(p) * min(p)) if p else None


def doubts(certificate: dict[str, Any]) -> list[str]:
    """What it says against the network, in words."""
    found, p = [], calibration(certificate)
    gaps = [row["gap"] for row in certificate["rows"] if row["gap"]]
    if not gaps and "engine" in certificate:
        gaps = [certificate["engine"]["gap"]]
    if gaps:
        gap, error = (
            np.mean([gap for gap, _ in gaps]),
            np.sqrt(np.mean([error**2 for _, error in gaps]) / len(gaps)),
        )
        if not gap - 2 * error <= DOUBTFUL_GAP:
            found.append(
                f"On data of its own prior it loses {gap:.2g} nats a prediction; train it for longer."
            )
    if p is not None and not p >= DOUBTFUL_P:
        found.append(
            f"Its probabilities are not calibrated on data of its own prior (p = {p:.2g})."
        )
    return found


def table(certificate: dict[str, Any]) -> str:
    """What was measured at each number of rows."""
    import pandas as pd

    shares = [f"{level:.0%}" for level in certificate["levels"]]
    rows = [
        {"rows": row["num_rows"], "nll": row["nll"], "p": row["p_uniform"]}
        | dict(zip(("gap", "gap's error"), row["gap"] or (), strict=False))
        | dict(zip(shares, row["coverage"] or (), strict=False))
        | {"calibration error": row.get("calibration_error")}
        for row in certificate["rows"]
    ]
    return (
        pd.DataFrame(rows)
        .dropna(axis=1, how="all")
        .to_string(index=False, float_format="{:.3f}".format)
    )
