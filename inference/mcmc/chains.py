"""Running Markov chains: one compiled block of draws, mapped over chains and devices.

The block makes up to `length` draws in a `fori_loop` whose bounds are arguments, so that warm-up, sampling and remainders
share one compilation, and progress is reported between blocks with nothing in Python per step. Draws leave the device
block by block, into memory or onto disk. However a run is cut into blocks, stopped and continued, its draws are the same to
the bit; another number of devices rounds differently.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import Checkpoint, Folder
from inference.core.problem import ProblemError
from inference.core.progress import AbstractProgress
from inference.core.result import Draws
from inference.mcmc.layout import (
    Layout,
    choose_layout,
    from_arrays,
    over_chains,
    to_arrays,
    to_host,
    without_keys,
)
from inference.mcmc.sampler import AbstractSampler, drop_weak_types
from inference.mcmc.sharing import SamplerOf, compile_for

if TYPE_CHECKING:
    from inference.mcmc.engine import AbstractMCMC

SHORTEST, LONGEST = 50, 1000  # draws of a block
BLOCK_BYTES = 32_000_000
STREAM = 2  # raised whenever keys are derived in another way, so that a checkpoint of older draws is not continued
LIBRARIES = ("jax", "numpyro", "blackjax")  # whose versions change draws


def run_chains(
    engine: AbstractMCMC,
    sampler: AbstractSampler,
    *,
    key: jax.Array,
    progress: AbstractProgress,
    checkpoint: Checkpoint | None,
) -> Draws:
    """Runs warm-up and sampling and gives the draws in the program's own space.

    Interrupted (Ctrl-C) it gives the draws made so far, where there are any.

    Raises:
        ProblemError: where a chain finds no starting point with a finite log density.
        CheckpointError: where the checkpoint belongs to another run or cannot be written.
    """
    run = Run(engine, sampler, engine.num_samples)
    if checkpoint is None:
        return run.draws(run.start(key), -sampler.num_warmup, progress, None, None)
    with open_folder(checkpoint, run, key) as folder:
        saved = folder.load()
        if saved:
            states, done = from_arrays(saved[0], run.structure, run.layout), saved[1]
        else:
            states, done = run.start(key), -sampler.num_warmup
            folder.save(
                to_arrays(states), done
            )  # a start can be long: MCLMC tunes in it, and SGHMC looks for a mode
        return run.draws(states, done, progress, folder, checkpoint.every)


def continue_chains(
    engine: AbstractMCMC,
    sampler: AbstractSampler,
    draws: Draws,
    num_samples: int,
    progress: AbstractProgress,
) -> Draws:
    """The draws and `num_samples` more, from the state they hold."""
    run = Run(engine, sampler, num_samples, offset=draws.length)
    more = run.draws(
        from_arrays(draws.state, run.structure, run.layout), draws.length, progress, None, None
    )
    joined = {
        part: {name: np.concatenate([old[name], new[name]], axis=1) for name in new}
        for part, old, new in (
            ("samples", draws.samples, more.samples),
            ("stats", draws.stats, more.stats),
        )
    }
    info = draws.info | more.info | {"seconds": draws.info["seconds"] + more.info["seconds"]}
    made, wanted = (
        draws.length + more.length,
        max(requested_draws(draws.info), requested_draws(more.info)),
    )
    info.pop("interrupted", None)
    if made < wanted:
        info["interrupted"] = describe_interruption(made, wanted)
    return Draws(joined["samples"], joined["stats"], info, more.state)


def describe_interruption(made: int, wanted: int) -> str:
    """What `info["interrupted"]` says."""
    return f"{made} of {wanted} draws"


def requested_draws(info: dict[str, Any]) -> int:
    """The draws that an interrupted run was to make; 0 for another one."""
    return int(info["interrupted"].split()[2]) if "interrupted" in info else 0


class Run:
    """Draws number offset, ..., offset + num_samples - 1 of the chains of an engine, after warm-up where that is still to do.

    Args:
        engine: the settings.
        sampler: the chain.
        num_samples: draws to keep.
        offset: number of the first one.
    """

    def __init__(
        self, engine: AbstractMCMC, sampler: AbstractSampler, num_samples: int, offset: int = 0
    ) -> None:
        self.engine, self.sampler = engine, sampler
        self.offset, self.num_samples = offset, num_samples
        keys = jax.random.split(jax.random.key(0), engine.num_chains)
        self.structure = jax.eval_shape(
            jax.vmap(sampler.init), keys
        )  # shapes of the states of all chains
        self.layout: Layout = choose_layout(
            engine.chain_method, engine.num_chains, sampler.cheap_steps
        )
        self.recorded = jax.eval_shape(jax.vmap(sampler.record), self.structure)
        self.draw_shapes = shapes_of_draw(sampler, self.recorded)
        self.length = block_length(
            (self.recorded[0], [self.draw_shapes] * engine.num_chains),
            sampler.num_warmup + num_samples,
        )
        self.init_chains = compile_for(
            compile_init, engine, sampler, self.layout, sampler.quick_start
        )
        self.block = compile_for(compile_block, engine, sampler, self.layout, self.length)
        self.constrain = compile_for(compile_constrain, engine, sampler, self.layout)

    def start(self, key: jax.Array) -> Any:
        """The states of all chains before their first step."""
        chains = self.engine.num_chains
        return self.sampler.start(
            self.init_chains,
            jax.random.split(key, chains) if chains > 1 else key[None],
            self.layout,
        )

    def shapes(self) -> dict[str, Any]:
        """Shape and dtype of all that is kept, by name."""
        front = (self.engine.num_chains, self.num_samples)
        return {
            k: jax.ShapeDtypeStruct((*front, *v.shape), v.dtype)
            for k, v in self.draw_shapes.items()
        }

    def draws(
        self,
        states: Any,
        done: int,
        progress: AbstractProgress,
        folder: Folder | None,
        every: int | None,
    ) -> Draws:
        """Makes all draws from number `done` on, into memory or into the folder."""
        started, end = time.perf_counter(), self.offset + self.num_samples
        kept = (
            {}
            if folder
            else {name: np.empty(a.shape, a.dtype) for name, a in self.shapes().items()}
        )
        progress.note(self.layout.describe(self.engine.num_chains))
        progress.start(end - done, type(self.engine).__name__)
        at, saved, interrupted, divergences = (
            (states, done),
            done,
            False,
            0,
        )  # `at` changes in one piece, whenever Ctrl-C comes
        try:
            while at[1] < end:
                states, done = at
                stop = min(done + self.length, 0 if done < 0 else end)
                states, block = self.advance(states, done, stop)
                if done >= 0 and folder:
                    folder.write(done, block)
                elif done >= 0:
                    for name, values in block.items():
                        kept[name][:, done - self.offset : stop - self.offset] = values
                at = (states, stop)
                if folder and every and (stop - saved >= every or stop == end):
                    folder.save(to_arrays(states), stop)
                    saved = stop
                if done >= 0:  # those of adaptation do not count
                    divergences += int(block["stats/diverging"].sum())
                progress.advance(
                    stop - done,
                    stage="warm-up" if done < 0 else "sampling",
                    divergences=divergences,
                )
        except KeyboardInterrupt:
            if at[1] <= self.offset:
                raise
            interrupted = True
            if folder:
                folder.save(to_arrays(at[0]), at[1])
        finally:
            progress.close()
        kept = folder.map_datasets() if folder else kept
        return self.result(kept, *at, interrupted, time.perf_counter() - started)

    def advance(self, states: Any, first: int, stop: int) -> tuple[Any, dict[str, np.ndarray]]:
        """Draws first, ..., stop - 1; what is kept of them, by name, in the program's own space."""
        states, (positions, stats) = self.block(states, first, stop - first)
        count = stop - first
        block = {f"stats/{k}": v[:, :count] for k, v in to_host(stats).items()}
        if first < 0:
            return states, block
        # one draw after another: in a batch, rounding would depend on where in the block a draw stands
        by_draw = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), to_host(positions))
        for name, values in self.constrain(by_draw).items():
            block[f"samples/{name}"] = np.asarray(values).swapaxes(0, 1)[:, :count]
        return states, block

    def result(
        self, kept: dict, states: Any, done: int, interrupted: bool, seconds: float
    ) -> Draws:
        if not interrupted:
            refuse_diverged_chains(self.engine, kept)
        facts = {
            "devices": self.layout.num_devices,
            "vectorized": self.layout.vectorized,
            "layout": self.layout.describe(self.engine.num_chains),
            "seconds": seconds,
            **self.sampler.facts(to_host(without_keys(states))),
            **self.engine.diagnosis_settings(),
        }
        if interrupted:
            facts["interrupted"] = describe_interruption(done, self.offset + self.num_samples)
            kept = {name: values[:, : done - self.offset] for name, values in kept.items()}
        return Draws.from_arrays(
            kept | {f"state/{k}": v for k, v in to_arrays(states).items()}, facts
        )


