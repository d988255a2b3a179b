"""Whether a fit can be trusted.

For draws: rank-normalised split R-hat and bulk and tail ESS (Vehtari et al. 2021, arXiv:1903.08008) of the sites that the
data can identify *and of the function values* E[y | x, z] at training rows, divergences, saturated trees, and the energy
fraction BFMI (Betancourt 2016, arXiv:1604.00695). For an approximation: the Pareto shape k of its importance weights
(Yao et al. 2018, arXiv:1802.02538). All statistics are arviz-stats'.
"""

from __future__ import annotations

import dataclasses
import html
import warnings
from typing import Any

import jax
import numpy as np

from bayesdl.model.precision import is_double, precision_scope
from bayesdl.posterior.posterior import Posterior
from bayesdl.posterior.streaming import Stream, means, probabilities
from inference.core.engine import AbstractEngine
from inference.core.keys import named_key
from inference.core.result import Approximation, Draws
from inference.mcmc.mclmc import MCLMC
from inference.mcmc.sgmcmc import AbstractSGMCMC

RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100
BFMI_LIMIT = 0.3
SATURATED_LIMIT = 0.1
PARETO_LIMIT = 0.7
HEAT_LIMIT = 0.1  # of the momentum's temperature along gradient noise above 1
CLAMPED_LIMIT = 0.05
PARETO_DRAWS = 1000
EFFECTIVE_LIMIT = 50  # of those, below which the approximation is another distribution
EQUAL = 1e-3  # log weights that differ by no more are equal but for rounding


class TrustWarning(UserWarning):
    """A result that cannot be trusted as it is."""


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
    table: Any = None

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


def diagnose(posterior: Posterior) -> Diagnosis:
    """Diagnoses a posterior, and warns where it is not to be trusted."""
    if isinstance(posterior.raw, Draws):
        diagnosis = diagnose_draws(posterior, posterior.raw)
    elif isinstance(posterior.raw, Approximation):
        diagnosis = diagnose_approximation(posterior, posterior.raw)
    else:
        diagnosis = diagnose_predictor(posterior)
    if not diagnosis.ok:
        warnings.warn(" ".join(diagnosis.verdict), TrustWarning, stacklevel=3)
    return diagnosis


def diagnose_draws(posterior: Posterior, draws: Draws) -> Diagnosis:
    import pandas as pd

    chains, length = next(iter(draws.samples.values())).shape[:2]
    rows = {name: site_statistics(values) for name, values in draws.samples.items()}
    identified = {name: row for name, row in rows.items() if posterior.model.identified(name)}
    values = posterior.function_values()
    if values is not None:
        rows["E[y | x]"] = identified["E[y | x]"] = site_statistics(values)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["rhat", "ess_bulk", "ess_tail"])
    table["identified"] = [name in identified for name in rows]

    worst = np.array(list(identified.values()))
    rhat, ess = float(np.nanmax(worst[:, 0])), float(np.nanmin(worst[:, 1:]))
    facts = {"rhat (worst)": rhat, "ess (smallest)": ess} | sampler_facts(draws)
    verdict = (
        cut_short(draws)
        + not_finite(draws)
        + convergence_findings(rhat, ess, chains, has_modes=len(identified) < len(rows))
        + sampler_findings(facts, chains * length, posterior.engine)
    )
    ok = not verdict
    if len(identified) < len(rows):
        note = "Weights are not identified (units can be permuted and mirrored), so their R-hat is not held against the fit."
        verdict.append(note)
    if ok:
        verdict.insert(
            0,
            f"R-hat at most {rhat:.3f} and at least {ess:.0f} effective draws for everything identified.",
        )
    return Diagnosis(ok, tuple(verdict), facts, table)


