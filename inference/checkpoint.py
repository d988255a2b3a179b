"""Runs that survive: a folder with what identifies the run, its draws so far, and the state to continue from.

    manifest.json        what identifies the run: model, data, engine, key
    draws.h5             one dataset a site and statistic, shape (chain, draw, ...), laid out in full at the start
    state.safetensors    the chains' state after so many draws; it is what commits them

Draws are written first and the state is renamed into its place after them, so a run that is killed at any moment goes on
from the last state and writes the draws after it again. The space is reserved at the start: a disk that is too full is
refused before anything is computed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
MEANING = {
    "engine": "the engine or its settings",
    "key": "the seed",
    "data": "the data",
    "model": "the model",
    "precision": "the precision of JAX",
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or that belongs to another run."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a run is kept on disk, and how often its state is.

    Attributes:
        path: a folder; made where it does not exist.
        every: draws (in warm-up: steps) between two saved states, rounded up to whole compiled blocks.
    """

    path: Path
    every: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"every={self.every!r}: expected a whole number of at least 1, the draws between saved states.")


class Folder:
    """The folder of one run, opened.

    Args:
        path: of the folder.
        identity: what identifies the run, as plain data.
        layout: shape and dtype of every dataset, by name.

    Raises:
        CheckpointError: where the folder belongs to another run, is no checkpoint, or cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any], layout: dict[str, Any]) -> None:
        self.path = path
        if not path.exists():
            self.create(identity, layout)
        self.refuse_another_run(identity)
        import h5py

        self.file: Any = h5py.File(path / "draws.h5", "r+")

    def create(self, identity: dict[str, Any], layout: dict[str, Any]) -> None:
        """Makes the folder beside its place and renames it, so that there is none without a manifest."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            beside.mkdir(parents=True)
            lay_out(beside / "draws.h5", layout)
            (beside / "manifest.json").write_text(json.dumps({"schema": SCHEMA, **identity}, indent=1))
            os.rename(beside, self.path)
        except OSError as error:
            size = sum(np.dtype(a.dtype).itemsize * int(np.prod(a.shape)) for a in layout.values())
            raise CheckpointError(
                f"Cannot make the checkpoint {self.path}: {error.strerror or error}. It needs {size / 1e6:.1f} MB; choose a "
                "folder that can be written and has the space, or keep fewer draws (thinning)."
            ) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def refuse_another_run(self, identity: dict[str, Any]) -> None:
        cure = "Give another path, or remove the folder to begin anew."
        try:
            stored = json.loads((self.path / "manifest.json").read_text())
            schema = stored["schema"]
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(f"{self.path} is not a checkpoint (it has no manifest that can be read). {cure}") from None
        if schema > SCHEMA:
            raise CheckpointError(f"{self.path} has schema {schema}, and this version reads up to {SCHEMA}. {cure}")
        for part, meaning in MEANING.items():
            ours = json.loads(json.dumps(identity[part]))
            if stored.get(part) != ours:
                raise CheckpointError(
                    f"The checkpoint {self.path} is of another run: {meaning} changed{told(stored.get(part), ours)}. {cure}"
                )

    def save(self, state: dict[str, np.ndarray], draws: int) -> None:
        """Commits the draws written so far, with the state after them.

        Raises:
            CheckpointError: where the disk is full; what was committed before stays.
        """
        from safetensors.numpy import save_file

        beside = self.path / f".state.{os.getpid()}"
        try:
            self.file.flush()
            save_file(state | {"draws": np.asarray(draws)}, beside)
            os.replace(beside, self.path / "state.safetensors")
        except Exception as error:  # safetensors raises its own error for a failed write
            beside.unlink(missing_ok=True)
            raise CheckpointError(
                f"Cannot save the state in {self.path}: {error}. Free some space and call again: the run goes on from its "
                "last saved state."
            ) from None

    def load(self) -> tuple[dict[str, np.ndarray], int] | None:
        """The last state and the number of draws before it, or None where none was saved yet."""
        from safetensors.numpy import load_file

        path = self.path / "state.safetensors"
        if not path.exists():
            return None
        state = load_file(path)
        return state, int(state.pop("draws"))

    def write(self, start: int, block: dict[str, np.ndarray]) -> None:
        """Writes draws from number `start` on.

        Raises:
            CheckpointError: where they cannot be written.
        """
        try:
            for name, values in block.items():
                self.file[name][:, start : start + values.shape[1]] = values
        except OSError as error:
            raise CheckpointError(f"Cannot write draws into {self.path}: {error.strerror or error}.") from None

    def close(self) -> dict[str, np.ndarray]:
        """Closes the file and gives its datasets, mapped into memory rather than read."""
        mapped = {name: map_dataset(self.path / "draws.h5", self.file[name]) for name in names_of(self.file)}
        self.file.close()
        return mapped


def lay_out(path: Path, layout: dict[str, Any]) -> None:
    """Makes an HDF5 file with contiguous datasets of these shapes, all of its space reserved."""
    import h5py

    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    with h5py.File(path, "w") as file:
        for name, array in layout.items():
            kind = h5py.h5t.py_create(np.dtype(array.dtype), logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(array.shape), dcpl=early, lcpl=links)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def names_of(file: Any) -> list[str]:
    """The names of all datasets, groups included."""
    import h5py

    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def map_dataset(path: Path, dataset: Any) -> np.ndarray:
    """A contiguous dataset as an array that is read from disk where it is used."""
    if dataset.size == 0:
        return np.empty(dataset.shape, dataset.dtype)
    dtype = np.dtype(np.uint8) if dataset.dtype == bool else dataset.dtype
    mapped = np.memmap(path, dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape)
    return mapped.view(bool) if dataset.dtype == bool else mapped


def told(old: Any, new: Any) -> str:
    """Which setting changed, in brackets; nothing for hashes."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    changed = [
        f"{name} from {old.get(name)!r} to {new.get(name)!r}" for name in {**old, **new} if old.get(name) != new.get(name)
    ]
    return f" ({', '.join(changed)})"
