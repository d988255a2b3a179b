"""Trainings that survive: a folder with what identifies the training and its last state.

    manifest.json        what identifies the training
    state.safetensors    weights, optimiser, losses and the number of steps

Step i has a key of its own, so a training that goes on from any state ends with the same weights as one in a piece.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.checkpoint import ANEW, CheckpointError, sweep, write_state

EVERY = 30.0  # seconds between two saved states


class Saved:
    """The folder of one training.

    Args:
        path: of the folder; made where it does not exist.
        identity: what identifies the training, as plain data.

    Raises:
        CheckpointError: where the folder is that of another training, or cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.state, self.last = path, path / "state.safetensors", time.monotonic()
        identity = json.loads(json.dumps(identity))
        try:
            path.mkdir(parents=True, exist_ok=True)
            sweep(path, ".state.")
            if not any(path.iterdir()):
                beside = path / f".state.{os.getpid()}"
                beside.write_text(json.dumps(identity, indent=1))
                os.replace(beside, path / "manifest.json")
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
                f"The checkpoint {path} is of another training: {', '.join(changed)} changed. {ANEW}"
            )

    def load(self, run: tuple[Any, list[float], int | None]) -> tuple[Any, list[float], int | None]:
        """The last saved (state, losses, steps), or the given one where none was saved.

        Raises:
            CheckpointError: where the file is damaged.
        """
        from safetensors.numpy import load_file

        if not self.state.exists():
            return run
        leaves, structure = jax.tree.flatten(run[0])
        try:
            stored = load_file(self.state)
            found = [
                jnp.asarray(stored[str(i)].reshape(leaf.shape), leaf.dtype)
                for i, leaf in enumerate(leaves)
            ]
            return (
                jax.tree.unflatten(structure, found),
                stored["losses"].tolist(),
                int(stored["steps"]),
            )
        except Exception as error:  # safetensors raises its own error
            raise CheckpointError(
                f"The checkpoint {self.path} is damaged ({self.state.name}: {error}). {ANEW}"
            ) from None

    def save(self, run: tuple[Any, list[float], int | None], at_once: bool) -> None:
        """Saves (state, losses, steps), where the last time is long enough ago.

        Raises:
            CheckpointError: where the disk is full; what was saved before stays.
        """
        if not at_once and time.monotonic() - self.last < EVERY:
            return
        state, losses, steps = run
        arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        write_state(self.path, arrays | {"losses": np.array(losses), "steps": np.array(steps)})
        self.last = time.monotonic()
