"""A run of SSVI from its start, or from a checkpoint, to its end, block by block.

What is saved is all that the loop holds, after whole blocks and exchanges, so a run that was killed ends with the same numbers
to the bit as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import Checkpoint, Folder
from inference.core.fingerprint import hash_traced
from inference.core.keys import named_key
from inference.core.progress import AbstractProgress
from inference.sparse import costs
from inference.sparse.training.training import State, Training

LIBRARIES = ("jax", "numpyro", "optax")  # whose versions change a run
KERNEL = "kernel of "


class Run:
    """A run, its functions compiled."""

    def __init__(self, training: Training, checkpoint: Checkpoint | None) -> None:
        self.training, self.checkpoint = training, checkpoint
        self.temporary: dict[str, int] = {}
        self.optimizer_bytes = 0

    def go(self, data: tuple, progress: AbstractProgress) -> tuple[State, np.ndarray, list[dict]]:
        """The state at the end, the terms of the ELBO at each step, shape (steps, 2), and what was exchanged when."""
        with self.folder() as folder:
            state = jax.jit(self.training.start)(named_key(self.training.key, "start"))
            history = np.full((self.training.engine.steps, 2), np.nan, np.float32)
            shares = np.zeros(
                self.training.engine.steps // self.training.engine.every + 1, np.float32
            )
            done = 0
            saved = None if folder is None else folder.load()
            if saved:
                arrays, done = saved
                state = jax.tree.unflatten(jax.tree.structure(state), restored(state, arrays))
                history, shares = arrays["history"], arrays["shares"]
            self.optimizer_bytes = costs.bytes_of(state.optimizer)
            state = self.loop(state, done, history, shares, data, progress, folder)
        return state, history, self.log(shares)

    def loop(
        self,
        state: State,
        done: int,
        history: np.ndarray,
        shares: np.ndarray,
        data: tuple,
        progress: AbstractProgress,
        folder: Folder | None,
    ) -> State:
        """Steps number `done` to the last."""
        engine, training = self.training.engine, self.training
        progress.start(engine.steps, "SSVI")  # before compiling, which takes a while
        if done == engine.steps:
            progress.close()
            return state
        block = self.compiled("block", training.block, state, whole(0), whole(1), data)
        exchange = (
            self.compiled("exchange", training.exchange, state, whole(0), real(0.0), data)
            if engine.rate
            else None
        )
        progress.advance(done) if done else None
        last = done
        try:
            while done < engine.steps:
                count = min(engine.every, engine.steps - done)
                state, values = block(state, whole(done), whole(count), data)
                history[done : done + count] = np.asarray(values)[:count]
                done += count
                rate = training.rate(done)
                if exchange is not None and rate > 0 and count == engine.every:
                    state, share = exchange(state, whole(done), real(rate), data)
                    shares[done // engine.every] = share
                shown = f"{100 * shares[done // engine.every]:.1f} %"
                progress.advance(
                    count, elbo=f"{elbo_of(history[done - count : done]):.5g}", exchanged=shown
                )
                if (
                    folder is not None
                    and self.checkpoint is not None
                    and (done - last >= self.checkpoint.every or done == engine.steps)
                ):
                    folder.save(flattened(state) | {"history": history, "shares": shares}, done)
                    last = done
        finally:
            progress.close()
        return state

    def compiled(self, name: str, function: Any, *args: Any) -> Any:
        """A compiled function; the memory that it needs besides its arguments is noted."""
        donated = (
            (0,) if isinstance(args[0], State) else ()
        )  # the state before is not needed any more
        made = jax.jit(function, donate_argnums=donated).lower(*args).compile()
        analysis = made.memory_analysis()  # some platforms have none
        self.temporary[name] = 0 if analysis is None else int(analysis.temp_size_in_bytes)
        return made

    def log(self, shares: np.ndarray) -> list[dict]:
        """The exchanges: after which step, and what share of the exchangeable tiles."""
        every = self.training.engine.every
        return [
            {"step": i * every, "share": round(float(share), 6)}
            for i, share in enumerate(shares)
            if share > 0
        ]

    def folder(self) -> Any:
        """The checkpoint's folder, or None."""
        if self.checkpoint is None:
            return contextlib.nullcontext(None)
        training = self.training
        model_of_data, model = training.sites.problem.fingerprint()
        identity = {
            "engine": engine_facts(training),
            "key": np.asarray(jax.random.key_data(training.key)).tolist(),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "data": model_of_data,
            "model": model,
            "precision": "double" if jax.config.jax_enable_x64 else "single",  # pyright: ignore[reportAttributeAccessIssue]
        }
        return Folder(self.checkpoint.path, identity, {})


def engine_facts(training: Training) -> dict[str, Any]:
    """The settings as plain data, functions and optimisers by the hash of what they compute, and the kernels."""
    engine, one = training.engine, jnp.ones(3)
    facts = {"name": type(engine).__name__} | {
        field.name: getattr(engine, field.name) for field in dataclasses.fields(engine)
    }
    if callable(engine.removal):
        facts["removal"] = f"function {hash_traced(jax.make_jaxpr(engine.removal)(one, one))[:16]}"
    if engine.optimizer is not None:
        state = training.optimizer.init(one)
        facts["optimizer"] = (
            f"optimiser {hash_traced(jax.make_jaxpr(training.optimizer.update)(one, state, one))[:16]}"
        )
    return facts | {KERNEL + name: kernel for name, kernel in training.layout.kernels.items()}


def stored_kernels(checkpoint: Checkpoint | None) -> dict[str, str] | None:
    """The kernels of the run in a checkpoint: a run goes on with those it began with, whatever would be faster today."""
    path = None if checkpoint is None else checkpoint.path / "manifest.json"
    if path is None or not path.exists():
        return None
    with contextlib.suppress(
        ValueError, KeyError, TypeError, AttributeError
    ):  # the folder's own check says what is wrong
        settings = json.loads(path.read_text())["engine"]
        return {
            name.removeprefix(KERNEL): kernel
            for name, kernel in settings.items()
            if name.startswith(KERNEL)
        } or None
    return None


def elbo_of(terms: np.ndarray) -> float:
    """The mean over steps."""
    return float((terms[:, 0] - terms[:, 1]).mean())


def whole(number: int) -> jax.Array:
    return jnp.asarray(number, jnp.int32)


def real(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float32)


def flattened(state: State) -> dict[str, np.ndarray]:
    """The arrays of a state by number."""
    return {f"state/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def restored(state: State, arrays: dict[str, np.ndarray]) -> list[jax.Array]:
    """The leaves of a state of this structure."""
    return [jnp.asarray(arrays[f"state/{i}"]) for i in range(len(jax.tree.leaves(state)))]
