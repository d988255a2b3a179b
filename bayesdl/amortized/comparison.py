"""The gap of a trained network to another engine, measured on data sets of its prior."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.posterior import Posterior
from bayesdl.posterior.running import run_engine, settle_engine
from bayesdl.typing import EngineLike, ProgressLike, Schema
from inference.amortized.certificate import score_queries
from inference.amortized.tasks import Batch, simulate
from inference.core.engine import AbstractEngine
from inference.core.keys import tagged_key
from inference.core.problem import Problem
from inference.core.progress import as_progress
from inference.core.typing import Info
from inference.process.quiet import quiet


def compare_engine(
    trained: TrainedNetwork,
    engine: EngineLike,
    num_tasks: int,
    num_rows: int,
    progress: ProgressLike,
) -> Info:
    """Measure the gap of a network to an engine, and the CPU seconds of both; see `PFN.certify`."""
    batch, queries = _draw_data_sets(trained, num_tasks, num_rows), trained.tasks.num_queries

    def log_probs() -> np.ndarray:
        found = score_queries(trained.network, batch, queries, trained.grids.target)[0][0]
        return np.asarray(found, float).mean(1)

    # The first call compiles, and only the second one is timed.
    log_probs()
    started = time.process_time()
    ours = log_probs()
    seconds = {"PFN": (time.process_time() - started) / len(ours)}

    model = trained.model.for_simulated_data()
    data_sets = [
        (X[:, (X != 0).any(0)], y)
        for X, y in zip(np.asarray(batch.X, np.float64), np.asarray(batch.y), strict=True)
    ]
    chosen = settle_engine(engine, _pose(model, *data_sets[0], num_rows)[1])[0]
    shown, name = as_progress(progress), type(chosen).__name__
    shown.start(len(ours), f"{name} on data sets of the prior")
    theirs, warned, started = [], 0, time.process_time()
    try:
        for X, y in data_sets:
            with quiet() as said:
                theirs.append(_held_out_log_density(model, chosen, X, y, num_rows, queries))
            warned += bool(said)
            shown.advance(1, gap=f"{np.mean(theirs - ours[: len(theirs)]):.3f}")
    finally:
        shown.close()
    seconds[name] = (time.process_time() - started) / len(ours)
    lost = np.array(theirs) - ours
    return {
        "name": name,
        "gap": (float(lost.mean()), float(lost.std() / np.sqrt(len(lost)))),
        "num_tasks": len(lost),
        "num_rows": num_rows,
        "tasks_with_warnings": warned,
        "cpu_seconds_per_task_with_compilation": seconds,
    }


def _draw_data_sets(trained: TrainedNetwork, num_tasks: int, num_rows: int) -> Batch:
    """Draw data sets of the prior.

    With classes, only those are kept whose first rows have all classes, as other engines must have
    seen each of them.

    Raises:
        ModelError: if no data set has all classes.
    """
    classes = trained.network.shape.num_classes
    key = tagged_key(jax.random.key(num_tasks), "certify")
    batch = simulate(trained.tasks, key, num_tasks * (8 if classes else 1))
    context = np.asarray(batch.y)[:, :num_rows]
    seen = [not classes or len(np.unique(y)) == classes for y in context]
    if not any(seen):
        raise ModelError(
            f"No data set of the prior has all {classes} classes in {num_rows} rows: "
            "certify with more rows."
        )
    batch = jax.tree.map(lambda part: part[np.flatnonzero(seen)[:num_tasks]], batch)
    return batch._replace(num_rows=jnp.full(len(batch.y), num_rows, jnp.int32))


def _pose(
    model: AbstractModel, X: np.ndarray, y: np.ndarray, num_rows: int
) -> tuple[Schema, Problem]:
    """Return the schema and the problem of the first rows of a data set."""
    with precision_scope(model):
        schema = model.learn_schema(X[:num_rows], y=y[:num_rows])
        return schema, model.problem(schema, X[:num_rows], y=y[:num_rows])


def _held_out_log_density(
    model: AbstractModel,
    engine: AbstractEngine,
    X: np.ndarray,
    y: np.ndarray,
    num_rows: int,
    num_queries: int,
) -> float:
    """Return the mean log predictive density of the last rows given the first ones.

    Args:
        model: the model.
        engine: the engine that fits it.
        X: the inputs of all rows.
        y: the targets of all rows.
        num_rows: the number of first rows, which are fitted.
        num_queries: the number of last rows, which are predicted.
    """
    schema, problem = _pose(model, X, y, num_rows)
    run = run_engine(model, problem, engine, 0, False)
    posterior = Posterior(model, schema, run.problem, run.engine, run.result, 0)
    return float(np.mean(posterior.predict(X[-num_queries:]).log_prob(y[-num_queries:])))
