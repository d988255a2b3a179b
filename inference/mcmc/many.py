"""The same program on many data sets at once, one chain each: what simulation-based calibration needs.

Everything is compiled once; data sets are mapped over devices like chains.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.layout import choose_layout, over_chains, place
from inference.problem import Problem
from inference.progress import AbstractProgress, Silent

PIECE = 16  # data sets per device between two reports of progress


def infer_many(
    engine: AbstractMCMC,
    problem: Problem,
    observed: dict[str, Any],
    key: jax.Array,
    progress: AbstractProgress = Silent(),
) -> dict[str, np.ndarray]:
    """Draws of all sites for each data set, shape (data set, draw, *site shape).

    Args:
        engine: its num_warmup, num_samples and thinning hold for each data set's chain; its num_chains is not used.
        problem: gives the program and everything but the observed values.
        observed: values of the observed sites, leading axis over data sets.
        key: of all chains.
        progress: told after each piece.
    """
    total = len(next(iter(observed.values())))
    light = engine.sampler(problem).light
    layout = choose_layout(engine.chain_method, min(PIECE * jax.device_count(), total), light)
    size = min(PIECE * layout.num_devices, total)
    chain = over_chains(lambda given: one_chain(engine, problem, *given), layout)
    keys, pieces = jax.random.split(key, total), []
    progress.start(total, f"{type(engine).__name__} on simulated data")
    try:
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)  # the last piece repeats a data set to keep its shape
            given = keys[rows], {name: jnp.asarray(values)[rows] for name, values in observed.items()}
            count = min(size, total - start)
            pieces.append(jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], chain(place(given, layout))))
            progress.advance(count)
    finally:
        progress.close()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def one_chain(engine: AbstractMCMC, problem: Problem, key: jax.Array, observed: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The draws of one chain given one data set; a JAX function."""
    sampler = engine.sampler(problem.observing(observed))

    def draw(state: Any, j: jax.Array) -> Any:
        state = jax.lax.fori_loop(sampler.steps_before(j), sampler.steps_before(j + 1), sampler.step, state)
        return state, sampler.record(state)[0]

    state = sampler.init(key)
    if sampler.num_warmup:
        state = jax.lax.fori_loop(0, sampler.num_warmup, sampler.step, state)
    _, positions = jax.lax.scan(draw, state, jnp.arange(engine.num_samples))
    return jax.lax.map(sampler.constrain, positions)
