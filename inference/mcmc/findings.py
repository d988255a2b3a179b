"""What the statistics of a sampler say: numbers for a diagnosis, and findings with their cures.

Divergences and saturated trees are counted; the energy fraction BFMI is that of Betancourt (2016,
arXiv:1604.00695), E[(E_n - E_{n-1})^2] / Var(E) per chain, which is low where tails are explored
slowly. Those of samplers with minibatches are explained in `langevin.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.core.findings import Finding
from inference.core.result import Draws

BFMI_LIMIT = 0.3
SATURATED_LIMIT = 0.1
# of the momentum's temperature along gradient noise, above 1
HEAT_LIMIT = 0.1
CLAMPED_LIMIT = 0.05


def sampler_diagnostics(draws: Draws) -> dict[str, float]:
    """Return divergences, BFMI, trajectory lengths and saturated trees, as far as recorded."""
    numbers: dict[str, float] = {}
    if "diverging" in draws.stats:
        numbers["divergences"] = float(draws.stats["diverging"].sum())
    if "energy" in draws.stats:
        numbers["bfmi (smallest)"] = float(np.min(_bfmi(draws.stats["energy"])))
    if "n_steps" in draws.stats:
        numbers["leapfrog steps (mean)"] = float(draws.stats["n_steps"].mean())
        if "max_tree_depth" in draws.info:
            longest = 2 ** draws.info["max_tree_depth"] - 1
            numbers["saturated trees"] = float((draws.stats["n_steps"] >= longest).mean())
    return numbers


def _bfmi(energy: np.ndarray) -> np.ndarray:
    """Return the energy fraction of each chain, from energies of shape (chain, draw)."""
    return np.square(np.diff(energy, axis=1)).mean(axis=1) / np.var(energy, axis=1, ddof=1)


def _interruption_findings(draws: Draws) -> list[Finding]:
    """Say where a run was interrupted."""
    if "interrupted" not in draws.info:
        return []
    what = f"The run was interrupted after {draws.info['interrupted']}"
    return [Finding(what, "go on with bdl.mcmc.extend, or from its checkpoint")]


def sampler_findings(
    draws: Draws, numbers: Mapping[str, float], divergence_cure: str
) -> list[Finding]:
    """Say what the statistics of a Hamiltonian sampler reveal.

    Args:
        draws: the draws of all chains.
        numbers: what `sampler_diagnostics` gave.
        divergence_cure: what to do about divergences, in settings of the engine.
    """
    findings = _interruption_findings(draws)
    if numbers.get("divergences", 0) > 0:
        total = draws.stats["diverging"].size
        findings.append(
            Finding(
                f"{numbers['divergences']:.0f} of {total} draws diverged: the sampler misses part "
                "of the posterior",
                divergence_cure,
            )
        )
    if numbers.get("saturated trees", 0) > SATURATED_LIMIT:
        findings.append(
            Finding(
                f"{100 * numbers['saturated trees']:.0f} % of the trajectories ended at "
                "max_tree_depth: sampling is slow",
                "raise it, or reparametrise",
            )
        )
    if numbers.get("bfmi (smallest)", 1) < BFMI_LIMIT:
        findings.append(
            Finding(
                f"The energy fraction BFMI is {numbers['bfmi (smallest)']:.2f}, below "
                f"{BFMI_LIMIT}: tails are explored slowly",
                "reparametrise, or raise num_warmup",
            )
        )
    return findings


def stochastic_diagnostics(draws: Draws) -> dict[str, float]:
    """Return the numbers of a sampler with minibatches."""
    if "noise_temperature" not in draws.stats:
        return {}
    numbers = {"momentum temperature": float(draws.stats["noise_temperature"].mean())}
    if draws.info["stochastic"]:
        ratio = draws.stats["noise_ratio"]
        numbers |= {
            "noise ratio (mean)": float(ratio.mean()),
            "clamp fraction": float((ratio > 1).mean()),
        }
        numbers["step size shortened to"] = min(draws.info["shortened"])
    if draws.info["temperature"] != 1:
        numbers["posterior temperature"] = draws.info["temperature"]
    return numbers


def stochastic_findings(numbers: Mapping[str, float], cure: str) -> list[Finding]:
    """Say what gradient noise did to the draws, and at which temperature they are.

    Args:
        numbers: what `stochastic_diagnostics` gave.
        cure: what to do about gradient noise, in settings of the engine.
    """
    findings, temperature = [], numbers.get("posterior temperature", 1.0)
    heat = numbers.get("momentum temperature", temperature) / temperature - 1
    if heat > HEAT_LIMIT:
        findings.append(
            Finding(
                f"The momentum is {100 * heat:.0f} % too hot where gradient noise acts: the noise "
                "of minibatches, or too long steps, widen the posterior there",
                cure,
            )
        )
    if numbers.get("clamp fraction", 0) > CLAMPED_LIMIT:
        findings.append(
            Finding(
                f"At {100 * numbers['clamp fraction']:.0f} % of the draws gradient noise was more "
                "than friction can balance",
                cure,
            )
        )
    if temperature != 1:
        findings.append(
            Finding(
                f"Draws are of p(z | y)^(1/{temperature:g}), as temperature={temperature:g} was "
                "asked for, not of the posterior"
            )
        )
    return findings
