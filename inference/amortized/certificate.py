"""The quality of a trained network, measured on data sets of its prior that it has not seen.

    gap          the mean of -log q(y | x, data) + log p(y | x, data), the nats lost, if the exact
                 predictive distribution p is known
    calibration  a test that q's cdf at y is uniform, and the coverage of central intervals
    exactness    predictions depend neither on the order of the context nor on other queries

A calibrated network can still lose a tenth of a nat, so calibration without the gap says little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import CategoricalLogits

from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Batch, Tasks, simulate
from inference.core.keys import tagged_key
from inference.core.typing import Key
from inference.distributions.bars import Bars, Grid, distribution_from_logits
from inference.distributions.calibration import expected_calibration_error

ExactLogProb: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]

# The levels of central intervals.
LEVELS = (0.5, 0.8, 0.9, 0.95)

# How many different numbers of rows a network is checked at.
ROWS = 6


class RowCheck(NamedTuple):
    """The quality of a network at one number of rows.

    Attributes:
        num_rows: the number of rows of the context.
        nll: the mean of -log q, in the units of the program's target.
        gap: the gap to the exact predictive distribution in nats, and its standard error; None if
            that distribution is not known.
        p_uniform: the p-value of the test that q's cdf at y is uniform, with one query a task; None
            for classes.
        coverage: the shares of targets in q's central intervals of `LEVELS`; None for classes.
        calibration_error: the expected calibration error of classes, with 15 bins; None for
            numbers.
        baselines: the mean of -log q of what needs no training, by name.
    """

    num_rows: int
    nll: float
    gap: tuple[float, float] | None
    p_uniform: float | None
    coverage: tuple[float, ...] | None
    calibration_error: float | None
    baselines: dict[str, float]


def check_rows(
    network: AbstractNetwork,
    tasks: Tasks,
    grid: Grid | None,
    exact: ExactLogProb | None,
    key: Key,
    num_tasks: int,
) -> list[RowCheck]:
    """Measure the quality of a network at several numbers of rows.

    Args:
        network: the trained network.
        tasks: the data sets that it was trained on.
        grid: the grid of its bars, or None for classes.
        exact: a function from one task's (X, y, X_new, y_new) to log p(y_new | X_new, X, y), in
            double precision; or None.
        key: the random key of the tasks.
        num_tasks: the number of tasks for each number of rows.
    """
    found = []
    batch = simulate(tasks, tagged_key(key, "checked"), num_tasks)
    for num_rows in sorted(
        {round(share * tasks.max_rows) for share in np.linspace(0, 1, ROWS) ** 2}
    ):
        at = batch._replace(num_rows=jnp.full(num_tasks, num_rows, jnp.int32))
        scores, others = _score(network, at, tasks.num_queries, grid)
        log_q, cdf = map(np.asarray, scores)
        gap = None
        if exact is not None:
            log_p = _exact_log_probs(exact, batch, num_rows, tasks.num_queries)
            lost = log_p.mean(1) - log_q.mean(1)
            gap = float(lost.mean()), float(lost.std() / np.sqrt(num_tasks))
        p_uniform, coverage = _check_calibration(cdf) if grid is not None else (None, None)
        error = (
            expected_calibration_error(np.abs(cdf).ravel(), cdf.ravel() > 0)
            if grid is None
            else None
        )
        found.append(
            RowCheck(num_rows, float(-log_q.mean()), gap, p_uniform, coverage, error, others)
        )
    return found


@jax.jit(static_argnames="num_queries")
def score_queries(
    network: AbstractNetwork, batch: Batch, num_queries: int, grid: Grid | None
) -> tuple[tuple[jax.Array, jax.Array], dict[str, jax.Array]]:
    """Return log q and q's cdf at the targets of all queries, shape (tasks, queries).

    For classes the second is the probability of the most probable class, with a negative sign if
    that class is not the target. Beside them are log q of the network's baselines, by name.
    """

    def one(task: tuple) -> tuple[tuple[jax.Array, jax.Array], dict[str, jax.Array]]:
        X, y, num_rows = task
        cache = network.condition(X[None, :-num_queries], y[None, :-num_queries], num_rows[None])
        queries, target = X[None, -num_queries:], y[None, -num_queries:]
        others = {
            name: distribution_from_logits(logits, grid).log_prob(target)[0]
            for name, logits in network.baselines(cache, queries).items()
        }
        q = network.predictive(cache, queries, grid)
        if not isinstance(q, CategoricalLogits):
            return (q.log_prob(target)[0], q.cdf(target)[0]), others
        probs = jnp.asarray(q.probs)
        confidence = probs.max(-1)
        right = probs.argmax(-1) == target
        signed = jnp.where(right, confidence, -confidence)[0]
        return (q.log_prob(target)[0], signed), others

    tasks = batch.X, batch.y, batch.num_rows
    return jax.lax.map(one, tasks, batch_size=network.at_once)


def _score(
    network: AbstractNetwork, batch: Batch, num_queries: int, grid: Grid | None
) -> tuple[tuple[jax.Array, jax.Array], dict[str, float]]:
    """Return what `score_queries` does, with the mean losses of baselines."""
    scores, others = score_queries(network, batch, num_queries, grid)
    return scores, {name: -float(log_q.mean()) for name, log_q in others.items()}


def _exact_log_probs(
    exact: ExactLogProb, batch: Batch, num_rows: int, num_queries: int
) -> np.ndarray:
    """Return log p at the targets of all queries, shape (tasks, queries)."""
    with jax.enable_x64(True):
        X, y = (jnp.asarray(np.asarray(part, np.float64)) for part in (batch.X, batch.y))
        context, queries = (
            (X[:, :num_rows], y[:, :num_rows]),
            (X[:, -num_queries:], y[:, -num_queries:]),
        )
        return np.asarray(_map_tasks(exact, (*context, *queries)))


@jax.jit(static_argnames="function")
def _map_tasks(function: ExactLogProb, parts: tuple[jax.Array, ...]) -> jax.Array:
    """Apply a function to the parts of each task, one task after the other."""
    return jax.lax.map(lambda one: function(*one), parts)


def _check_calibration(cdf: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Return the p-value of uniformity of one query a task, and the coverage of central intervals.

    Args:
        cdf: the cdf at the targets, shape (tasks, queries).
    """
    from scipy import stats

    central = np.abs(2 * cdf - 1)
    return float(stats.kstest(cdf[:, 0], "uniform").pvalue), tuple(
        float((central <= level).mean()) for level in LEVELS
    )


