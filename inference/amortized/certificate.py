"""What a trained network is worth, measured on data sets of its prior that it has not seen.

    gap          mean of -log q(y | x, data) + log p(y | x, data), where the exact predictive p is known: nats lost
    calibration  q's cdf at y is uniform: a test of it, and coverage of central intervals
    exactness    predictions do not depend on the order of the context, nor on other queries

A calibrated network can still lose a tenth of a nat, so calibration without the gap says little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Batch, Tasks, simulated
from inference.core.calibration import expected_calibration_error
from inference.core.keys import tagged_key
from inference.distributions.bars import Grid, law

AT_ONCE = 64  # data sets, which bounds the memory of large ones

LEVELS = (0.5, 0.8, 0.9, 0.95)
ROWS = 6  # numbers of rows at which a network is checked


class Checked(NamedTuple):
    """At one number of rows.

    Attributes:
        num_rows: of the context.
        nll: mean of -log q, in the units of the program's target.
        gap: to the exact predictive, and its standard error; None where that is not known.
        p_uniform: of the test that q's cdf at y is uniform, one query a task; None for classes.
        coverage: share of targets in q's central intervals of `LEVELS`; None for classes.
        calibration_error: of classes, expected, with 15 bins; None for numbers.
    """

    num_rows: int
    nll: float
    gap: tuple[float, float] | None
    p_uniform: float | None
    coverage: tuple[float, ...] | None
    calibration_error: float | None


def checked(
    network: AbstractNetwork,
    tasks: Tasks,
    grid: Grid | None,
    exact: Callable | None,
    key: jax.Array,
    num_tasks: int,
) -> list[Checked]:
    """The network at several numbers of rows.

    Args:
        network: trained.
        tasks: it was trained on.
        grid: of its bars, or None.
        exact: maps one task's (X, y, X_new, y_new) to log p(y_new | X_new, X, y), in double precision; or None.
        key: of the tasks.
        num_tasks: per number of rows.
    """
    found = []
    batch = simulated(tasks, tagged_key(key, "checked"), num_tasks)
    for num_rows in sorted(
        {round(share * tasks.max_rows) for share in np.linspace(0, 1, ROWS) ** 2}
    ):
        at = batch._replace(num_rows=jnp.full(num_tasks, num_rows, jnp.int32))
        log_q, cdf = map(np.asarray, scored(network, at, tasks.num_queries, grid))
        gap = None
        if exact is not None:
            lost = exact_log_probs(exact, batch, num_rows, tasks.num_queries).mean(1) - log_q.mean(
                1
            )
            gap = float(lost.mean()), float(lost.std() / np.sqrt(num_tasks))
        p_uniform, coverage = calibration(cdf) if grid is not None else (None, None)
        error = (
            expected_calibration_error(np.abs(cdf).ravel(), cdf.ravel() > 0)
            if grid is None
            else None
        )
        found.append(Checked(num_rows, float(-log_q.mean()), gap, p_uniform, coverage, error))
    return found


@jax.jit(static_argnames="num_queries")
def scored(
    network: AbstractNetwork, batch: Batch, num_queries: int, grid: Grid | None
) -> tuple[jax.Array, jax.Array]:
    """Log q and q's cdf at all queries' targets, shape (tasks, queries).

    Of classes the second is the probability of the most probable one, negative where that is not the target.
    """

    def one(task: tuple) -> tuple[jax.Array, jax.Array]:
        X, y, num_rows = task
        cache = network.condition(X[None, :-num_queries], y[None, :-num_queries], num_rows[None])
        q = network.law(cache, X[None, -num_queries:], grid)
        target = y[None, -num_queries:]
        if grid is not None:
            return q.log_prob(target)[0], q.cdf(target)[0]
        confidence = q.probs.max(-1)
        return q.log_prob(target)[0], jnp.where(
            q.probs.argmax(-1) == target, confidence, -confidence
        )[0]

    return jax.lax.map(one, (batch.X, batch.y, batch.num_rows), batch_size=AT_ONCE)


def exact_log_probs(exact: Callable, batch: Batch, num_rows: int, num_queries: int) -> np.ndarray:
    """Log p at all queries' targets, shape (tasks, queries)."""
    with jax.enable_x64(True):
        X, y = (jnp.asarray(np.asarray(part, np.float64)) for part in (batch.X, batch.y))
        return np.asarray(
            one_by_one(
                exact, (X[:, :num_rows], y[:, :num_rows], X[:, -num_queries:], y[:, -num_queries:])
            )
        )


@jax.jit(static_argnames="function")
def one_by_one(function: Callable, parts: tuple) -> jax.Array:
    return jax.lax.map(lambda one: function(*one), parts)


def calibration(cdf: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """The p-value of uniformity of one query a task, and coverage of central intervals over all."""
    from scipy import stats

    central = np.abs(2 * cdf - 1)
    return float(stats.kstest(cdf[:, 0], "uniform").pvalue), tuple(
        float((central <= level).mean()) for level in LEVELS
    )


def dependence(network: AbstractNetwork, batch: Batch, num_queries: int) -> tuple[float, float]:
    """The largest change of a logit when the context is permuted, and when other queries change.

    Each task's rows are permuted among those of its context; queries but the first are replaced.
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


def latents_checked(
    network: AbstractNetwork, batch: Batch, tasks: Tasks, grid: Grid
) -> list[dict[str, Any]]:
    """Of each latent site: what q knows of it (its NLL, and with the prior alone), and the test that q's cdf is uniform.

    The contexts have all numbers of rows. Where a network gives quantiles of posteriors, that test is simulation-based
    calibration (Talts et al. 2018, arXiv:1804.06788) with infinitely many ranks.
    """
    from scipy import stats

    @jax.jit
    def answers(batch: Batch) -> tuple[jax.Array, jax.Array]:
        def one(task: Batch) -> tuple[jax.Array, jax.Array]:
            context = task.X[None, : -tasks.num_queries], task.y[None, : -tasks.num_queries]
            q = law(network.latents(network.condition(*context, task.num_rows[None]))[0], grid)
            return q.log_prob(task.latents), q.cdf(task.latents)

        return jax.lax.map(one, batch, batch_size=AT_ONCE)

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
