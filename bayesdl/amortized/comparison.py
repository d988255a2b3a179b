"""The gap of a trained network to another engine, measured on data sets of its prior."""

from __future__ import annotations

import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.engines import check_supported
from bayesdl.fitting import infer
from inference.amortized.certificate import scored
from inference.amortized.tasks import Batch, simulated
from inference.core.engine import AbstractEngine
from inference.core.keys import tagged_key
from inference.core.progress import as_progress


def compared(
    pfn: Any, engine: AbstractEngine, num_tasks: int, num_rows: int, progress: Any
) -> dict[str, Any]:
    """The gap of a PFN to an engine on data sets of its prior, and CPU seconds of both; see `PFN.certify`."""
    batch, queries = data_sets(pfn, num_tasks, num_rows), pfn.tasks.num_queries
    jax.block_until_ready(scored(pfn.network, batch, queries, pfn.grids.target))  # compiles
    started = time.process_time()
    ours = np.asarray(scored(pfn.network, batch, queries, pfn.grids.target)[0], float).mean(1)
    seconds = {"PFN": (time.process_time() - started) / len(ours)}

    shown, name = as_progress(progress), type(engine).__name__
    shown.start(len(ours), f"{name} on data sets of the prior")
    model = pfn.model.for_simulated_data()
    theirs, warned, started = [], 0, time.process_time()
    try:
        for X, y in zip(np.asarray(batch.X, np.float64), np.asarray(batch.y), strict=True):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                theirs.append(
                    predicted(
                        model,
                        engine,
                        X[:, (X != 0).any(0)],
                        y,
                        num_rows,
                        queries,
                    )
                )
            warned += bool(caught)
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


def data_sets(pfn: Any, num_tasks: int, num_rows: int) -> Batch:
    """Data sets of the prior; of classes those whose first rows have all, as other engines must have seen each."""
    classes = pfn.network.shape.num_classes
    batch = simulated(
        pfn.tasks,
        tagged_key(jax.random.key(num_tasks), "certify"),
        num_tasks * (8 if classes else 1),
    )
    context = np.asarray(batch.y)[:, :num_rows]
    seen = [not classes or len(np.unique(y)) == classes for y in context]
    if not any(seen):
        raise ModelError(
            f"No data set of the prior has all {classes} classes in {num_rows} rows: certify with more rows."
        )
    batch = jax.tree.map(lambda part: part[np.flatnonzero(seen)[:num_tasks]], batch)
    return batch._replace(num_rows=jnp.full(len(batch.y), num_rows, jnp.int32))


def predicted(
    model: Any, engine: AbstractEngine, X: np.ndarray, y: np.ndarray, num_rows: int, queries: int
) -> float:
    """Mean log predictive density of the last rows given the first ones."""
    schema = model.learn_schema(X[:num_rows], y=y[:num_rows])
    problem = model.problem(schema, X[:num_rows], y=y[:num_rows])
    check_supported(engine, problem)
    posterior = infer(model, schema, problem, engine, 0, False)
    return float(np.mean(posterior.predict(X[-queries:]).log_prob(y[-queries:])))
