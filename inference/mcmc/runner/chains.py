"""Running Markov chains: compiled blocks of draws, mapped over chains and devices.

Progress is reported between blocks, with nothing in Python per step. Draws leave the device block
by block, into memory or onto disk. However a run is cut into blocks, stopped and continued, its
draws are the same to the bit; another number of devices rounds differently.
"""

from __future__ import annotations

import importlib.metadata
import time

import jax
import numpy as np

from inference.core.checkpoint import Checkpoint, Folder
from inference.core.problem import ProblemError
from inference.core.progress import AbstractProgress
from inference.core.result import Draws
from inference.core.typing import Info, Key, StoredArrays
from inference.mcmc.runner.blocks import (
    block_length,
    compile_block,
    compile_constrain,
    compile_init,
    shapes_of_draw,
)
from inference.mcmc.runner.layout import (
    choose_layout,
    from_arrays,
    to_arrays,
    to_host,
    without_keys,
)
from inference.mcmc.runner.sampler import AbstractSampler, ChainState
from inference.mcmc.runner.settings import AbstractChainSettings
from inference.mcmc.runner.sharing import compile_for
from inference.process.memory import require_memory, size_of

# raised whenever keys are derived in another way, so that a checkpoint of older draws is not
# continued
STREAM = 2

# the libraries whose versions change draws
LIBRARIES = ("jax", "numpyro", "blackjax")


def run_chains(
    engine: AbstractChainSettings,
    sampler: AbstractSampler,
    *,
    key: Key,
    progress: AbstractProgress,
    checkpoint: Checkpoint | None,
) -> Draws:
    """Run warm-up and sampling, and return the draws in the program's own space.

    If it is interrupted (Ctrl-C), it returns the draws made so far, if there are any.

    Raises:
        ProblemError: if a chain finds no starting point with a finite log density.
        CheckpointError: if the checkpoint belongs to another run or cannot be written.
    """
    run = Run(engine, sampler, engine.num_samples)
    if checkpoint is None:
        return run.draws(run.start(key), -sampler.num_warmup, progress, None, None)
    with _open_folder(checkpoint, run, key) as folder:
        saved = folder.load()
        if saved:
            states, done = from_arrays(saved[0], run.structure, run.layout), saved[1]
        else:
            states, done = run.start(key), -sampler.num_warmup
            # a start can be long: MCLMC tunes in it, and SGHMC looks for a mode
            folder.save(to_arrays(states), done)
        return run.draws(states, done, progress, folder, checkpoint.every)


def continue_chains(
    engine: AbstractChainSettings,
    sampler: AbstractSampler,
    draws: Draws,
    num_samples: int,
    progress: AbstractProgress,
) -> Draws:
    """Return the draws and `num_samples` more per chain, made from the state that they hold."""
    run = Run(engine, sampler, num_samples, offset=draws.length)
    states = from_arrays(draws.state, run.structure, run.layout)
    more = run.draws(states, draws.length, progress, None, None)
    joined = {
        part: {name: np.concatenate([old[name], new[name]], axis=1) for name in new}
        for part, old, new in (
            ("samples", draws.samples, more.samples),
            ("stats", draws.stats, more.stats),
        )
    }
    info = draws.info | more.info | {"seconds": draws.info["seconds"] + more.info["seconds"]}
    made = draws.length + more.length
    wanted = max(_requested_draws(draws.info), _requested_draws(more.info))
    info.pop("interrupted", None)
    if made < wanted:
        info["interrupted"] = _describe_interruption(made, wanted)
    return Draws(joined["samples"], joined["stats"], info, more.state)


def _describe_interruption(made: int, wanted: int) -> str:
    """Return what `info["interrupted"]` says."""
    return f"{made} of {wanted} draws"


def _requested_draws(info: Info) -> int:
    """Return how many draws an interrupted run was to make; 0 if it was not interrupted."""
    return int(info["interrupted"].split()[2]) if "interrupted" in info else 0


