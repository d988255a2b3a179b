"""The certificate of a prior-data fitted network in words and as a table.

`inference.amortized.certificate` measures it, and `certify_network` gathers it as plain data.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from inference.amortized.certificate import (
    LEVELS,
    ExactLogProb,
    check_latents,
    check_rows,
    measure_dependence,
)
from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Tasks, simulate
from inference.core.keys import tagged_key
from inference.core.typing import Info, Key
from inference.distributions.bars import Grids

# Data sets whose rows are put in another order.
NUM_MOVED = 64

# Nats a prediction above which a gap is a reason for doubt.
DOUBTFUL_GAP = 0.1

# The p-value of calibration below which there is a reason for doubt.
DOUBTFUL_P = 0.01


def certify_network(
    exact: ExactLogProb | None, tasks: Tasks, network: AbstractNetwork, grids: Grids, key: Key
) -> Info:
    """Measure the quality of a network, as plain data.

    Args:
        exact: the exact log predictive density, or None where it is not known.
        tasks: the data sets that the network was trained on.
        network: the trained network.
        grids: the grids of its bars.
        key: the random key of the data sets.
    """
    rows = check_rows(network, tasks, grids.target, exact, key, network.num_checked)
    batch = simulate(tasks, tagged_key(key, "exactness"), network.num_checked)
    few = jax.tree.map(lambda part: part[:NUM_MOVED], batch)
    order, leak = measure_dependence(network, few, tasks.num_queries)
    latents = [] if grids.latents is None else check_latents(network, batch, tasks, grids.latents)
    drawn = float(batch.X.min()), float(batch.X.max())
    return {
        "rows": [row._asdict() for row in rows],
        "levels": LEVELS,
        "data_sets": network.num_checked,
        "latents": latents,
        "change_with_order": order,
        "change_with_other_queries": leak,
        "num_inputs": tasks.num_inputs,
        "max_rows": tasks.max_rows,
        "targets": (float(batch.y.min()), float(batch.y.max())),
        "inputs": (0.0, 1.0) if tasks.inputs == "uniform" else drawn,
    }


def summarize(certificate: Info, measurable: bool) -> str:
    """Return the gap and the p-value of calibration in one line.

    Args:
        certificate: the certificate, as plain data.
        measurable: whether `PFN.certify` can measure a gap that is not known.
    """
    gaps = [row["gap"][0] for row in certificate["rows"] if row["gap"]]
    engine, p = certificate.get("engine"), _calibration_p_value(certificate)
    baselines = _baseline_gaps(certificate)
    gap = "gap not known (pfn.certify(bdl.NUTS()) measures it)" if measurable else "gap not known"
    if gaps:
        gap = f"gap to the exact predictive {np.mean(gaps):.3f} nats"
    elif engine:
        mean, error = engine["gap"]
        data = f"{engine['num_tasks']} data sets of {engine['num_rows']} rows"
        gap = f"gap to {engine['name']} {mean:.3f} +- {error:.3f} nats ({data})"
    if baselines and not gaps and not engine:
        gap = ", ".join(f"{gain:.3f} nats better than {name}" for name, gain in baselines.items())
    return gap if p is None else f"{gap}, calibration p = {p:.2g}"


def _baseline_gaps(certificate: Info) -> dict[str, float]:
    """Return how much less the network loses than its baselines, over all numbers of rows."""
    rows = [row for row in certificate["rows"] if row.get("baselines")]
    names = rows[0]["baselines"] if rows else ()
    return {
        name: float(np.mean([row["baselines"][name] - row["nll"] for row in rows]))
        for name in names
    }


def _calibration_p_value(certificate: Info) -> float | None:
    """Return the p-value of calibration at all numbers of rows and of latent sites together.

    It has Bonferroni's correction, and is None if nothing was tested.
    """
    checked = [*certificate["rows"], *certificate["latents"]]
    p = [one["p_uniform"] for one in checked if one["p_uniform"] is not None]
    return min(1.0, len(p) * min(p)) if p else None


def find_doubts(certificate: Info) -> list[str]:
    """Return the reasons for doubt that the certificate gives, in words."""
    found, p = [], _calibration_p_value(certificate)
    gaps = [row["gap"] for row in certificate["rows"] if row["gap"]]
    if not gaps and "engine" in certificate:
        gaps = [certificate["engine"]["gap"]]
    if gaps:
        gap = np.mean([gap for gap, _ in gaps])
        error = np.sqrt(np.mean([error**2 for _, error in gaps]) / len(gaps))
        if not gap - 2 * error <= DOUBTFUL_GAP:
            found.append(
                f"On data of its own prior it loses {gap:.2g} nats a prediction; "
                "train it for longer."
            )
    if p is not None and not p >= DOUBTFUL_P:
        found.append(
            f"Its probabilities are not calibrated on data of its own prior (p = {p:.2g})."
        )
    return found


def format_table(certificate: Info) -> str:
    """Return a table with what was measured at each number of rows."""
    import pandas as pd

    shares = [f"{level:.0%}" for level in certificate["levels"]]
    rows: list[dict[str, Any]] = [
        {"rows": row["num_rows"], "nll": row["nll"], "p": row["p_uniform"]}
        | dict(zip(("gap", "gap's error"), row["gap"] or (), strict=False))
        | dict(zip(shares, row["coverage"] or (), strict=False))
        | {"calibration error": row.get("calibration_error")}
        | row.get("baselines", {})
        for row in certificate["rows"]
    ]
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    return table.to_string(index=False, float_format="{:.3f}".format)
