"""Whether a fit can be trusted.

Draws are judged by rank-normalised split R-hat and bulk and tail ESS (Vehtari et al. 2021,
arXiv:1903.08008) of the sites that the data can identify *and of the function values* E[y | x, z]
at training rows. Independent draws have neither: each counts fully. An approximation is judged by
the Pareto shape k of its importance weights (Yao et al. 2018, arXiv:1802.02538). All statistics are
arviz-stats'. What only the engine knows (divergences, searches that did not converge, ...) it says
itself, in `AbstractEngine.findings`; this module collects.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bayesdl.interop.pareto import smoothed_weights
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior, draws_shape
from bayesdl.warnings import TrustWarning, distrust
from inference.core.engine import INFER_IT, describe_fixed, uninferred_params
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.result import Judge

if TYPE_CHECKING:
    import pandas as pd

RHAT_LIMIT = 1.01
# above which chains are in different places, rather than in need of more draws
STUCK_RHAT = 1.2
ESS_PER_CHAIN = 100
PARETO_LIMIT = 0.7
PARETO_DRAWS = 1000
# effective draws of those, below which the approximation is another distribution
EFFECTIVE_LIMIT = 50
# log weights that differ by no more are equal but for rounding
EQUAL = 1e-3
FUNCTION = "E[y | x]"


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
        facts = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.4g}</td></tr>"
            for name, value in self.facts.items()
        )
        numbers = f"<table>{facts}</table>" if facts else ""
        return f"<b style='color:{colour}'>{head}</b><ul>{items}</ul>{numbers}{table}"


def diagnose(posterior: AbstractPosterior) -> Diagnosis:
    """Diagnose a posterior, and warn where it is not to be trusted."""
    diagnosis = JUDGES[posterior.raw.judged_by](posterior)
    fixed = _sentences(_fixed(posterior))
    if fixed:
        verdict = (*fixed, *diagnosis.verdict)
        diagnosis = dataclasses.replace(diagnosis, ok=False, verdict=verdict)
    if posterior.adjustment is not None:
        # what it says of predictions is no finding against the fit
        words = posterior.adjustment.words()
        diagnosis = dataclasses.replace(diagnosis, verdict=(*diagnosis.verdict, *words))
    if not diagnosis.ok:
        distrust(diagnosis, " ".join(diagnosis.verdict), 3, TrustWarning)
    return diagnosis


def _fixed(posterior: AbstractPosterior) -> list[Finding]:
    """Say which parameters the engine left where they started."""
    fixed = uninferred_params(posterior.problem)
    return [Finding(describe_fixed(name, value), INFER_IT) for name, value in fixed.items()]


def _judge_by_engine(posterior: AbstractPosterior) -> Diagnosis:
    """Collect what the engine says of a result that nothing else can judge."""
    numbers = posterior.engine.diagnostics(posterior.problem, posterior.raw)
    findings = posterior.engine.findings(posterior.problem, posterior.raw, numbers)
    return Diagnosis(not _speak_against(findings), _sentences(findings), numbers)


def _judge_by_convergence(posterior: AbstractPosterior) -> Diagnosis:
    """Judge draws by the agreement of their chains, and by what the engine says."""
    import pandas as pd

    engine, problem, raw = posterior.engine, posterior.problem, posterior.raw
    independent = raw.independent_draws
    statistics = _independent_statistics if independent else site_statistics
    rows = {name: statistics(values) for name, values in posterior.samples.items()}
    identified = {name: row for name, row in rows.items() if posterior.model.identified(name)}
    values = posterior.function_values()
    if values is not None:
        rows[FUNCTION] = identified[FUNCTION] = statistics(values)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["rhat", "ess_bulk", "ess_tail"])
    table["identified"] = [name in identified for name in rows]

    worst = np.array(list(identified.values()))
    ess = _known(np.min, worst[:, 1:])
    numbers = {} if independent else {"rhat (worst)": _known(np.max, worst[:, 0])}
    numbers |= {"ess (smallest)": ess} | engine.diagnostics(problem, raw)
    has_modes = len(identified) < len(rows)
    chains, _ = draws_shape(posterior)
    findings = [
        *_not_finite(posterior),
        *(_few_draws(ess) if independent else disagreement(numbers, chains, has_modes)),
        *engine.findings(problem, raw, numbers),
    ]
    ok = not _speak_against(findings)
    if ok:
        findings.insert(0, Finding(_praise(numbers), severity="note"))
    if has_modes and not independent:
        findings.append(NOT_IDENTIFIED)
    return Diagnosis(ok, _sentences(findings), numbers, table)


def _known(pick: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """Return the largest or smallest of the values that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(pick(known)) if known.size else np.nan