def compile_init(sampler_of: SamplerOf, layout: Layout, quick: bool) -> Any:
    """Compiles `(keys, given) -> states`: what tunes in it does so side by side or spread over devices, as draws are made."""
    return over_chains(
        lambda key, given: drop_weak_types(sampler_of(given).init(key)), layout, quick
    )


def compile_constrain(sampler_of: SamplerOf, _: Layout) -> Any:
    """Compiles `(positions, given) -> sites`, leading axes (draw, chain)."""
    return jax.jit(
        lambda positions, given: jax.lax.map(jax.vmap(sampler_of(given).constrain), positions)
    )


def compile_block(sampler_of: SamplerOf, layout: Layout, length: int) -> Any:
    """Compiles `(states, given, j, n) -> (states, (positions, statistics))`, n <= length draws from number j on."""

    def one_chain(state: Any, given: Any, j: jax.Array, n: jax.Array) -> Any:
        sampler = sampler_of(given)
        kept = jax.tree.map(
            lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), sampler.record(state)
        )

        def step(i: jax.Array, carry: Any) -> Any:
            state = sampler.step(i, carry[0])
            return state, carry[1] | sampler.record(state)[1][
                "diverging"
            ]  # thinning must not hide the steps between draws

        def draw(k: jax.Array, carry: Any) -> Any:
            state, kept = carry
            first, stop = sampler.steps_before(j + k), sampler.steps_before(j + k + 1)
            state, diverged = jax.lax.fori_loop(first, stop, step, (state, jnp.zeros((), bool)))
            position, stats = sampler.record(state)
            made = position, stats | {"diverging": diverged}
            return state, jax.tree.map(lambda buffer, value: buffer.at[k].set(value), kept, made)

        state, kept = jax.lax.fori_loop(0, n, draw, (state, kept))
        return drop_weak_types(state), kept

    return over_chains(one_chain, layout)


