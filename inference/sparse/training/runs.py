"""A run of SSVI from its start, or from a checkpoint, to its end, block by block.

What is saved is all that the loop holds, after whole blocks and exchanges, so a run that was killed
ends with the same numbers to the bit as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import Checkpoint, Folder
from inference.core.fingerprint import hash_traced
from inference.core.keys import named_key
from inference.core.progress import AbstractProgress
from inference.core.typing import Info, PyTree, StoredArrays
from inference.sparse.training.training import State, Training

LIBRARIES = ("jax", "numpyro", "optax")
"""The libraries whose versions change a run."""

KERNEL = "kernel of "
"""The prefix of the kernels among the settings of a checkpoint."""


class History(NamedTuple):
    """What happened at each step so far.

    Attributes:
        terms: the terms of the ELBO, likelihood and divergence, shape (steps, 2); NaN for steps
            that are still to come.
        shares: the share of the exchangeable tiles that each exchange replaced.
    """

    terms: np.ndarray
    shares: np.ndarray


class TrainingRun:
    """A run with its compiled functions.

    Args:
        training: the functions of the run.
        checkpoint: where the run is saved, or None.

    Attributes:
        temporary: the bytes that each compiled function needs besides its arguments.
        optimizer_bytes: the bytes of the optimiser's state.
    """

    def __init__(self, training: Training, checkpoint: Checkpoint | None) -> None:
        self.training, self.checkpoint = training, checkpoint
        self.temporary: dict[str, int] = {}
        self.optimizer_bytes = self.done = 0

    def run(
        self, data: tuple, progress: AbstractProgress
    ) -> tuple[State, np.ndarray, list[dict[str, Any]]]:
        """Run to the end.

        Returns:
            The state at the end; the terms of the ELBO at each step, shape (steps, 2); and what was
            exchanged when.
        """
        engine = self.training.engine
        with self.open_folder() as folder:
            start = jax.jit(self.training.initial_state)
            state = start(named_key(self.training.key, "start"))
            history = History(
                np.full((engine.steps, 2), np.nan, np.float32),
                np.zeros(engine.steps // engine.every + 1, np.float32),
            )
            done = 0
            saved = None if folder is None else folder.load()
            if saved:
                arrays, done = saved
                state = jax.tree.unflatten(jax.tree.structure(state), _state_leaves(state, arrays))
                history = History(arrays["history"], arrays["shares"])
            self.optimizer_bytes = count_bytes(state.optimizer)
            state = self.loop(state, done, history, data, progress, folder)
        return state, history.terms[: self.done], self.exchange_log(history.shares)

    def loop(
        self,
        state: State,
        done: int,
        history: History,
        data: tuple,
        progress: AbstractProgress,
        folder: Folder | None,
    ) -> State:
        """Run the steps from number `done` to the last, and write into `history`.

        Args:
            state: the state after `done` steps.
            done: the number of steps that have been made.
            history: what is kept of each step.
            data: the data as the program takes them.
            progress: what shows how far the run is.
            folder: the folder of the checkpoint, or None.
        """
        engine, training = self.training.engine, self.training
        # before compiling, which takes a while
        progress.start(engine.steps, "SSVI")
        self.done = done
        if done == engine.steps:
            progress.close()
            return state
        block = self.compile("block", training.block, state, int32(0), int32(1), data)
        exchange = None
        if engine.rate:
            function = training.exchange
            exchange = self.compile("exchange", function, state, int32(0), float32(0.0), data)
        if done:
            progress.advance(done)
        last = done
        try:
            while done < engine.steps:
                count = min(engine.every, engine.steps - done)
                state, values = block(state, int32(done), int32(count), data)
                history.terms[done : done + count] = np.asarray(values)[:count]
                done += count
                rate = engine.exchange_rate(done)
                if exchange is not None and rate > 0 and count == engine.every:
                    state, share = exchange(state, int32(done), float32(rate), data)
                    history.shares[done // engine.every] = share
                shown = f"{100 * history.shares[done // engine.every]:.1f} %"
                elbo = mean_elbo(history.terms[done - count : done])
                progress.advance(count, elbo=f"{elbo:.5g}", exchanged=shown)
                if folder is not None and self.is_due(done, last):
                    facts = {"history": history.terms, "shares": history.shares}
                    folder.save(_state_arrays(state) | facts, done)
                    last = done
        except KeyboardInterrupt:
            if not done:
                raise
            progress.stopped()
            if folder is not None:
                facts = {"history": history.terms, "shares": history.shares}
                folder.save(_state_arrays(state) | facts, done)
        finally:
            progress.close()
        self.done = done
        return state

    def is_due(self, done: int, last: int) -> bool:
        """Whether the state is to be saved after `done` steps, when it was saved after `last`."""
        if self.checkpoint is None:
            return False
        return done - last >= self.checkpoint.every or done == self.training.engine.steps

    def compile(self, name: str, function: Callable, *args: Any) -> jax.stages.Compiled:
        """Compile a function, and note the memory that it needs besides its arguments."""
        # the state before a block is not needed any more
        donated = (0,) if isinstance(args[0], State) else ()
        made = jax.jit(function, donate_argnums=donated).lower(*args).compile()
        # some platforms have no analysis
        analysis = made.memory_analysis()
        self.temporary[name] = 0 if analysis is None else int(analysis.temp_size_in_bytes)
        return made

    def exchange_log(self, shares: np.ndarray) -> list[dict[str, Any]]:
        """Return for each exchange the step after which it came, and the share it replaced."""
        every = self.training.engine.every
        return [
            {"step": i * every, "share": round(float(share), 6)}
            for i, share in enumerate(shares)
            if share > 0
        ]

    def open_folder(self) -> AbstractContextManager[Folder | None]:
        """Open the checkpoint's folder; a context manager of None where there is no checkpoint."""
        if self.checkpoint is None:
            return contextlib.nullcontext(None)
        training = self.training
        data, model = training.sites.problem.fingerprint()
        double = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        identity = {
            "engine": _engine_facts(training),
            "key": np.asarray(jax.random.key_data(training.key)).tolist(),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "data": data,
            "model": model,
            "precision": "double" if double else "single",
        }
        return Folder(self.checkpoint.path, identity, {})


