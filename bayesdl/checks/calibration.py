"""Simulation-based calibration: whether an engine samples from the posterior that the model states.

For z from the prior and y from the model given z, the rank of any quantity q(z, y) among its values
at L independent draws of the posterior given y is uniform on 0, ..., L (Talts et al. 2018,
arXiv:1804.06788). The quantities are the scalars of the sites that data can identify, the means of
some rows where there is a table, and the log density itself, which sees errors that no single
parameter shows (Modrak et al. 2023, arXiv:2211.02383).

Uniformity is judged by the distribution function of the ranks: with u_i = (rank_i + U_i) / (L + 1),
U_i uniform, the statistic is the smallest two-sided binomial tail probability over the points j / n
(Säilynoja, Bürkner and Vehtari 2022, arXiv:2103.10522). Its p-value is exact, however small: it is
the probability that the counts of n uniform numbers leave the band of all counts with a larger
tail.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from bayesdl.checks.prior import refuse_unnormalised
from bayesdl.data.validation import DataError
from bayesdl.engines import check_supported, resolve_engine
from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.typing import EngineLike, Integer, ProgressLike
from bayesdl.warnings import deprecated, distrust
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.progress import as_progress
from inference.mcmc.hmc import NUTS

# level of the test over all quantities
LEVEL = 0.01
# rows of a table whose means are quantities
ROWS = 3
# effective draws per draw below which ranks are not to be believed
LEAST_EFFICIENCY = 0.5


class CalibrationWarning(UserWarning):
    """An engine whose ranks are not uniform, or ranks that cannot be believed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the truth among posterior draws.

    Attributes:
        ranks: the ranks by quantity, shape (simulations,), from 0 to num_draws; simulations that
            are not finite are left out.
        num_draws: the number of draws L.
        p_values: the p-values of uniformity, by quantity.
        efficiency: effective draws per draw, the median over simulations and the worst quantity.
        bad_truths: the number of simulations left out because the drawn parameters or data, or
            their log density, are NaN or infinite.
        bad_chains: the number of simulations left out because the chain's draws, or their log
            density, are NaN or infinite.
        divergences: the share of all draws that diverged.
    """

    ranks: dict[str, np.ndarray]
    num_draws: int
    p_values: dict[str, float]
    efficiency: float
    bad_truths: int = 0
    bad_chains: int = 0
    divergences: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether ranks can be believed and no p-value is below 0.01 / number of quantities."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """What speaks against the engine, or that nothing does."""
        return (
            " ".join(self.findings)
            or f"Calibrated as far as {self.num_ranked} simulations can tell: ranks look uniform."
        )

    @property
    def num_ranked(self) -> int:
        """The number of simulations that have ranks."""
        return len(next(iter(self.ranks.values())))

    @property
    @deprecated("result.num_ranked")
    def kept(self) -> int:
        """The old name of `num_ranked`."""
        return self.num_ranked

    @property
    def findings(self) -> list[str]:
        """A sentence for each reason why the engine is not found calibrated."""
        if self.bad_truths or self.bad_chains:
            return self.not_finite()
        if np.isnan(self.efficiency):
            return [
                f"Ranks cannot be believed: {self.num_draws} draws are too few to tell whether "
                "they depend; raise num_samples."
            ]
        if self.efficiency < LEAST_EFFICIENCY:
            return [
                f"Ranks cannot be believed: {self.efficiency:.2f} effective draws per draw, "
                f"expected at least {LEAST_EFFICIENCY}; raise thinning, or num_warmup where chains "
                "do not mix."
            ]
        limit = LEVEL / len(self.p_values)
        bad = [name for name, p in self.p_values.items() if not p >= limit]
        if not bad:
            return []
        names = ", ".join(bad)
        return [f"NOT calibrated: the ranks of {names} are not uniform (p below {limit:.2g})."]

    def not_finite(self) -> list[str]:
        """Describe the simulations left out, without which the others say little."""
        total, found = self.num_ranked + self.bad_truths + self.bad_chains, []
        if self.bad_truths:
            found.append(
                f"Ranks cannot be believed: {self.bad_truths} of {total} simulations, or their log "
                "density, are NaN or infinite; give priors whose data can be computed (see "
                "bdl.prior_predictive)."
            )
        if self.bad_chains:
            found.append(
                f"Ranks cannot be believed: draws of {self.bad_chains} of {total} chains, or their "
                "log density, are NaN or infinite; shorten the engine's steps, or give it another "
                "start."
            )
        return found

    def __repr__(self) -> str:
        rows = [f"  {name:<28}p = {p:.3g}" for name, p in self.p_values.items()]
        if self.divergences:
            rows.append(f"  {100 * self.divergences:.2g} % of the draws diverged")
        return "\n".join([self.verdict, *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{p:.3g}</td></tr>"
            for name, p in self.p_values.items()
        )
        head = "<tr><th>quantity</th><th>p of uniform ranks</th></tr>"
        return f"<b>{html.escape(self.verdict)}</b><table>{head}{rows}</table>"


def sbc(
    model: Any,
    *data: Any,
    engine: EngineLike = NUTS(num_warmup=300, num_samples=60, thinning=5),
    num_simulations: Integer = 200,
    seed: Integer = 0,
    progress: ProgressLike = True,
    **named_data: Any,
) -> Calibration:
    """Check an engine on a model by simulation (Talts et al. 2018, arXiv:1804.06788).

    Args:
        model: the model, as in `fit`.
        *data: the data, as in `fit`; observed values only tell shapes, as new ones are simulated.
        engine: an engine of Markov chains; each simulated data set gets one chain. Thinning makes
            its draws independent.
        num_simulations: the number of simulated data sets.
        seed: the seed of all randomness.
        progress: whether to show a progress bar, or what shows it.
        **named_data: keyword arguments of a NumPyro function.

    Returns:
        Ranks and their p-values; a warning is given where they are not uniform.

    Raises:
        UnsupportedError: for an engine that does not draw samples.
        ModelError: for an improper prior, or a program with factors, as neither can be simulated
            from.
        DataError: where nothing is observed.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> def coin(y):
        ...     p = numpyro.sample("p", dist.Beta(2, 2))
        ...     numpyro.sample("y", dist.Bernoulli(p).expand([5]).to_event(1), obs=y)
        >>> result = sbc(coin, np.zeros(5), num_simulations=20, progress=False)
        >>> sorted(result.ranks)
        ['log density', 'p']
    """
    if num_simulations < 20:
        raise ValueError(
            f"sbc(num_simulations={num_simulations}): expected at least 20; fewer say nothing."
        )
    spec = as_model(model)
    with precision_scope(spec):
        problem = spec.learn(*data, **named_data)[1]
        chosen = resolve_engine(engine, problem)[0]
        problem = chosen.pose(problem)
        check_supported(chosen.for_many(), problem)
        refuse_unnormalised(problem)
        if not problem.observed:
            raise DataError(
                "Nothing is observed, so there are no data to simulate: give observations as in "
                "bdl.fit."
            )
        key = jax.random.key(seed)
        truth = jax.jit(jax.vmap(problem.prior_sample))(
            jax.random.split(named_key(key, "truth"), num_simulations)
        )
        observed = {name: truth[name] for name in problem.observed}
        draws, diverging = chosen.infer_many(
            problem, observed, key=named_key(key, "chains"), progress=as_progress(progress)
        )
        latents = {name: np.asarray(truth[name])[:, None] for name in problem.latents}
        drawn = {name: draws[name] for name in problem.latents}
        measure = _quantities(spec, problem)
        true, found = (
            _flat(jax.tree.map(np.asarray, measure(values, observed)))
            for values in (latents, drawn)
        )
    result = judge(true, found, np.random.default_rng(seed), float(diverging.mean()))
    if not result.ok:
        distrust(result, result.verdict, 2, CalibrationWarning)
    return result


def _quantities(model: AbstractModel, problem: Problem) -> Callable[[dict, dict], dict]:
    """Return a function that computes the quantities by name.

    It takes sites of shape (data set, draw, ...), and observed values of shape (data set, ...).
    """
    identified = [name for name in problem.latents if model.identified(name)]
    args, kwargs = model.training_inputs(problem)
    predictive = model.predictive(problem) if model.rows_are_independent else None

    def one(sites: dict, observed: dict) -> dict:
        posed = problem.with_observations(observed)
        values = {name: sites[name] for name in identified}
        if predictive is not None:
            rows = np.linspace(0, len(args[0]) - 1, ROWS).astype(int)
            values["E[y | x]"] = predictive(
                sites, jax.random.key(0), *(arg[rows] for arg in args), **kwargs
            ).distribution.mean
        return values | {"log density": posed.log_density_at(posed.to_unconstrained(sites))}

    over_draws = jax.vmap(one, (0, None))
    return jax.jit(
        lambda sites, observed: jax.lax.map(lambda both: over_draws(*both), (sites, observed))
    )


def _flat(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the scalars by name, shape (data set, draw)."""
    scalars = {}
    for name, value in values.items():
        for index in np.ndindex(value.shape[2:]):
            scalars[name + (f"[{','.join(map(str, index))}]" if index else "")] = value[
                (..., *index)
            ].astype(np.float64)
    return scalars