def shapes_of_draw(sampler: AbstractSampler, recorded: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of what one chain keeps of a draw, by name, given what is recorded of all chains."""
    position, stats = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), recorded
    )
    sites = jax.eval_shape(sampler.constrain, position)
    return {f"samples/{k}": v for k, v in sites.items()} | {
        f"stats/{k}": v for k, v in stats.items()
    }


def block_length(kept: Any, total: int) -> int:
    """Draws of a block: a fiftieth of the run, within bounds of number and memory, given shapes of what a draw takes."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return max(1, min(max(SHORTEST, min(total // 50, LONGEST)), BLOCK_BYTES // size))


def open_folder(checkpoint: Checkpoint, run: Run, key: jax.Array) -> Folder:
    """The folder of a run, made or found."""
    if jax.process_count() > 1:
        raise ProblemError(
            "A run of several processes cannot keep a checkpoint; leave out checkpoint, or use one process."
        )
    data, model = run.sampler.problem.fingerprint()
    identity = {
        "engine": run.engine.as_data(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "data": data,
        "model": model,
        "stream": STREAM,
        "precision": "double" if jax.config.jax_enable_x64 else "single",  # pyright: ignore[reportAttributeAccessIssue]
    }
    return Folder(checkpoint.path, identity, run.shapes())


def refuse_diverged_chains(engine: AbstractMCMC, kept: dict) -> None:
    """Refuses a run whose chains all end where the log density is not finite: nothing can be said from it.

    Raises:
        ProblemError: naming the cure.
    """
    lp = kept.get("stats/lp")
    if lp is not None and lp.size and not np.isfinite(lp[:, -1]).any():
        cure = "Lower step_size, or start" if "step_size" in engine.as_data() else "Start"
        raise ProblemError(
            f"{type(engine).__name__} diverged in every chain: the log density is not finite at the end. {cure} nearer to the "
            "posterior (start='mode' or 'pathfinder')."
        )