NOT_IDENTIFIED = Finding(
    "Weights are not identified (units can be permuted and mirrored), so their R-hat is not held "
    "against the fit",
    severity="note",
)


def site_statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Return worst R-hat, smallest bulk and tail ESS over the scalars of a site.

    Args:
        values: draws of shape (chain, draw, ...).
    """
    from arviz_stats.base.array import array_stats

    flat = np.asarray(values, dtype=np.float64).reshape(*values.shape[:2], -1)
    if not np.isfinite(flat).all():
        return np.inf, 0.0, 0.0
    # a constant has neither R-hat nor ESS
    flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]
    if not flat.shape[-1] or flat.shape[1] < 4:
        return np.nan, np.nan, np.nan
    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    rhat = array_stats.rhat(flat, **axes)
    bulk, tail = (
        array_stats.ess(flat, **axes),
        array_stats.ess(flat, method="tail", prob=0.9, **axes),
    )
    return float(np.max(rhat)), float(np.min(bulk)), float(np.min(tail))


def _independent_statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Return no R-hat, and the number of draws as ESS, for independent draws (chain, draw, ...)."""
    total = float(values.shape[0] * values.shape[1])
    return (np.nan, total, total) if np.isfinite(values).all() else (np.nan, 0.0, 0.0)


def _praise(numbers: dict[str, float]) -> str:
    """Say why draws can be trusted."""
    ess = f"at least {numbers['ess (smallest)']:.0f} effective draws for everything identified"
    if "rhat (worst)" not in numbers:
        return f"Draws are independent: {ess}"
    return f"R-hat at most {numbers['rhat (worst)']:.3f} and {ess}"


def _not_finite(posterior: AbstractPosterior) -> list[Finding]:
    """Say which sites have draws that are NaN or infinite."""
    bad = [name for name, values in posterior.samples.items() if not np.isfinite(values).all()]
    return [
        Finding(
            f"Site '{name}' has draws that are NaN or infinite",
            "check the program and its data",
            where=name,
        )
        for name in bad
    ]


def disagreement(numbers: dict[str, float], chains: int, has_modes: bool = False) -> list[Finding]:
    """Say what R-hat and ESS reveal.

    Args:
        numbers: the worst R-hat and the smallest ESS.
        chains: the number of chains.
        has_modes: whether the posterior has copies of modes, as those of networks have.
    """
    findings, rhat, ess = [], numbers["rhat (worst)"], numbers["ess (smallest)"]
    cure = "raise num_warmup and num_samples"
    if has_modes:
        cure += (
            ", unless they sit in different modes, which longer chains do not join: then judge by "
            "post.score on held-out data"
        )
    if chains < 2:
        findings.append(
            Finding(
                "There is one chain, so R-hat cannot say whether chains agree", "use num_chains=4"
            )
        )
    if np.isnan(rhat) and chains > 1:
        findings.append(
            Finding("R-hat is no number, as of fewer than 4 draws or of equal ones", cure)
        )
    # of one chain it is no number
    if rhat > RHAT_LIMIT:
        findings.append(
            Finding(f"R-hat is {rhat:.3f}, above {RHAT_LIMIT}: the chains disagree", cure)
        )
    if not ess >= ESS_PER_CHAIN * chains:
        findings.append(
            Finding(
                f"The smallest effective sample size is {ess:.0f}, below {ESS_PER_CHAIN * chains} "
                f"({ESS_PER_CHAIN} per chain)",
                "raise num_samples",
            )
        )
    return findings


def disagreeing_chains(posterior: AbstractPosterior) -> list[Finding]:
    """Say where chains are stuck or far apart, so that nothing that averages over draws is right.

    It is a coarser test than `diagnose`: a chain that does not move, or R-hat above 1.2, of the
    sites that the data can identify. Above 1.01 it is a note.

    Args:
        posterior: the posterior.
    """
    if posterior.raw.independent_draws or not posterior.samples:
        return []
    chains, draws = draws_shape(posterior)
    cure = "see post.diagnose(), raise num_warmup, give tighter priors, and fit again"
    worst, where = 0.0, ""
    for name, values in posterior.samples.items():
        if not posterior.model.identified(name):
            continue
        if still := _still_chains(values):
            what = (
                f"Chain {', '.join(map(str, still))} of {chains} is stuck, site '{name}' having "
                f"the same value at all {draws} draws, and averages over draws are wrong"
            )
            return [Finding(what, cure, where=name)]
        rhat = site_statistics(values)[0]
        worst, where = (rhat, name) if rhat > worst else (worst, where)
    if worst > STUCK_RHAT:
        what = f"R-hat of site '{where}' is {worst:.2f}: the chains disagree, averages are wrong"
        return [Finding(what, cure, where=where)]
    if worst > RHAT_LIMIT:
        what = f"R-hat of site '{where}' is {worst:.3f}, above {RHAT_LIMIT}"
        return [Finding(what, "see post.diagnose()", "note", where)]
    return []


