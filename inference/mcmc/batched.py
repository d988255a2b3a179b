"""The same program on many data sets at once, one chain each: what simulation-based calibration needs.

Everything is compiled once; data sets are mapped over devices like chains.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.problem import Problem
from inference.core.progress import AbstractProgress, Silent
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.hmc import MAX_STARTS, NumPyroSampler
from inference.mcmc.layout import (
    Layout,
    choose_layout,
    over_chains,
    place,
    to_host,
    with_keys,
    without_keys,
)
from inference.mcmc.sampler import AbstractSampler

PIECE = 16  # data sets per device between two reports of progress


def infer_many(
    engine: AbstractMCMC,
    problem: Problem,
    observed: dict[str, Any],
    key: jax.Array,
    progress: AbstractProgress = Silent(),
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of all sites for each data set, shape (data set, draw, *site shape), and whether each diverged.

    Args:
        engine: its num_warmup, num_samples and thinning hold for each data set's chain; its num_chains is not used.
        problem: gives the program and everything but the observed values.
        observed: values of the observed sites, leading axis over data sets.
        key: of all chains.
        progress: told after each piece.
    """
    total = len(next(iter(observed.values())))
    layout, size = choose_pieces(engine.chain_method, total, engine.sampler(problem).cheap_steps)
    chain = over_chains(lambda given: run_one_chain(engine, problem, *given), layout)
    keys, pieces = jax.random.split(key, total), []
    progress.start(total, f"{type(engine).__name__} on simulated data")
    try:
        for start in range(0, total, size):
            rows = np.minimum(
                np.arange(start, start + size), total - 1
            )  # the last piece repeats a data set to keep its shape
            given = (
                keys[rows],
                {name: jnp.asarray(values)[rows] for name, values in observed.items()},
            )
            count = min(size, total - start)
            pieces.append(
                jax.tree.map(
                    lambda leaf, count=count: leaf[:count], to_host(chain(place(given, layout)))
                )
            )
            progress.advance(count)
    finally:
        progress.close()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def choose_pieces(chain_method: str, total: int, light: bool) -> tuple[Layout, int]:
    """The layout of a piece, and its number of data sets: as many on each device, at most `PIECE`."""
    layout = choose_layout(chain_method, jax.device_count(), light)
    return layout, layout.num_devices * min(PIECE, -(-total // layout.num_devices))


def run_one_chain(
    engine: AbstractMCMC, problem: Problem, key: jax.Array, observed: dict[str, jax.Array]
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The draws of one chain given one data set, and whether each diverged; a JAX function."""
    sampler = engine.sampler(problem.observing(observed))

    def draw(state: Any, j: jax.Array) -> Any:
        state = jax.lax.fori_loop(
            sampler.steps_before(j), sampler.steps_before(j + 1), sampler.step, state
        )
        position, stats = sampler.record(state)
        return state, (position, stats["diverging"])

    state = first_finite_state(
        sampler, key, MAX_STARTS if isinstance(sampler, NumPyroSampler) else 1
    )  # as in `sampler.start`
    if sampler.num_warmup:
        state = jax.lax.fori_loop(0, sampler.num_warmup, sampler.step, state)
    _, (positions, diverging) = jax.lax.scan(draw, state, jnp.arange(engine.num_samples))
    return jax.lax.map(sampler.constrain, positions), diverging


def first_finite_state(sampler: AbstractSampler, key: jax.Array, attempts: int) -> Any:
    """The first state of up to so many whose log density is finite, or the last; a JAX function."""
    structure = jax.eval_shape(sampler.init, key)

    def attempt(carry: tuple) -> tuple:
        number, _, _ = carry
        state = sampler.init(jnp.where(number == 0, key, jax.random.fold_in(key, number)))
        return number + 1, jnp.isfinite(sampler.record(state)[1]["lp"]), without_keys(state)

    empty = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(without_keys, structure)
    )
    _, _, state = jax.lax.while_loop(
        lambda carry: ~carry[1] & (carry[0] < attempts), attempt, (0, jnp.array(False), empty)
    )
    return with_keys(state, structure)