def _engine_facts(training: Training) -> Info:
    """Return the settings and the kernels as plain data.

    Functions and optimisers are named by the hash of what they compute.
    """
    engine, one = training.engine, jnp.ones(3)
    facts: Info = {"name": type(engine).__name__}
    facts |= {field.name: getattr(engine, field.name) for field in dataclasses.fields(engine)}
    if callable(engine.removal):
        traced = jax.make_jaxpr(engine.removal)(one, one)
        facts["removal"] = f"function {hash_traced(traced)[:16]}"
    if engine.optimizer is not None:
        state = training.optimizer.init(one)
        traced = jax.make_jaxpr(training.optimizer.update)(one, state, one)
        facts["optimizer"] = f"optimiser {hash_traced(traced)[:16]}"
    return facts | {KERNEL + name: kernel for name, kernel in training.layout.kernels.items()}


def checkpoint_kernels(checkpoint: Checkpoint | None) -> dict[str, str] | None:
    """Return the kernels of the run in a checkpoint, or None.

    A run goes on with the kernels it began with, whatever would be faster today.
    """
    path = None if checkpoint is None else checkpoint.path / "manifest.json"
    if path is None or not path.exists():
        return None
    # the folder's own check says what is wrong with a manifest
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        settings = json.loads(path.read_text())["engine"]
        kernels = {
            name.removeprefix(KERNEL): kernel
            for name, kernel in settings.items()
            if name.startswith(KERNEL)
        }
        return kernels or None
    return None


def mean_elbo(terms: np.ndarray) -> float:
    """Return the mean ELBO over steps."""
    return float((terms[:, 0] - terms[:, 1]).mean())


def int32(number: int) -> jax.Array:
    """Return a whole number as an array of 32 bits."""
    return jnp.asarray(number, jnp.int32)


def float32(number: float) -> jax.Array:
    """Return a number as an array in single precision."""
    return jnp.asarray(number, jnp.float32)


def count_bytes(tree: PyTree) -> int:
    """Count the bytes of all arrays of a tree."""
    return int(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def _state_arrays(state: State) -> StoredArrays:
    """Return the arrays of a state, named by their numbers."""
    return {f"state/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _state_leaves(state: State, arrays: StoredArrays) -> list[jax.Array]:
    """Return the leaves of a state of this structure, the inverse of `_state_arrays`."""
    return [jnp.asarray(arrays[f"state/{i}"]) for i in range(len(jax.tree.leaves(state)))]