class Run:
    """Draws number offset, ..., offset + num_samples - 1 of the chains of an engine.

    Warm-up comes first, if it is still to do.

    Args:
        engine: the settings.
        sampler: the chain.
        num_samples: the number of draws to keep per chain.
        offset: the number of the first draw.
    """

    def __init__(
        self,
        engine: AbstractChainSettings,
        sampler: AbstractSampler,
        num_samples: int,
        offset: int = 0,
    ) -> None:
        self.engine, self.sampler = engine, sampler
        self.offset, self.num_samples = offset, num_samples
        self.refuse_absurd_sizes()
        # the shapes of the states of all chains, and of what is recorded of them
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), engine.num_chains))
        self.structure = jax.eval_shape(jax.vmap(sampler.init), keys)
        recorded = jax.eval_shape(jax.vmap(sampler.record), self.structure)
        self.layout = choose_layout(engine.chain_method, engine.num_chains, sampler.cheap_steps)
        self.draw_shapes = shapes_of_draw(sampler, recorded)
        self.length = block_length(
            (recorded[0], [self.draw_shapes] * engine.num_chains),
            sampler.num_warmup + num_samples,
        )
        self.init_chains = compile_for(
            compile_init, engine, sampler, self.layout, sampler.quick_start
        )
        self.block = compile_for(compile_block, engine, sampler, self.layout, self.length)
        self.constrain = compile_for(compile_constrain, engine, sampler, self.layout)

    def refuse_absurd_sizes(self) -> None:
        """Refuse more chains than memory can hold; `shapes` speaks of their draws.

        Raises:
            MemoryBoundError: naming the sizes.
        """
        chains, sites = self.engine.num_chains, self.sampler.problem.latents.values()
        latents = [(chains, *shape) for shape in sites]
        name = type(self.engine).__name__
        require_memory(
            size_of(latents),
            f"{name}(num_chains={chains}) of a model with {len(latents)} sites",
            "run fewer chains, or a smaller model",
        )

    def start(self, key: Key) -> ChainState:
        """Return the states of all chains before their first step."""
        chains = self.engine.num_chains
        keys = jax.random.split(key, chains) if chains > 1 else key[None]
        return self.sampler.start(self.init_chains, keys, self.layout)

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of all that is kept, by name."""
        front = (self.engine.num_chains, self.num_samples)
        return {
            name: jax.ShapeDtypeStruct((*front, *one.shape), one.dtype)
            for name, one in self.draw_shapes.items()
        }

    def draws(
        self,
        states: ChainState,
        done: int,
        progress: AbstractProgress,
        folder: Folder | None,
        every: int | None,
    ) -> Draws:
        """Make all draws from number `done` on, into memory or into the folder.

        Args:
            states: the states of all chains before draw `done`.
            done: the number of the first draw; negative in warm-up.
            progress: what shows how far the run is.
            folder: the folder of the checkpoint, or None.
            every: the number of draws between two saved states.
        """
        started, end = time.perf_counter(), self.offset + self.num_samples
        shapes = {} if folder else self.shapes()
        require_memory(
            float(sum(size_of([one.shape], one.dtype.itemsize) for one in shapes.values())),
            f"{type(self.engine).__name__}(num_samples={self.num_samples}, "
            f"num_chains={self.engine.num_chains})",
            "keep fewer draws (thinning), or keep them on disk (checkpoint=...)",
        )
        kept = {name: np.empty(one.shape, one.dtype) for name, one in shapes.items()}
        progress.note(self.layout.describe(self.engine.num_chains))
        progress.start(end - done, type(self.engine).__name__)
        saved, interrupted, divergences = done, False, 0
        # `at` changes in one piece, whenever Ctrl-C comes
        at = (states, done)
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
                # divergences of adaptation do not count
                if done >= 0:
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

    def advance(self, states: ChainState, first: int, stop: int) -> tuple[ChainState, StoredArrays]:
        """Make draws first, ..., stop - 1.

        Returns:
            The states after them; and what is kept of them by name, in the program's own space,
            shape (chain, draw, ...).
        """
        count = stop - first
        states, (positions, stats) = self.block(states, first, count)
        block = {f"stats/{k}": v[:, :count] for k, v in to_host(stats).items()}
        if first < 0:
            return states, block
        # one draw after another: in a batch, rounding would depend on a draw's place in the block
        by_draw = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), to_host(positions))
        for name, values in self.constrain(by_draw).items():
            block[f"samples/{name}"] = np.asarray(values).swapaxes(0, 1)[:, :count]
        return states, block

    def result(
        self, kept: StoredArrays, states: ChainState, done: int, interrupted: bool, seconds: float
    ) -> Draws:
        """Return the draws with facts about the run and the states after the last draw."""
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
            facts["interrupted"] = _describe_interruption(done, self.offset + self.num_samples)
            kept = {name: values[:, : done - self.offset] for name, values in kept.items()}
        state = {f"state/{name}": value for name, value in to_arrays(states).items()}
        return Draws.from_arrays(kept | state, facts)


def _open_folder(checkpoint: Checkpoint, run: Run, key: Key) -> Folder:
    """Open the checkpoint's folder of a run, or make it."""
    if jax.process_count() > 1:
        raise ProblemError(
            "A run of several processes cannot keep a checkpoint; leave out checkpoint, or use "
            "one process."
        )
    data, model = run.sampler.problem.fingerprint()
    double = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    identity = {
        "engine": run.engine.as_data(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "data": data,
        "model": model,
        "stream": STREAM,
        "precision": "double" if double else "single",
    }
    return Folder(checkpoint.path, identity, run.shapes())


def refuse_diverged_chains(engine: AbstractChainSettings, kept: StoredArrays) -> None:
    """Refuse a run whose chains all end where the log density is not finite.

    Nothing can be said from it.

    Raises:
        ProblemError: naming the cure.
    """
    lp = kept.get("stats/lp")
    if lp is not None and lp.size and not np.isfinite(lp[:, -1]).any():
        cure = "Lower step_size, or start" if "step_size" in engine.as_data() else "Start"
        raise ProblemError(
            f"{type(engine).__name__} diverged in every chain: the log density is not finite at "
            f"the end. {cure} nearer to the posterior (start='mode' or 'pathfinder')."
        )
