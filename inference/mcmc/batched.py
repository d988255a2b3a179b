"""The same program on many data sets at once, one chain each, for simulation-based calibration.

Everything is compiled once; data sets are mapped over devices like chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from inference.core.problem import Problem
from inference.core.progress import AbstractProgress, Silent
from inference.core.typing import Key, SiteArrays, StoredArrays
from inference.mcmc.runner.layout import (
    Layout,
    choose_layout,
    over_chains,
    place,
    to_host,
    with_keys,
    without_keys,
)
from inference.mcmc.runner.sampler import AbstractSampler, ChainState
from inference.mcmc.runner.settings import AbstractChainSettings

# data sets per device between two reports of progress
PIECE = 16


def run_data_sets(
    engine: AbstractChainSettings,
    sampler_of: Callable[[Problem], AbstractSampler],
    problem: Problem,
    observed: Mapping[str, ArrayLike],
    key: Key,
    progress: AbstractProgress = Silent(),
) -> tuple[StoredArrays, np.ndarray]:
    """Draw from the posterior given each of many data sets.

    Args:
        engine: the settings of each data set's chain; its `num_chains` is not used.
        sampler_of: gives the sampler of the problem with one of the data sets.
        problem: the program and everything but the observed values.
        observed: the values of the observed sites, with a leading axis over data sets.
        key: the random key for all chains.
        progress: what shows how far the run is; it is told after each piece.

    Returns:
        The draws of all sites, shape (data set, draw, *site shape), and whether each draw
        diverged, shape (data set, draw).
    """
    total = np.shape(next(iter(observed.values())))[0]
    layout, size = choose_pieces(engine.chain_method, total, sampler_of(problem).cheap_steps)

    def run_one(inputs: tuple[Key, SiteArrays]) -> tuple[SiteArrays, jax.Array]:
        sampler = sampler_of(problem.with_observations(inputs[1]))
        return _run_one_chain(sampler, engine.num_samples, inputs[0])

    chain = over_chains(run_one, layout)
    keys, pieces = jax.random.split(key, total), []
    progress.start(total, f"{type(engine).__name__} on simulated data")
    try:
        for start in range(0, total, size):
            # the last piece repeats a data set to keep its shape
            rows = np.minimum(np.arange(start, start + size), total - 1)
            data = {name: jnp.asarray(values)[rows] for name, values in observed.items()}
            piece = to_host(chain(place((keys[rows], data), layout)))
            count = min(size, total - start)
            pieces.append(jax.tree.map(lambda leaf, count=count: leaf[:count], piece))
            progress.advance(count)
    finally:
        progress.close()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def choose_pieces(chain_method: str, total: int, cheap_steps: bool) -> tuple[Layout, int]:
    """Choose the layout of a piece, and its number of data sets.

    Each device gets equally many data sets, at most `PIECE`.
    """
    layout = choose_layout(chain_method, jax.device_count(), cheap_steps)
    return layout, layout.num_devices * min(PIECE, -(-total // layout.num_devices))


def _run_one_chain(
    sampler: AbstractSampler, num_samples: int, key: Key
) -> tuple[SiteArrays, jax.Array]:
    """Return the draws of one chain, and whether each diverged.

    This is a JAX function.
    """

    def draw(state: ChainState, j: jax.Array) -> tuple:
        state = jax.lax.fori_loop(
            sampler.steps_before(j), sampler.steps_before(j + 1), sampler.step, state
        )
        position, stats = sampler.record(state)
        return state, (position, stats["diverging"])

    state = _first_finite_state(sampler, key)
    if sampler.num_warmup:
        state = jax.lax.fori_loop(0, sampler.num_warmup, sampler.step, state)
    _, (positions, diverging) = jax.lax.scan(draw, state, jnp.arange(num_samples))
    return jax.lax.map(sampler.constrain, positions), diverging


def _first_finite_state(sampler: AbstractSampler, key: Key) -> ChainState:
    """Return the first starting state with a finite log density, as `sampler.start` does.

    After `sampler.max_starts` attempts the last one is returned. This is a JAX function.
    """
    structure = jax.eval_shape(sampler.init, key)

    def attempt(carry: tuple) -> tuple:
        number, _, _ = carry
        state = sampler.init(jnp.where(number == 0, key, jax.random.fold_in(key, number)))
        return number + 1, jnp.isfinite(sampler.record(state)[1]["lp"]), without_keys(state)

    empty = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(without_keys, structure)
    )
    _, _, state = jax.lax.while_loop(
        lambda carry: ~carry[1] & (carry[0] < sampler.max_starts),
        attempt,
        (0, jnp.array(False), empty),
    )
    return with_keys(state, structure)