def site_statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Worst R-hat, smallest bulk and tail ESS over the scalars of a site, shape (chain, draw, ...)."""
    from arviz_stats.base.array import array_stats

    flat = np.asarray(values, dtype=np.float64).reshape(*values.shape[:2], -1)
    if not np.isfinite(flat).all():
        return np.inf, 0.0, 0.0
    flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]  # a constant has neither R-hat nor ESS
    if not flat.shape[-1] or flat.shape[1] < 4:
        return np.nan, np.nan, np.nan
    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    rhat = array_stats.rhat(flat, **axes)
    bulk, tail = (
        array_stats.ess(flat, **axes),
        array_stats.ess(flat, method="tail", prob=0.9, **axes),
    )
    return float(np.max(rhat)), float(np.min(bulk)), float(np.min(tail))


def cut_short(draws: Draws) -> list[str]:
    """A finding for a run that was interrupted."""
    if "interrupted" not in draws.info:
        return []
    return [
        f"The run was interrupted after {draws.info['interrupted']}: go on with post.extend, or from its checkpoint."
    ]


def not_finite(draws: Draws) -> list[str]:
    """A finding for each site with draws that are NaN or infinite."""
    bad = [name for name, values in draws.samples.items() if not np.isfinite(values).all()]
    return [
        f"Site '{name}' has draws that are NaN or infinite: check the program and its data."
        for name in bad
    ]


def sampler_facts(draws: Draws) -> dict[str, float]:
    from arviz_stats.base.array import array_stats

    facts: dict[str, float] = {}
    if "diverging" in draws.stats:
        facts["divergences"] = float(draws.stats["diverging"].sum())
    if "energy" in draws.stats:
        facts["bfmi (smallest)"] = float(
            np.min(array_stats.bfmi(draws.stats["energy"], chain_axis=0, draw_axis=1))
        )
    if "n_steps" in draws.stats:
        facts["leapfrog steps (mean)"] = float(draws.stats["n_steps"].mean())
        if "max_tree_depth" in draws.info:
            facts["saturated trees"] = float(
                (draws.stats["n_steps"] >= 2 ** draws.info["max_tree_depth"] - 1).mean()
            )
    return facts | stochastic_facts(draws)


def stochastic_facts(draws: Draws) -> dict[str, float]:
    """Of samplers with minibatches; see `inference/mcmc/langevin.py`."""
    if "noise_temperature" not in draws.stats:
        return {}
    facts = {"momentum temperature": float(draws.stats["noise_temperature"].mean())}
    if draws.info["stochastic"]:
        ratio = draws.stats["noise_ratio"]
        facts |= {
            "noise ratio (mean)": float(ratio.mean()),
            "clamp fraction": float((ratio > 1).mean()),
        }
        facts["step size shortened to"] = min(draws.info["shortened"])
    if draws.info["temperature"] != 1:
        facts["posterior temperature"] = draws.info["temperature"]
    return facts


def stochastic_findings(facts: dict[str, float], engine: AbstractEngine) -> list[str]:
    findings, asked = [], facts.get("posterior temperature", 1.0)
    heat = facts.get("momentum temperature", asked) / asked - 1
    cure = noise_cure(facts, engine)
    if heat > HEAT_LIMIT:
        findings.append(
            f"The momentum is {100 * heat:.0f} % too hot where gradient noise acts: the noise of minibatches, or too long "
            f"steps, widen the posterior there; {cure}."
        )
    if facts.get("clamp fraction", 0) > CLAMPED_LIMIT:
        findings.append(
            f"At {100 * facts['clamp fraction']:.0f} % of the draws gradient noise was more than friction can balance; {cure}."
        )
    if asked != 1:
        findings.append(
            f"Draws are of p(z | y)^(1/{asked:g}), as temperature={asked:g} was asked for, not of the posterior."
        )
    return findings


def shorter_steps(facts: dict[str, float], engine: AbstractEngine) -> str:
    """The cure of steps that are too long; where warm-up shortened them, a value that is shorter still."""
    factor = facts.get("step size shortened to", 1.0)
    if isinstance(engine, AbstractSGMCMC) and factor < 1:
        return (
            f"lower step_size below {engine.step_size * factor:.2g} (to which warm-up shortened it)"
        )
    return "lower step_size"


def noise_cure(facts: dict[str, float], engine: AbstractEngine) -> str:
    """What to do about gradient noise, of what is not done yet."""
    cures = [shorter_steps(facts, engine)]
    if isinstance(engine, AbstractSGMCMC) and engine.batch_size is not None:
        cures += ["raise batch_size"] + (
            [] if engine.control_variates else ["use control_variates=True"]
        )
    return ", or ".join(cures)


def divergence_cure(facts: dict[str, float], engine: AbstractEngine) -> str:
    """What to do about draws that diverged, in settings that the engine has."""
    if isinstance(engine, AbstractSGMCMC):
        return f"{shorter_steps(facts, engine)}, or reparametrise"
    if isinstance(engine, MCLMC) and not engine.adjusted:
        return "raise num_warmup, which tunes its steps, or use adjusted=True"
    return "raise target_accept towards 0.99, or reparametrise"


def convergence_findings(
    rhat: float, ess: float, chains: int, has_modes: bool = False
) -> list[str]:
    """Findings on R-hat and ESS; `has_modes` says that the posterior has copies of modes, as those of networks."""
    findings = []
    cure = "raise num_warmup and num_samples"
    if has_modes:
        cure += ", unless they sit in different modes, which longer chains do not join: then judge by post.score on held-out data"
    if chains < 2:
        findings.append(
            "There is one chain, so R-hat can miss a chain that is stuck: use num_chains=4."
        )
    if not rhat <= RHAT_LIMIT:
        findings.append(f"R-hat is {rhat:.3f}, above {RHAT_LIMIT}: the chains disagree; {cure}.")
    if not ess >= ESS_PER_CHAIN * chains:
        findings.append(
            f"The smallest effective sample size is {ess:.0f}, below {ESS_PER_CHAIN * chains} ({ESS_PER_CHAIN} per chain): "
            "raise num_samples."
        )
    return findings


def sampler_findings(facts: dict[str, float], total: int, engine: AbstractEngine) -> list[str]:
    findings = []
    if facts.get("divergences", 0) > 0:
        findings.append(
            f"{facts['divergences']:.0f} of {total} draws diverged: the sampler misses part of the posterior; "
            f"{divergence_cure(facts, engine)}."
        )
    if facts.get("saturated trees", 0) > SATURATED_LIMIT:
        findings.append(
            f"{100 * facts['saturated trees']:.0f} % of the trajectories ended at max_tree_depth: sampling is slow; raise it, "
            "or reparametrise."
        )
    if facts.get("bfmi (smallest)", 1) < BFMI_LIMIT:
        findings.append(
            f"The energy fraction BFMI is {facts['bfmi (smallest)']:.2f}, below {BFMI_LIMIT}: tails are explored slowly; "
            "reparametrise, or raise num_warmup."
        )
    return findings + stochastic_findings(facts, engine)


def diagnose_approximation(posterior: Posterior, approximation: Approximation) -> Diagnosis:
    from arviz_stats.base.array import array_stats

    if not approximation.weighable:
        facts = {name: float(approximation.info[name]) for name in ("elbo", "divergence")}
        unknown = (
            f"How close the approximation is to the posterior was not looked at: {PARETO_DRAWS} passes through the data would "
            "take too long. Judge it by post.score on held-out data."
        )
        return Diagnosis(False, (unknown,), facts)
    with precision_scope(posterior.model):
        key = named_key(jax.random.key(posterior.seed), "importance weights")
        log_weights = np.asarray(approximation.log_weights(key, PARETO_DRAWS), dtype=np.float64)
    elbo, error = log_weights.mean(), log_weights.std() / np.sqrt(PARETO_DRAWS)
    k = 0.0 if np.ptp(log_weights) < EQUAL else np.inf
    if EQUAL <= np.ptp(log_weights) < np.inf:
        k = float(
            array_stats.psislw(-log_weights)[1]
        )  # it takes log q - log p, minus the log weights
    weights = np.exp(log_weights - log_weights.max())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    facts = {
        "pareto k": k,
        "effective draws of 1000": effective,
        "elbo": float(elbo),
        "elbo standard error": float(error),
    }
    program = "the linearised network" if approximation.expansion is not None else "the model"
    if not approximation.info.get("converged", True):
        note = "The search for the mode did not converge: raise max_steps and num_rounds."
        return Diagnosis(False, (note,), facts)
    objective = approximation.info.get("objective", "elbo")
    note = () if objective == "elbo" else (f"The objective was {objective}, not the ELBO.",)
    start = approximation.info.get("elbo_at_start", -np.inf)
    if elbo < start - 4 * error:
        fell = f"The ELBO fell from {start:.4g} to {elbo:.4g}: the objective is not one to be maximised. Look at its sign."
        return Diagnosis(False, (fell, *note), facts)
    if k <= PARETO_LIMIT and effective < EFFECTIVE_LIMIT:
        wide = (
            f"{PARETO_DRAWS} draws are worth {effective:.0f} of the posterior of {program}: the approximation is much wider "
            "than it, or lies beside it. Look at the sign of the objective, and at post.raw.losses."
        )
        return Diagnosis(False, (wide, *note), facts)
    if k <= PARETO_LIMIT:
        close = f"Pareto k is {k:.2f}: the approximation is close to the posterior of {program}, where it has mass."
        return Diagnosis(True, (close, *note), facts)
    verdict = [
        f"Pareto k is {k:.2f}, above {PARETO_LIMIT}: the approximation is not close to the posterior of {program}."
    ]
    verdict.append(
        "Predictions may still be useful: judge them by post.score on held-out data, or fit with bdl.NUTS()."
    )
    return Diagnosis(False, (*verdict, *note), facts)


def diagnose_predictor(posterior: Posterior) -> Diagnosis:
    facts = {
        k: float(v)
        for k, v in posterior.raw.info.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }
    if not posterior.raw.info.get("converged", True):
        note = "The search for hyperparameters did not converge: raise the number of steps or of restarts."
        return Diagnosis(False, (note,), facts)
    outside = tuple(
        f"The data are outside what the engine can answer: {what}."
        for what in posterior.raw.info.get("outside", ())
    )
    doubts = tuple(posterior.raw.info.get("doubts", ()))
    return Diagnosis(
        not (outside or doubts),
        (*outside, *doubts, f"The answer is {posterior.raw.info['answer']}."),
        facts,
    )


def function_values(posterior: Posterior, max_rows: int) -> np.ndarray | None:
    """E[y | x, z] at training rows for each draw, shape (chain, draw, values); None without a mean or data."""
    if not posterior.problem.observed:
        return None
    args, kwargs = posterior.model.training_inputs(posterior.problem)
    if posterior.model.rows_are_independent:
        rows = np.linspace(0, len(args[0]) - 1, min(max_rows, len(args[0]))).astype(int)
        args = tuple(np.asarray(arg)[rows] for arg in args)
    chains, length = next(iter(posterior.samples.values())).shape[:2]
    is_class = posterior.model.target(posterior.schema, posterior.problem).kind == "class"
    with precision_scope(posterior.model):
        stream = Stream(
            posterior.predictive,
            posterior.latent_draws,
            0,
            args,
            kwargs,
            None,
            1,
            is_double(posterior.model),
        )
        try:
            values = stream.map(probabilities if is_class else means)
        except NotImplementedError:
            return None
    return values.reshape(chains, length, -1)[..., :1000]