def judge(
    true: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    rng: np.random.Generator,
    divergences: float = 0.0,
) -> Calibration:
    """Compute ranks, their p-values and the efficiency of the draws.

    Simulations in which not all numbers are finite are left out.
    """
    right, drawn = _finite(true), _finite(found)
    keep = right & drawn
    num_draws = next(iter(found.values())).shape[1]
    ranks = {name: _ranked(true[name][keep], found[name][keep], rng) for name in true}
    p_values = {name: uniformity(rank, num_draws, rng) for name, rank in ranks.items()}
    efficiency = (
        min(_efficiency_of(rows[keep]) for rows in found.values()) if keep.any() else np.nan
    )
    return Calibration(
        ranks,
        num_draws,
        p_values,
        efficiency,
        int(np.sum(~right)),
        int(np.sum(right & ~drawn)),
        divergences,
    )


def _finite(values: dict[str, np.ndarray]) -> np.ndarray:
    """Whether all quantities of a simulation are finite, shape (simulations,)."""
    return np.all([np.isfinite(rows).all(axis=1) for rows in values.values()], axis=0)


def _ranked(true: np.ndarray, found: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the ranks of true, shape (n, 1), among found, shape (n, draws).

    Ties are broken at random, so that ranks stay uniform.
    """
    below, ties = np.sum(found < true, axis=1), np.sum(found == true, axis=1)
    return below + rng.integers(0, ties + 1)


def _efficiency_of(rows: np.ndarray) -> float:
    """Return effective draws per draw of chains, shape (n, draws): the median over chains."""
    from arviz_stats.base.array import array_stats

    return float(
        np.median([array_stats.ess(row[None], chain_axis=0, draw_axis=1) for row in rows])
        / rows.shape[1]
    )


def transform(
    ranks: Int[np.ndarray, "n"], num_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "n"]:
    """Compute (rank + U) / (L + 1), uniform on (0, 1) where ranks are uniform."""
    return (ranks + rng.uniform(size=ranks.shape)) / (num_draws + 1)


def uniformity(ranks: Int[np.ndarray, "n"], num_draws: int, rng: np.random.Generator) -> float:
    """Compute the exact p-value of uniform ranks.

    The statistic is the smallest pointwise binomial tail of their distribution function.
    """
    # one rank says nothing
    if len(ranks) < 2:
        return 1.0
    return leaves_band(*band(smallest_tail(transform(ranks, num_draws, rng)), len(ranks)))


def smallest_tail(u: Float[np.ndarray, "n"]) -> float:
    """Compute the minimum over points x of min(P(K <= k), P(K >= k)).

    Here k is the number of u below x, and K ~ Binomial(n, x).
    """
    from scipy.special import bdtr

    n = len(u)
    x = np.arange(1, n) / n
    k = np.searchsorted(np.sort(u), x)
    # P(K >= k) is that of n - K, with 1 - x
    return float(np.minimum(bdtr(k, n, x), bdtr(n - k, n, x[::-1])).min())


def band(tail: float, n: int) -> tuple[Int[np.ndarray, "points"], Int[np.ndarray, "points"]]:
    """Return the smallest and largest counts at j / n whose tails are both larger than `tail`."""
    from scipy.special import bdtr
    from scipy.stats import binom

    # equal tails differ by rounding
    x, tail = np.arange(1, n) / n, tail * (1 + 1e-9)
    low = binom.ppf(tail, n, x).astype(int)
    low += bdtr(low, n, x) <= tail
    return low, n - low[::-1]


def leaves_band(low: Int[np.ndarray, "points"], high: Int[np.ndarray, "points"]) -> float:
    """Compute the probability that counts of n uniform numbers leave a band.

    It is the probability that for some j the number of them below j / n is outside low[j - 1], ...,
    high[j - 1]. Given their sum n, independent Poisson(1) numbers are the counts of n uniform
    numbers in n equal cells. So the distribution of the counts still inside is carried from point
    to point, and what leaves is added up: sums of positive numbers, exact for small probabilities
    too.
    """
    from scipy.special import gammaln, xlogy

    def poisson(k: np.ndarray, mean: int) -> np.ndarray:
        return np.exp(xlogy(k, mean) - mean - gammaln(k + 1))

    n = len(low) + 1
    k = np.arange(n + 1)
    cell = poisson(k, 1)
    # the rest is below the smallest number
    cell = cell[: np.count_nonzero(cell)]
    # probabilities of the counts first, first + 1, ...
    inside, first, left = np.ones(1), 0, 0.0
    for j in range(1, n):
        reached = np.convolve(inside, cell)[: n + 1 - first]
        counts = k[first : first + len(reached)]
        outside = (counts < low[j - 1]) | (counts > high[j - 1])
        left += np.sum(reached[outside] * poisson(n - counts[outside], n - j))
        inside = reached[~outside]
        if not len(inside):
            break
        first = counts[~outside][0]
    return float(min(left / poisson(k[-1:], n)[0], 1.0))
