"""Simulation-based calibration: whether an engine samples from the posterior that the model states.

For z from the prior and y from the model given z, the rank of any quantity q(z, y) among its values at L independent draws
of the posterior given y is uniform on 0, ..., L (Talts et al. 2018, arXiv:1804.06788). The quantities are the scalars of
the sites that data can identify, the means of some rows where there is a table, and the log density itself, which sees
errors that no single parameter shows (Modrak et al. 2023, arXiv:2211.02383).

Uniformity is judged by the distribution function of the ranks: with u_i = (rank_i + U_i) / (L + 1), U_i uniform, the
smallest two-sided binomial tail probability over all points is compared with simulations under uniformity (Säilynoja,
Bürkner and Vehtari 2022, arXiv:2103.10522).
"""

from __future__ import annotations

import dataclasses
import functools
import html
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from bayesdl.engines import require
from bayesdl.model import AbstractModel, AbstractTableModel, as_model
from bayesdl.precision import precision_of
from inference.engine import UnsupportedError
from inference.keys import named
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.hmc import NUTS
from inference.mcmc.many import infer_many
from inference.problem import Problem
from inference.progress import as_progress

LEVEL = 0.01  # of the test over all quantities
NULL_SIMULATIONS = 2000
ROWS = 3  # of a table whose means are quantities
LEAST_EFFICIENCY = 0.5  # effective draws per draw below which ranks are not to be believed


class CalibrationWarning(UserWarning):
    """An engine whose ranks are not uniform, or ranks that cannot be believed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the truth among posterior draws.

    Attributes:
        ranks: by quantity, shape (simulations,), from 0 to num_draws.
        num_draws: L.
        p_values: of uniformity, by quantity.
        efficiency: effective draws per draw, the median over simulations and the worst quantity.
        ok: whether no p-value is below `LEVEL` divided by the number of quantities, and draws are independent enough.
    """

    ranks: dict[str, np.ndarray]
    num_draws: int
    p_values: dict[str, float]
    efficiency: float
    ok: bool

    @property
    def verdict(self) -> str:
        """One sentence."""
        limit = LEVEL / len(self.p_values)
        bad = [name for name, p in self.p_values.items() if p < limit]
        if self.efficiency < LEAST_EFFICIENCY:
            return (
                f"Ranks cannot be believed: {self.efficiency:.2f} effective draws per draw, expected at least "
                f"{LEAST_EFFICIENCY}; raise thinning, or num_warmup where chains do not mix."
            )
        if bad:
            return f"NOT calibrated: the ranks of {', '.join(bad)} are not uniform (p below {limit:.2g})."
        return f"Calibrated as far as {len(next(iter(self.ranks.values())))} simulations can tell: all ranks look uniform."

    def __repr__(self) -> str:
        rows = [f"  {name:<28}p = {p:.3g}" for name, p in self.p_values.items()]
        return "\n".join([self.verdict, *rows])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{p:.3g}</td></tr>" for name, p in self.p_values.items())
        return f"<b>{html.escape(self.verdict)}</b><table><tr><th>quantity</th><th>p of uniform ranks</th></tr>{rows}</table>"


def sbc(
    model: Any,
    *data: Any,
    engine: Any = NUTS(num_warmup=300, num_samples=60, thinning=5),
    num_simulations: int = 200,
    seed: int = 0,
    progress: Any = True,
    **named_data: Any,
) -> Calibration:
    """Simulation-based calibration of an engine on a model (Talts et al. 2018, arXiv:1804.06788).

    Args:
        model: as in `fit`.
        *data: as in `fit`; observed values only tell shapes, as new ones are simulated.
        engine: an engine of Markov chains; each simulated data set gets one chain. Thinning makes its draws independent.
        num_simulations: data sets.
        seed: of all randomness.
        progress: as in `fit`.
        **named_data: keyword arguments of a NumPyro function.

    Returns:
        Ranks and their p-values; a warning is given where they are not uniform.

    Raises:
        UnsupportedError: for an engine that does not draw samples.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> def coin(y):
        ...     p = numpyro.sample("p", dist.Beta(2, 2))
        ...     numpyro.sample("y", dist.Bernoulli(p).expand([5]).to_event(1), obs=y)
        >>> result = sbc(coin, np.zeros(5), num_simulations=20, progress=False)
        >>> sorted(result.ranks)
        ['log density', 'p']
    """
    if not isinstance(engine, AbstractMCMC):
        raise UnsupportedError(f"sbc needs an engine of Markov chains such as bdl.NUTS(), got {type(engine).__name__}.")
    if num_simulations < 20:
        raise ValueError(f"sbc(num_simulations={num_simulations}): expected at least 20; fewer say nothing.")
    spec = as_model(model)
    with precision_of(spec):
        frame = spec.frame(*data, **named_data)
        problem = spec.problem(frame, *data, **named_data)
        require(engine, problem)
        key = jax.random.key(seed)
        truth = jax.jit(jax.vmap(problem.prior_sample))(jax.random.split(named(key, "truth"), num_simulations))
        observed = {name: truth[name] for name in problem.observed}
        draws = infer_many(engine, problem, observed, named(key, "chains"), as_progress(progress))
        latents = {name: np.asarray(truth[name])[:, None] for name in problem.latents}
        drawn = {name: draws[name] for name in problem.latents}
        measure = quantities(spec, problem)
        true, found = (flat(jax.tree.map(np.asarray, measure(values, observed))) for values in (latents, drawn))
    result = judge(true, found, np.random.default_rng(seed))
    if not result.ok:
        warnings.warn(result.verdict, CalibrationWarning, stacklevel=2)
    return result


