"""Functional tensors by message passing: the published configuration, one with learned
hyperparameters, and scaling.

    published  Beijing PM2.5, fold 0, with the settings of Fang et al. (2024): CP of rank 2,
    Matern-1/2, fixed numbers learned    the same data and others with one configuration, everything
    learned, beside a lookup of the same day's mean scaling    time of an iteration against entries
    and indexes; Tucker of rank 7; a million entries

    python -m benchmarks.funbat [published learned scaling]

CPU seconds are of this process, one iteration of one restart of those that run side by side. Parts
that are not asked for keep what benchmarks/results/funbat.json has of them.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bayesdl as bdl
from bayesdl.gp.kernels import Matern12, Matern32
from benchmarks.reference_data import beijing
from benchmarks.report import run_parts
from inference.core.problem import Problem
from inference.messages.engine import BLOCK
from inference.messages.iteration import Iteration

NAMES = ("temperature", "pressure", "day")
PUBLISHED = bdl.MessagePassing(
    iterations=100, restarts=1, damping=0.3, noise_damping=0.8, anneal=0, tolerance=1e-12
)
STARTS = 8
LEARNED = bdl.MessagePassing(iterations=200, restarts=10)


def published_model() -> bdl.FunBaT:
    kernel = Matern12(lengthscale=0.1, variance=5.0)
    return bdl.FunBaT(tuple(bdl.Mode(name, kernel, 2) for name in NAMES), relevance=False)


def learned_model() -> bdl.FunBaT:
    """The one configuration: smooth functions of what is measured, rough ones of time."""
    kernels = (Matern32(), Matern32(), Matern12())
    return bdl.FunBaT(
        tuple(bdl.Mode(name, kernel, 2) for name, kernel in zip(NAMES, kernels, strict=True))
    )


def scores(
    model: bdl.FunBaT,
    engine: bdl.MessagePassing,
    X: np.ndarray,
    y: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
) -> dict[str, Any]:
    """Of one fit on held-out rows."""
    started = time.process_time()
    post = bdl.fit(model, X[~test], y[~test], engine=engine, seed=seed, progress=False)
    seconds, info = time.process_time() - started, post.raw.info
    prediction = post.predict(X[test])
    error, (low, high) = prediction.mean - y[test], prediction.interval(0.9)
    found = {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "coverage_90": float(((low <= y[test]) & (y[test] <= high)).mean()),
        "nll": float(-prediction.log_prob(y[test]).mean()),
        "same_day_mean": lookup(X, y, test),
        "iterations": len(info["elbo_trace"]),
        "converged": info["converged"],
        "collapsed_restarts": len(info["collapsed"]),
        "elbo": info["elbo"],
        "cpu_s": seconds,
    }
    print(
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in found.items()
        },
        flush=True,
    )
    return found


def lookup(X: np.ndarray, y: np.ndarray, test: np.ndarray) -> float:
    """RMSE of the training mean of the same last index, or of linear interpolation between those
    that were seen.
    """
    days, places = np.unique(X[~test, -1], return_inverse=True)
    means = np.bincount(places, y[~test]) / np.bincount(places)
    return float(np.sqrt(((np.interp(X[test, -1], days, means) - y[test]) ** 2).mean()))


def published(_: str) -> dict:
    """With the second prior N(0, I) that the published code puts on the functions at every index,
    and as the engine is.

    The published code has no bound to choose a start by; here each start is told, and which the
    bound would choose.
    """
    data = beijing()
    given = data["index"], data["y"], data["test"][0]
    found: dict[str, Any] = {}
    for name, engine in (
        ("as published", AsPublished(**dataclasses.asdict(PUBLISHED))),
        ("one prior, longest mode first", PUBLISHED),
    ):
        starts = [scores(published_model(), engine, *given, seed=seed) for seed in range(STARTS)]
        found[name] = {"best bound": max(starts, key=lambda start: start["elbo"]), "starts": starts}
    found["cpu_s_per_iteration"] = iteration_seconds(
        published_model(), PUBLISHED, data["index"], data["y"]
    )
    print("CPU s an iteration", found["cpu_s_per_iteration"])
    return found


@dataclasses.dataclass(frozen=True)
class AsPublished(bdl.MessagePassing):
    """The published code's order of modes and model: every function has a prior N(0, 1) at every
    index besides its process.
    """

    def passes(self, problem: Problem) -> Iteration:
        passes = super().iteration(problem)
        sizes = zip(passes.structure.positions, passes.structure.ranks, strict=True)
        known = [
            (jnp.broadcast_to(jnp.eye(r), (len(x), r, r)), jnp.zeros((len(x), r))) for x, r in sizes
        ]
        return dataclasses.replace(passes, known=(known, None), order=tuple(range(len(known))))


def learned(_: str) -> dict:
    data, found = beijing(), {}
    for fold in (0, 1):
        found[f"fold {fold}"] = scores(
            learned_model(), LEARNED, data["index"], data["y"], data["test"][fold]
        )
    found["unseen days"] = scores(
        learned_model(), LEARNED, data["index"], data["y"], data["test_unseen_days"]
    )
    binned = beijing("beijing_pm25_100x100x300")
    folds = [
        scores(learned_model(), LEARNED, binned["index"].astype(float), binned["y"], test)
        for test in binned["test"]
    ]
    found["100x100x300"] = {
        "mean_rmse": float(np.mean([fold["rmse"] for fold in folds])),
        "folds": folds,
    }
    print("100x100x300", found["100x100x300"]["mean_rmse"])
    return found


def iteration_seconds(
    model: bdl.FunBaT, engine: bdl.MessagePassing, X: np.ndarray, y: np.ndarray, blocks: int = 4
) -> float:
    """CPU seconds of an iteration of one restart, compilation left out."""
    problem = model.problem(model.learn_schema(X, y), X, y)
    with jax.enable_x64(True):
        passes = engine.iteration(problem)
        state = jax.jit(jax.vmap(lambda key: engine.start(passes, key)))(
            jax.random.split(jax.random.key(0), engine.restarts)
        )
        block = jax.jit(jax.vmap(lambda state: engine.block(passes, state, 0)))
        state, _ = jax.block_until_ready(block(state))
        times = []
        for _ in range(blocks):
            started = time.process_time()
            state, _ = jax.block_until_ready(block(state))
            times.append(time.process_time() - started)
    return min(times) / BLOCK / engine.restarts


def simulated(entries: int, indexes: int, modes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = [np.sort(rng.uniform(0, 10, indexes)) for _ in range(modes)]
    X = np.stack([rng.choice(x, entries) for x in points], 1)
    return X, np.prod(np.sin(X), 1) + 0.2 * rng.normal(size=entries)


def scaling(_: str) -> dict:
    found: dict[str, Any] = {}
    one = bdl.MessagePassing(restarts=1)
    fixed = Matern12(lengthscale=1.0)
    cp = bdl.FunBaT(tuple(bdl.Mode(n, fixed, 3) for n in NAMES), relevance=False)
    by_entries = {
        n: iteration_seconds(cp, one, *simulated(n, 500)) for n in (80_000, 160_000, 320_000)
    }
    by_indexes = {
        d: iteration_seconds(cp, one, *simulated(100_000, d)) for d in (4_000, 8_000, 16_000)
    }
    for name, times in (("entries", by_entries), ("indexes", by_indexes)):
        slope = float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])
        found[name] = {
            "cpu_s": {str(size): value for size, value in times.items()},
            "exponent": slope,
        }
        print(name, found[name], flush=True)
    found["million entries, cp 3"] = with_memory(cp, one, *simulated(1_000_000, 500))
    data = beijing()
    tucker = bdl.FunBaT(tuple(bdl.Mode(n, fixed, 7) for n in NAMES), "tucker", relevance=False)
    found["tucker 7"] = with_memory(tucker, one, data["index"], data["y"])
    return found


def with_memory(
    model: bdl.FunBaT, engine: bdl.MessagePassing, X: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """CPU seconds of an iteration, and the most memory that this process has had so far, in GB."""
    seconds = iteration_seconds(model, engine, X, y, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        model.form,
        model.ranks,
        len(y),
        round(seconds, 3),
        "CPU s,",
        round(peak, 2),
        "GB",
        flush=True,
    )
    return {"cpu_s": seconds, "peak_gb": peak}


if __name__ == "__main__":
    parts = {"published": published, "learned": learned, "scaling": scaling}
    run_parts("funbat", parts, lambda part: parts[part](part), __doc__)
