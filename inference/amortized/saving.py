"""Checkpoints of trainings: a folder with what identifies the training and its last state.

    manifest.json        what identifies the training
    state.safetensors    weights, optimiser, losses and the number of steps

Step i has a key of its own, so a training that continues from any state ends with the same weights
as one without an interruption.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import ANEW, CheckpointError, sweep, write_state
from inference.core.typing import Params
from inference.process.writing import whole_file

# Seconds between two saved states.
SAVE_EVERY = 30.0


class Snapshot(NamedTuple):
    """A training at one moment.

    Attributes:
        state: the state of training, a pytree of arrays.
        losses: the mean losses of the blocks of steps done.
        steps: the total number of steps; None as long as it is not known.
    """

    state: Params
    losses: list[float]
    steps: int | None


class TrainingCheckpoint:
    """The folder of one training.

    Args:
        path: the path of the folder, which is made if it does not exist.
        identity: what identifies the training, as plain data.

    Raises:
        CheckpointError: if the folder belongs to another training, or cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.state, self.last = path, path / "state.safetensors", time.monotonic()
        identity = json.loads(json.dumps(identity))
        try:
            path.mkdir(parents=True, exist_ok=True)
            sweep(path, ".state.")
            if not any(path.iterdir()):
                with whole_file(path / "manifest.json") as beside:
                    beside.write_text(json.dumps(identity, indent=1))
            stored = json.loads((path / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is no checkpoint of a training that can be used: {error}. {ANEW}"
            ) from None
        changed = sorted(
            name for name in {**stored, **identity} if stored.get(name) != identity.get(name)
        )
        if changed:
            raise CheckpointError(
                f"The checkpoint {path} is of another training: {', '.join(changed)} changed. "
                f"{ANEW}"
            )

    def load(self, run: Snapshot) -> Snapshot:
        """Return the last saved snapshot, or the given one if none was saved.

        Raises:
            CheckpointError: if the file is damaged.
        """
        from safetensors.numpy import load_file

        if not self.state.exists():
            return run
        leaves, structure = jax.tree.flatten(run.state)
        # safetensors raises errors of its own, so any error is caught.
        try:
            stored = load_file(self.state)
            found = [
                jnp.asarray(stored[str(i)].reshape(leaf.shape), leaf.dtype)
                for i, leaf in enumerate(leaves)
            ]
            state = jax.tree.unflatten(structure, found)
            return Snapshot(state, stored["losses"].tolist(), int(stored["steps"]))
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint {self.path} is damaged ({self.state.name}: {error}). {ANEW}"
            ) from None

    def save(self, run: Snapshot, at_once: bool) -> None:
        """Save a snapshot if the last one is old enough.

        Args:
            run: the snapshot.
            at_once: whether to save it whatever the age of the last one.

        Raises:
            CheckpointError: if the disk is full; what was saved before stays.
        """
        if not at_once and time.monotonic() - self.last < SAVE_EVERY:
            return
        state, losses, steps = run
        arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        write_state(self.path, arrays | {"losses": np.array(losses), "steps": np.array(steps)})
        self.last = time.monotonic()