def _still_chains(values: np.ndarray) -> list[int]:
    """Return the numbers of the chains that do not move, of a site that moves in others."""
    flat = np.asarray(values, dtype=np.float64).reshape(*values.shape[:2], -1)
    # a discrete site may rightly stay where it is
    if values.dtype.kind != "f" or flat.shape[1] < 4 or not np.isfinite(flat).all():
        return []
    moves = np.ptp(flat, axis=1) > 0
    # a constant, such as the diagonal of a correlation matrix, moves nowhere and is the same
    constant = np.ptp(flat, axis=(0, 1)) == 0
    still = ~moves[:, ~constant].any(axis=1) if (~constant).any() else np.zeros(len(flat), bool)
    return np.flatnonzero(still).tolist()


def _few_draws(ess: float) -> list[Finding]:
    """Say that there are too few independent draws."""
    if ess >= ESS_PER_CHAIN:
        return []
    what = f"There are {ess:.0f} independent draws, below {ESS_PER_CHAIN}"
    return [Finding(what, "draw more")]


def _judge_by_weights(posterior: AbstractPosterior) -> Diagnosis:
    """Judge an approximation by its importance weights, and by what the engine says."""
    engine, problem, raw = posterior.engine, posterior.problem, posterior.raw
    with precision_scope(posterior.model):
        key = named_key(jax.random.key(posterior.seed), "importance weights")
        log_weights = np.asarray(raw.log_weights(key, PARETO_DRAWS), dtype=np.float64)
    numbers = _weight_statistics(log_weights) | engine.diagnostics(problem, raw)
    findings = engine.findings(problem, raw, numbers)
    if all(finding.severity != "failure" for finding in findings):
        findings = (*_closeness(numbers, raw.approximated, engine.cure_of_width()), *findings)
    return Diagnosis(not _speak_against(findings), _sentences(findings), numbers)


def _weight_statistics(log_weights: np.ndarray) -> dict[str, float]:
    """Return Pareto k, effective draws and the ELBO of log p(y, z) - log q(z) at draws of q."""
    elbo, error = log_weights.mean(), log_weights.std() / np.sqrt(PARETO_DRAWS)
    k = 0.0 if np.ptp(log_weights) < EQUAL else np.inf
    if EQUAL <= np.ptp(log_weights) < np.inf:
        k = float(smoothed_weights(log_weights)[1])
    weights = np.exp(log_weights - log_weights.max())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return {
        "pareto k": k,
        "effective draws of 1000": effective,
        "elbo": float(elbo),
        "elbo standard error": float(error),
    }


def _closeness(numbers: dict[str, float], approximated: str, cure: str) -> list[Finding]:
    """Say how close an approximation is to the posterior.

    Args:
        numbers: what `_weight_statistics` gave.
        approximated: what was approximated, in words.
        cure: what to do about an approximation that is too wide.
    """
    k, effective = numbers["pareto k"], numbers["effective draws of 1000"]
    if not k <= PARETO_LIMIT:
        return [
            Finding(
                f"Pareto k is {k:.2f}, above {PARETO_LIMIT}: the approximation is not close to the "
                f"posterior of {approximated}"
            ),
            Finding(
                "Predictions may still be useful",
                "judge them by post.score on held-out data, or fit with bdl.NUTS()",
            ),
        ]
    if effective < EFFECTIVE_LIMIT:
        return [
            Finding(
                f"{PARETO_DRAWS} draws are worth {effective:.0f} of the posterior of "
                f"{approximated}: the approximation is much wider than it, or lies beside it",
                cure,
            )
        ]
    close = (
        f"Pareto k is {k:.2f}: the approximation is close to the posterior of {approximated}, "
        "where it has mass"
    )
    return [Finding(close, severity="note")]


def _speak_against(findings: Iterable[Finding]) -> bool:
    """Whether any finding speaks against the result."""
    return any(finding.severity != "note" for finding in findings)


def _sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the findings as sentences."""
    return tuple(map(str, findings))


JUDGES: dict[Judge, Callable[[AbstractPosterior], Diagnosis]] = {
    "convergence": _judge_by_convergence,
    "importance weights": _judge_by_weights,
    "engine": _judge_by_engine,
}