def quantities(model: AbstractModel, problem: Problem) -> Callable[[dict, dict], dict]:
    """Maps sites, shape (data set, draw, ...), and observed values, shape (data set, ...), to the quantities by name."""
    identified = [name for name in problem.latents if model.identified(name)]
    args, kwargs = model.training_inputs(problem)
    law = model.law(problem) if isinstance(model, AbstractTableModel) else None

    def one(sites: dict, observed: dict) -> dict:
        posed = problem.observing(observed)
        values = {name: sites[name] for name in identified}
        if law is not None:
            rows = np.linspace(0, len(args[0]) - 1, ROWS).astype(int)
            values["E[y | x]"] = law(sites, jax.random.key(0), *(arg[rows] for arg in args), **kwargs).law.mean
        return values | {"log density": posed.log_density_at(posed.unconstrained(sites))}

    over_draws = jax.vmap(one, (0, None))
    return jax.jit(lambda sites, observed: jax.lax.map(lambda both: over_draws(*both), (sites, observed)))


def flat(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scalars by name, shape (data set, draw)."""
    scalars = {}
    for name, value in values.items():
        for index in np.ndindex(value.shape[2:]):
            scalars[name + (f"[{','.join(map(str, index))}]" if index else "")] = value[(..., *index)].astype(np.float64)
    return scalars


def judge(true: dict[str, np.ndarray], found: dict[str, np.ndarray], rng: np.random.Generator) -> Calibration:
    """Ranks, their p-values and the efficiency of the draws."""
    from arviz_stats.base.array import array_stats

    ranks = {name: np.sum(found[name] < true[name], axis=1) for name in true}
    num_draws = next(iter(found.values())).shape[1]
    p_values = {name: uniformity(rank, num_draws, rng) for name, rank in ranks.items()}
    effective = [np.median([array_stats.ess(row[None], chain_axis=0, draw_axis=1) for row in rows]) for rows in found.values()]
    efficiency = float(min(effective) / num_draws)
    ok = efficiency >= LEAST_EFFICIENCY and min(p_values.values()) >= LEVEL / len(p_values)
    return Calibration(ranks, num_draws, p_values, efficiency, ok)


def transform(ranks: Int[np.ndarray, "n"], num_draws: int, rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """(rank + U) / (L + 1): uniform on (0, 1) where ranks are."""
    return (ranks + rng.uniform(size=ranks.shape)) / (num_draws + 1)


def uniformity(ranks: Int[np.ndarray, "n"], num_draws: int, rng: np.random.Generator) -> float:
    """The p-value of uniform ranks by the smallest pointwise binomial tail of their distribution function."""
    found = smallest_tail(transform(ranks, num_draws, rng))
    return float((1 + np.sum(tails_of_uniform(len(ranks)) <= found)) / (1 + NULL_SIMULATIONS))


@functools.cache
def tails_of_uniform(n: int) -> Float[np.ndarray, "simulations"]:
    """`smallest_tail` of n uniform numbers, many times."""
    rng = np.random.default_rng(0)
    return np.array([smallest_tail(rng.uniform(size=n)) for _ in range(NULL_SIMULATIONS)])


def smallest_tail(u: Float[np.ndarray, "n"]) -> float:
    """Min over points x of 2 min(P(K <= k), P(K >= k)), k the number of u below x and K ~ Binomial(n, x)."""
    from scipy.special import bdtr, bdtrc

    n = len(u)
    x = np.arange(1, n) / n
    k = np.searchsorted(np.sort(u), x)
    return float(2 * np.minimum(bdtr(k, n, x), bdtrc(k - 1, n, x)).min())