def measure_dependence(
    network: AbstractNetwork, batch: Batch, num_queries: int
) -> tuple[float, float]:
    """Return the largest changes of a logit by the order of the context and by other queries.

    Each task's rows are permuted among those of its context, and all queries but the first are
    replaced.
    """
    context = batch.X.shape[1] - num_queries
    rows = batch.num_rows[:, None]
    place = jnp.arange(context)[None, :]
    reversed_rows = jnp.where(place < rows, rows - 1 - place, place)
    X, y = batch.X[:, :context], batch.y[:, :context]

    def logits(X: jax.Array, y: jax.Array, X_new: jax.Array) -> jax.Array:
        return network.predict(network.condition(X, y, batch.num_rows), X_new)

    first = jax.jit(logits)
    before = first(X, y, batch.X[:, context:])
    moved = first(
        jnp.take_along_axis(X, reversed_rows[..., None], 1),
        jnp.take_along_axis(y, reversed_rows, 1),
        batch.X[:, context:],
    )
    others = batch.X[:, context:].at[:, 1:].add(3.0)
    leaked = first(X, y, others)[:, 0]
    return float(jnp.abs(moved - before).max()), float(jnp.abs(leaked - before[:, 0]).max())


def check_latents(
    network: AbstractNetwork, batch: Batch, tasks: Tasks, grid: Grid
) -> list[dict[str, Any]]:
    """Return for each latent site its NLL, that of the prior, and the p-value of calibration.

    The p-value belongs to the test that q's cdf at the site's value is uniform. The contexts have
    all numbers of rows. As the network gives quantiles of posteriors, that test is simulation-based
    calibration (Talts et al. 2018, arXiv:1804.06788) with infinitely many ranks.
    """
    from scipy import stats

    @jax.jit
    def answers(batch: Batch) -> tuple[jax.Array, jax.Array]:
        def one(task: Batch) -> tuple[jax.Array, jax.Array]:
            context = task.X[None, : -tasks.num_queries], task.y[None, : -tasks.num_queries]
            cache = network.condition(*context, task.num_rows[None])
            q = Bars(network.predict_latents(cache)[0], *grid)
            return q.log_prob(task.latents), q.cdf(task.latents)

        return jax.lax.map(one, batch, batch_size=network.at_once)

    (known, cdf), (prior, _) = (
        answers(batch),
        answers(batch._replace(num_rows=jnp.zeros_like(batch.num_rows))),
    )
    parts = zip(tasks.latents, -known.mean(0), -prior.mean(0), np.asarray(cdf).T, strict=True)
    return [
        {
            "site": site,
            "nll": float(nll),
            "nll_of_prior": float(before),
            "p_uniform": float(stats.kstest(u, "uniform").pvalue),
        }
        for site, nll, before, u in parts
    ]
