"""Running Markov chains: one compiled block of steps, mapped over chains and devices.

The block holds up to `BLOCK` transitions in a `fori_loop` whose length is an argument, so that warm-up, sampling and
remainders share one compilation, and progress is reported between blocks with nothing in Python per step.
On one device the draws are those of `numpyro.infer.MCMC` with the same key, to the bit; more devices round differently.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from numpyro.infer.mcmc import MCMCKernel

from inference.problem import Problem, finding_a_start
from inference.progress import AbstractProgress
from inference.result import Draws

BLOCK = 50
CHAIN_METHODS = ("auto", "sequential", "vectorized", "parallel")


def choose_layout(chain_method: str, num_chains: int) -> tuple[int, bool]:
    """The number of devices to spread chains over, and whether to vectorise the chains of one device."""
    devices = jax.local_device_count()
    if chain_method == "parallel":
        return num_chains, False
    spread = max(d for d in range(1, min(devices, num_chains) + 1) if num_chains % d == 0)
    vectorised = chain_method == "vectorized" or (chain_method == "auto" and jax.default_backend() != "cpu")
    return (1 if chain_method == "sequential" else spread), vectorised


def lacks_devices(chain_method: str, num_chains: int) -> str | None:
    """The reason why chains cannot be laid out as asked, or None."""
    devices = jax.local_device_count()
    if chain_method != "parallel" or devices >= num_chains:
        return None
    return (
        f"chain_method='parallel' needs a device per chain, got num_chains={num_chains} and {devices} device(s); use "
        "chain_method='auto', fewer chains, or call numpyro.set_host_device_count first"
    )


def make_block(kernel: MCMCKernel, problem: Problem, num_devices: int, vectorised: bool) -> Any:
    """Compiles `(states, n, thinning) -> (states, kept positions, kept statistics)` for n <= BLOCK kept steps."""
    args, kwargs = problem.args, dict(problem.kwargs)

    def one_chain(state: Any, n: jax.Array, thinning: jax.Array) -> Any:
        kept = jax.tree.map(lambda leaf: jnp.zeros((BLOCK, *leaf.shape), leaf.dtype), keep(state))

        def step(i: jax.Array, carry: Any) -> Any:
            state, kept = carry
            state = jax.lax.fori_loop(0, thinning, lambda _, s: kernel.sample(s, args, kwargs), state)
            return state, jax.tree.map(lambda buffer, value: buffer.at[i].set(value), kept, keep(state))

        return jax.lax.fori_loop(0, n, step, (state, kept))

    def one_device(states: Any, n: jax.Array, thinning: jax.Array) -> Any:
        if vectorised:
            return jax.vmap(lambda state: one_chain(state, n, thinning))(states)
        return jax.lax.map(lambda state: one_chain(state, n, thinning), states)

    mesh = Mesh(np.array(jax.local_devices()[:num_devices]), ("chain",))
    chains, same = PartitionSpec("chain"), PartitionSpec()
    sharded = jax.shard_map(one_device, mesh=mesh, in_specs=(chains, same, same), out_specs=chains, check_vma=False)
    return jax.jit(sharded)


def keep(state: Any) -> tuple[Any, dict[str, jax.Array]]:
    """What is recorded of a kernel's state: its position, and statistics under the names that ArviZ uses."""
    stats = {
        "acceptance_rate": state.accept_prob,
        "diverging": state.diverging,
        "energy": state.energy,
        "lp": -state.potential_energy,
        "n_steps": state.num_steps,
    }
    return state.z, stats


def run_chains(
    kernel: MCMCKernel,
    problem: Problem,
    *,
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    thinning: int,
    chain_method: str,
    key: jax.Array,
    progress: AbstractProgress,
    settings: dict[str, Any],
) -> Draws:
    """Runs warm-up and sampling and returns the draws in the program's own space; `settings` are noted in their `info`.

    Raises:
        ProblemError: where a chain finds no starting point with a finite log density.
    """
    num_devices, vectorised = choose_layout(chain_method, num_chains)
    started = time.perf_counter()
    keys = jax.random.split(key, num_chains) if num_chains > 1 else key[None]
    with finding_a_start(problem):
        starts = [kernel.init(k, num_warmup, None, problem.args, dict(problem.kwargs)) for k in keys]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    block = make_block(kernel, problem, num_devices, vectorised)

    progress.start(num_warmup + num_samples, f"{num_chains} chains on {num_devices} device(s)")
    try:
        states, _ = run_stage(block, states, num_warmup, 1, progress, "warm-up")
        states, blocks = run_stage(block, states, num_samples, thinning, progress, "sampling")
    finally:
        progress.close()
    positions, stats = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *blocks)
    facts = {
        "devices": num_devices,
        "vectorized": vectorised,
        "seconds": time.perf_counter() - started,
        "step_size": [float(s) for s in np.atleast_1d(states.adapt_state.step_size)],
    }
    return Draws(constrain(kernel, problem, positions), stats, facts | settings)


def run_stage(block: Any, states: Any, total: int, thinning: int, progress: AbstractProgress, stage: str) -> Any:
    """Runs `total` kept steps in blocks; what is kept leaves the device block by block."""
    blocks, divergences = [], 0
    for done in range(0, total, BLOCK):
        n = min(BLOCK, total - done)
        states, kept = block(states, n, thinning)
        kept = jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[:, :n], kept)
        divergences += int(kept[1]["diverging"].sum())
        progress.advance(n, stage=stage, divergences=divergences)
        if stage == "sampling":
            blocks.append(kept)
    return states, blocks


def constrain(kernel: MCMCKernel, problem: Problem, positions: Any) -> dict[str, np.ndarray]:
    """Maps unconstrained positions (chain, draw, ...) to the program's sites, deterministic ones included."""
    one = kernel.postprocess_fn(problem.args, dict(problem.kwargs))
    shape = jax.tree.leaves(positions)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), positions)
    sites = jax.jit(lambda z: jax.lax.map(one, z, batch_size=64))(flat)
    return {name: np.asarray(value).reshape((*shape, *value.shape[1:])) for name, value in sites.items()}
