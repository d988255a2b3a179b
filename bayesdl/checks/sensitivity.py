"""Sensitivity of the posterior to the prior and to the likelihood, by power scaling.

    p_a(z | y) proportional to p(z)^a p(y | z),    and likewise with p(y | z)^a

For a = 0.99 and 1.01 the draws are reweighted by p(z)^(a - 1), the weights Pareto-smoothed. The
sensitivity of a parameter is the cumulative Jensen-Shannon distance between its old and its new
marginal per log2 a (Kallioinen et al. 2024, arXiv:2107.14054), computed by arviz-stats. At 0.05 and
above it counts: to the prior alone, the prior is strong or the data are weak; to both, prior and
data may be in conflict.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Collection, Sequence

from bayesdl.checks.convergence import disagreeing_chains
from bayesdl.checks.densities import log_likelihood, log_prior, need_draws
from bayesdl.interop.arviz import psense
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import DataFrame, StoredArrays

# from which on a sensitivity counts
THRESHOLD = 0.05
FUNCTION = "E[y | x]"
FUNCTION_ROWS = 3


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sensitivity:
    """How much prior and likelihood move each parameter.

    Attributes:
        ok: whether no parameter is flagged.
        verdict: one sentence per finding.
        table: arviz-stats' table: per parameter its sensitivity to prior and likelihood, and a
            diagnosis.
    """

    ok: bool
    verdict: tuple[str, ...]
    table: DataFrame

    def __repr__(self) -> str:
        return "\n".join(
            [
                self.table.to_string(float_format="{:.3f}".format),
                *(f"- {line}" for line in self.verdict),
            ]
        )

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self.verdict)
        return self.table.to_html(float_format="{:.3f}".format) + f"<ul>{items}</ul>"


def sensitivity(
    posterior: AbstractPosterior,
    sites: str | Sequence[str] | None = None,
    priors: str | Sequence[str] | None = None,
) -> Sensitivity:
    """Measure how sensitive parameters are to scaling the prior and the likelihood.

    Args:
        posterior: the posterior, with draws.
        sites: the names of the parameters; by default those that the data identify, and where
            there are others (weights of a network) the function values E[y | x] at three training
            rows for them.
        priors: the sites whose priors are scaled, together; by default all latent sites. In a
            hierarchical model give the top-level ones: scaling p(theta | tau) and p(tau) together
            mixes two questions.

    Raises:
        ValueError: for an approximation or a predictor, unknown sites, or a program without
            observed sites.

    Example:
        >>> import numpyro, numpyro.distributions as dist, numpy as np, bayesdl as bdl
        >>> def program(y=None):
        ...     mu = numpyro.sample("mu", dist.Normal(0, 1))
        ...     with numpyro.plate("rows", 10):
        ...         numpyro.sample("y", dist.Normal(mu, 1), obs=y)
        >>> engine = bdl.NUTS(num_warmup=200, num_samples=500, num_chains=2)
        >>> post = bdl.fit(program, y=np.linspace(5, 7, 10), engine=engine, progress=False)
        >>> # the prior says 0 and the data say 6
        >>> sensitivity(post).table["diagnosis"].tolist()
        ['potential prior-data conflict']
    """
    need_draws(posterior, "power scaling")
    if not posterior.problem.observed:
        raise ValueError(
            "The program observes nothing, so there is no likelihood to scale: give the "
            "observations in bdl.fit."
        )
    scaled = _check_names(priors, "prior", posterior.problem.latents) or list(
        posterior.problem.latents
    )
    terms = log_prior(posterior)
    table = psense(
        _parameters(posterior, sites),
        {site: terms[site] for site in scaled},
        log_likelihood(posterior),
        THRESHOLD,
    )
    flagged = [
        *(str(found) for found in disagreeing_chains(posterior) if found.severity != "note"),
        *_describe_flagged(table),
        *_describe_unknown(table),
    ]
    return Sensitivity(
        not flagged,
        tuple((flagged or [_describe_none(table)]) + _describe_factors(posterior)),
        table,
    )


def _parameters(posterior: AbstractPosterior, sites: str | Sequence[str] | None) -> StoredArrays:
    """Return draws of the parameters, shape (chain, draw, ...)."""
    samples = posterior.samples
    if chosen := _check_names(sites, "site", samples):
        return {site: samples[site] for site in chosen}
    identified = {site: values for site, values in samples.items() if posterior.model.shows(site)}
    values = posterior.function_values(FUNCTION_ROWS) if len(identified) < len(samples) else None
    return (identified if values is None else identified | {FUNCTION: values}) or samples


def _check_names(names: str | Sequence[str] | None, kind: str, among: Collection[str]) -> list[str]:
    """Return the names as a list, empty for None.

    Raises:
        ValueError: for a name that is not among the known ones.
    """
    chosen: list[str] = [names] if isinstance(names, str) else list(names or [])
    unknown = [name for name in chosen if name not in among]
    if unknown:
        raise ValueError(f"No {kind} {unknown[0]!r}: expected some of {list(among)}.")
    return chosen


def _describe_flagged(table: DataFrame) -> list[str]:
    """Return a sentence for each flagged parameter."""
    found = []
    for name, row in table[table["diagnosis"].str.startswith("potential")].iterrows():
        numbers = f"prior {row['prior']:.2f}, likelihood {row['likelihood']:.2f}"
        if "conflict" in row["diagnosis"]:
            found.append(
                f"{name}: prior and data both move it and may be in conflict ({numbers}): check "
                "what the prior says."
            )
        else:
            found.append(
                f"{name}: the prior decides and the data say little ({numbers}): say so, or "
                "gather more data."
            )
    return found


def _describe_unknown(table: DataFrame) -> list[str]:
    """Say which sensitivities are no number."""
    unknown = table.index[table[["prior", "likelihood"]].isna().any(axis=1)].tolist()
    if not unknown:
        return []
    return [
        f"{', '.join(map(str, unknown[:5]))}: the sensitivity cannot be computed, as the draws are "
        "all equal or the log density is not finite; see post.diagnose()."
    ]


def _describe_none(table: DataFrame) -> str:
    """Say that no parameter is flagged."""
    worst = table["prior"].max()
    return (
        f"No parameter is sensitive to the prior: the largest sensitivity is {worst:.3f}, below "
        f"{THRESHOLD}."
    )


def _describe_factors(posterior: AbstractPosterior) -> list[str]:
    """Say which terms are neither prior nor likelihood."""
    return [
        f"The factor {name!r} is scaled neither as prior nor as likelihood."
        for name in posterior.problem.factors
    ]
