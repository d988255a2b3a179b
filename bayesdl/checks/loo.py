"""Leave-one-out cross-validation from one fit, by Pareto-smoothed importance sampling (PSIS-LOO).

    elpd = sum over rows of log p(y_i | y_-i)
    p(y_i | y_-i) = E[p(y_i | z) w_i(z)] / E[w_i(z)],    w_i = 1 / p(y_i | z)

over draws z ~ p(z | y), the largest weights replaced by quantiles of a generalised Pareto
distribution fitted to them. Its shape k says whether the weights can be trusted (Vehtari, Gelman
and Gabry 2017, arXiv:1507.04544; Vehtari et al. 2024, arXiv:1507.02646). All of it is arviz-stats';
here the log densities are made, in the units of y, and rows go in blocks.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float

from bayesdl.checks.convergence import disagreeing_chains
from bayesdl.checks.densities import need_draws
from bayesdl.checks.rows import rows_of
from bayesdl.data.validation import DataError
from bayesdl.interop import arviz
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import DataFrame, Weighting
from bayesdl.warnings import TrustWarning, distrust

if TYPE_CHECKING:
    Comparable: TypeAlias = Mapping[str, "AbstractPosterior | LeaveOneOut"]
else:
    # what users give is validated here, with errors that say the cure
    Comparable = object

# rows named in a verdict
SHOWN = 5
EFFICIENCY_ROWS = 100


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut:
    """The expected log predictive density of new rows like the training rows.

    Attributes:
        ok: whether every row's term is finite, its Pareto k at or below the threshold, and no
            chain is stuck.
        verdict: one sentence per finding, the cure included.
        elpd: sum over rows of log p(y_i | y_-i), natural logarithm, density in the units of y.
        se: its standard error over rows.
        p: the effective number of parameters, log p(y_i | y) - log p(y_i | y_-i) summed over rows.
        pointwise: the term of each row.
        pareto_k: the Pareto k of each row.
        threshold: the threshold of k, min(1 - 1 / log10(draws), 0.7).
        observed: the targets.
        raw: arviz-stats' result.
    """

    ok: bool
    verdict: tuple[str, ...]
    elpd: float
    se: float
    p: float
    pointwise: Float[np.ndarray, "rows"]
    pareto_k: Float[np.ndarray, "rows"]
    threshold: float
    observed: np.ndarray
    raw: Any

    def __repr__(self) -> str:
        lines = [f"- {line}" for line in self.verdict]
        numbers = f"elpd_loo {self.elpd:.2f} ± {self.se:.2f}   p_loo {self.p:.2f}"
        return "\n".join([f"{numbers}   rows {len(self.pareto_k)}", *lines])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self.verdict)
        numbers = (
            f"elpd<sub>loo</sub> {self.elpd:.2f} ± {self.se:.2f}, p<sub>loo</sub> {self.p:.2f}, "
            f"{len(self.pareto_k)} rows"
        )
        return f"<p><b>{numbers}</b></p><ul>{items}</ul>"


def loo(posterior: AbstractPosterior, site: str | None = None) -> LeaveOneOut:
    """Estimate PSIS-LOO of the training rows, and warn where it is not to be trusted.

    A row is what the model takes as one: a row of X and y; of a NumPyro function an index of the
    plates around the observed site, or else an entry of the site's batch shape (see
    `bayesdl.checks.rows`). Sites in the same plates share their rows. Where one multivariate normal
    holds all rows (a Gaussian process) p(y_i | y_-i, z) stands for p(y_i | z) (Bürkner, Gabry and
    Vehtari 2021, arXiv:1810.10559).

    Args:
        posterior: the posterior, with draws.
        site: the observed site whose rows are left out; by default all of them.

    Raises:
        ValueError: for an approximation or a predictor, or where there are fewer than two rows.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 30)
        >>> model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.3))
        >>> engine = bdl.NUTS(num_warmup=200, num_samples=500, num_chains=2)
        >>> y = x + 0.3 * np.sin(40 * x)
        >>> loo(bdl.fit(model, x[:, None], y, engine=engine, progress=False)).ok
        True
    """
    result = estimate_loo(posterior, site)
    if not result.ok:
        distrust(result, " ".join(result.verdict), stacklevel=3)
    return result


def estimate_loo(posterior: AbstractPosterior, site: str | None = None) -> LeaveOneOut:
    """Estimate `loo` without a warning."""
    need_draws(posterior, "leave-one-out")
    if posterior.adjustment is not None:
        raise ValueError(
            f"{posterior!r}: leave-one-out judges the model, and its predictions are adjusted. "
            "Use the posterior as `fit` gave it, or post.score on held-out data."
        )
    rows = rows_of(posterior, site)
    parts = iter(rows.blocks)
    first = next(parts)
    if first.shape[-1] < 2:
        raise ValueError(
            "Leave-one-out needs at least two rows, and the observed site is one event: write it "
            "inside `with numpyro.plate('rows', n):`, so that its log density has an entry per row."
        )
    raw = arviz.psis_loo(itertools.chain([first], parts), _relative_efficiency(first))
    terms, k, labels = raw.elpd_i.values, raw.pareto_k.values, rows.labels
    chains = disagreeing_chains(posterior)
    remarks = [str(finding) for finding in chains if finding.severity == "note"]
    doubts = [
        *(str(finding) for finding in chains if finding.severity != "note"),
        *_not_finite(terms, labels),
        *_large_k(k, raw.good_k, labels),
    ]
    what = "the weights" if remarks else "elpd"
    return LeaveOneOut(
        not doubts,
        (*remarks, *(doubts or [_praise(k, raw.good_k, what)]), *rows.notes),
        raw.elpd,
        raw.se,
        raw.p,
        terms,
        k,
        raw.good_k,
        rows.observed,
        raw,
    )


def _relative_efficiency(block: Float[np.ndarray, "chain draw rows"]) -> float:
    """Compute effective draws over draws, of the densities p(y_i | z) of some rows.

    The number of tail weights depends on it.
    """
    from arviz_stats.base.array import array_stats

    chains, draws, rows = block.shape
    some = block[..., np.linspace(0, rows - 1, min(rows, EFFICIENCY_ROWS)).astype(int)]
    some = some[..., np.isfinite(some).all((0, 1))]
    some = some[..., np.ptp(some, axis=(0, 1)) > 0]
    if draws < 4 or not some.shape[-1]:
        return 1.0
    densities = np.exp(some - some.max((0, 1)))
    return float(
        np.mean(array_stats.ess(densities, method="mean", chain_axis=0, draw_axis=1))
        / (chains * draws)
    )


def _praise(k: Float[np.ndarray, "rows"], threshold: float, what: str) -> str:
    """Say that the Pareto k of all rows can be trusted."""
    if k.max() == -np.inf:
        return f"The weights of all {len(k)} rows are bounded: {what} can be trusted."
    return (
        f"All {len(k)} rows have Pareto k at most {threshold:.2f} (the largest is {k.max():.2f}): "
        f"{what} can be trusted."
    )


def _not_finite(terms: Float[np.ndarray, "rows"], labels: Sequence[object]) -> list[str]:
    """Say which rows have no finite term."""
    bad = np.flatnonzero(~np.isfinite(terms))
    if not bad.size:
        return []
    verb = "has" if bad.size == 1 else "have"
    return [
        f"{bad.size} of {len(terms)} rows {verb} a log density that is NaN or infinite at some "
        f"draws ({_named_rows(bad, labels)}), so elpd is no number: look whether the likelihood "
        "can make these targets at every draw, and whether the targets are finite."
    ]


def _large_k(k: Float[np.ndarray, "rows"], threshold: float, labels: Sequence[object]) -> list[str]:
    """Say which rows have a Pareto k that cannot be trusted."""
    bad = np.flatnonzero(~(k <= threshold))
    if not bad.size:
        return []
    worst = bad[np.argsort(-k[bad], kind="stable")]
    return [
        f"{bad.size} of {len(k)} rows have Pareto k above {threshold:.2f} "
        f"({_named_rows(worst, labels)}; the largest is {np.max(k):.2f}): without such a row the "
        "posterior is another one, and elpd cannot be trusted.",
        "Look at these rows; take a likelihood with heavier tails, e.g. bdl.StudentT(), or tighter "
        "priors; or hold rows out and use post.score.",
    ]


def _named_rows(rows: np.ndarray, labels: Sequence[object]) -> str:
    """Return the names of the first rows, as words."""
    shown = ", ".join(str(labels[row]) for row in rows[:SHOWN])
    return f"rows {shown}{', ...' if rows.size > SHOWN else ''}"


def compare(posteriors: Comparable, method: Weighting = "stacking") -> DataFrame:
    """Rank models by their expected log predictive density, estimated by PSIS-LOO, best first.

    Args:
        posteriors: posteriors by name, or their `post.loo()`; all of the same targets in the same
            units.
        method: how weights are computed: "stacking" (Yao et al. 2018, arXiv:1704.02030),
            "BB-pseudo-BMA" or "pseudo-BMA".

    Returns:
        arviz-stats' table: rank, elpd, p (effective parameters), elpd_diff (to the best) with its
        standard error dse, weight, se, and warning where a Pareto k is above the threshold.

    Raises:
        ValueError: for fewer than two models, other than posteriors, or posteriors without draws.
        DataError: where targets differ.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 30)
        >>> model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.3))
        >>> small = model.with_prior(bdl.priors.Gaussian(0.01))
        >>> engine = bdl.NUTS(num_warmup=200, num_samples=500, num_chains=2)
        >>> data = x[:, None], x + 0.3 * np.sin(40 * x)
        >>> wide, narrow = (
        ...     bdl.fit(m, *data, engine=engine, progress=False) for m in (model, small)
        ... )
        >>> compare({"wide": wide, "narrow": narrow}).index.tolist()
        ['wide', 'narrow']
    """
    if not isinstance(posteriors, Mapping) or len(posteriors) < 2:
        raise ValueError(
            "compare takes a dictionary of at least two posteriors by name, e.g. {'linear': a, "
            "'network': b}."
        )
    for name, entry in posteriors.items():
        if not isinstance(entry, AbstractPosterior | LeaveOneOut):
            raise ValueError(
                f"compare: {name!r} is a {type(entry).__name__}, expected a posterior or its "
                "post.loo()."
            )
    if str(method).lower() not in ("stacking", "bb-pseudo-bma", "pseudo-bma"):
        raise ValueError(
            f"method={method!r}: expected 'stacking', 'BB-pseudo-BMA' or 'pseudo-BMA'."
        )
    found = {
        name: estimate_loo(entry) if isinstance(entry, AbstractPosterior) else entry
        for name, entry in posteriors.items()
    }
    _same_targets(found)
    for name, result in found.items():
        if not result.ok:
            warnings.warn(f"{name}: {result.verdict[0]}", TrustWarning, stacklevel=2)
    return arviz.compare({name: result.raw for name, result in found.items()}, method)


def _same_targets(found: dict[str, LeaveOneOut]) -> None:
    """Refuse results of other targets: their densities cannot be compared."""
    (first, reference), *rest = found.items()
    y, terms = reference.observed, len(reference.pareto_k)
    for name, result in rest:
        if (
            len(result.pareto_k) != terms
            or result.observed.size != y.size
            or not _agree(result.observed, y)
        ):
            raise DataError(
                f"{first!r} and {name!r} were fitted to different targets ({terms} and "
                f"{len(result.pareto_k)} rows): log densities can be compared for the same rows in "
                "the same units and order only."
            )


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of targets are the same but for rounding."""
    if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
        return bool(np.allclose(a.ravel(), b.ravel(), rtol=1e-5, atol=1e-6 * np.abs(b).max()))
    return bool(np.array_equal(a.ravel(), b.ravel()))
