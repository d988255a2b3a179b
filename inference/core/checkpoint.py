"""Checkpoints: the folder of a run that can be interrupted at any moment and go on later.

    manifest.json        what identifies the run: model, data, engine, key
    draws.h5             one dataset for each site and statistic, shape (chain, draw, ...), laid
                         out in full at the start
    state.safetensors    the state of the chains after the draws that are committed

Draws are written first, and the state is renamed into its place after them. So a run that is killed
goes on from the last state and writes the draws after it again. Both are forced onto the disk in
that order, so that this holds for a machine that fails too. The space is reserved at the start: a
disk that is too full is refused before anything is computed. The open draws.h5 is locked, which
keeps other processes out.
"""

from __future__ import annotations

import dataclasses
import errno
import glob
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.core.typing import StoredArrays
from inference.process.writing import FULL, force_to_disk, whole_file
from inference.settings import AbstractSettings, is_whole

if TYPE_CHECKING:
    import h5py

SCHEMA = 2
MEANING = {
    "versions": "the versions of libraries",
    "engine": "the engine or its settings",
    "key": "the seed",
    "data": "the data",
    "model": "the model or data in it",
    "precision": "the precision of JAX",
}
# ends of names that this process has given
_MADE_HERE: set[str] = set()
ANEW = "Give another path, or remove the folder to begin anew."


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or that belongs to another run."""


@dataclasses.dataclass(frozen=True)
class Checkpoint(AbstractSettings):
    """Where a run is kept on disk, and how often its state is saved.

    Attributes:
        path: a folder, made if it does not exist.
        every: the number of draws (in warm-up: of steps) between two saved states, rounded up to
            whole compiled blocks.
    """

    path: Path
    every: int = 1000

    def __post_init__(self) -> None:
        if not is_whole(self.every):
            raise ValueError(
                f"every={self.every!r}: expected a whole number >= 1, the draws between states."
            )


def write_state(folder: Path, arrays: StoredArrays) -> None:
    """Write `state.safetensors` such that there is always a whole one.

    Raises:
        CheckpointError: if the disk is full; what was written before stays.
    """
    from safetensors.numpy import save

    try:
        with whole_file(folder / "state.safetensors") as beside:
            # its own writer puts another file, without the lock, in the place of this one
            beside.write_bytes(save(arrays))
    # safetensors raises its own error for a failed write
    except Exception as error:
        raise _unsaved(folder, error) from None


def _unsaved(folder: Path, error: Exception) -> CheckpointError:
    """Return the error for a state that cannot be written."""
    return CheckpointError(
        f"Cannot save the state in {folder}: {_reason(error)}. Free some space and call again: the "
        "run goes on from its last saved state."
    )


class Folder:
    """The folder of one run, open until its `with` block ends.

    Args:
        path: the folder; one that does not exist or is empty begins a new run.
        identity: what identifies the run, as plain data.
        layout: an array or its shape and dtype for every dataset, by name.

    Raises:
        CheckpointError: if the folder belongs to another run, is no checkpoint, is damaged, is
            in use by another process, or cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any], layout: dict[str, Any]) -> None:
        self.path = path
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            self.create(identity, layout)
        self.refuse_another_run(identity)
        self.file = self.open(layout)
        sweep(path, ".state.")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *failure: object) -> None:
        """Close the file.

        On a failing disk this may fail too; then the first error is the one to show.
        """
        try:
            self.file.close()
        # h5py raises RuntimeError
        except Exception as error:
            if failure[0] is None:
                raise CheckpointError(
                    f"Cannot write draws into {self.path}: {_reason(error)}."
                ) from None

    def create(self, identity: dict[str, Any], layout: dict[str, Any]) -> None:
        """Make the folder beside its place and rename it: no folder is without a manifest."""
        token = secrets.token_hex(6)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.{token}")
        _MADE_HERE.add(token)
        try:
            sweep(self.path.parent, f".{self.path.name}.")
            beside.mkdir(parents=True)
            _lay_out(beside / "draws.h5", layout)
            (beside / "manifest.json").write_text(
                json.dumps({"schema": SCHEMA, **identity}, indent=1)
            )
            for path in (beside / "draws.h5", beside / "manifest.json", beside):
                force_to_disk(path)
            os.rename(beside, self.path)
            force_to_disk(self.path.parent)
        except OSError as error:
            if (
                error.errno in (errno.ENOTEMPTY, errno.EEXIST)
                and (self.path / "manifest.json").exists()
            ):
                # another process made it meanwhile
                return
            size = sum(np.dtype(a.dtype).itemsize * int(np.prod(a.shape)) for a in layout.values())
            raise CheckpointError(
                f"Cannot make the checkpoint {self.path}: {_reason(error)}. It needs "
                f"{size / 1e6:.1f} MB; choose a "
                "folder that can be written and has the space, or keep fewer draws (thinning)."
            ) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def refuse_another_run(self, identity: dict[str, Any]) -> None:
        """Refuse a folder whose manifest is that of another run."""
        try:
            stored = json.loads((self.path / "manifest.json").read_text())
            schema = stored["schema"]
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(
                f"{self.path} is not a checkpoint (it has no manifest that can be read). {ANEW}"
            ) from None
        if schema != SCHEMA:
            raise CheckpointError(
                f"{self.path} has schema {schema}, and this version reads {SCHEMA}. {ANEW}"
            )
        for part, meaning in MEANING.items():
            ours = json.loads(json.dumps(identity[part]))
            if stored.get(part) != ours:
                raise CheckpointError(
                    f"The checkpoint {self.path} is of another run: {meaning} "
                    f"changed{_describe_change(stored.get(part), ours)}. "
                    f"{_cure_change(part, stored.get(part), ours)}{ANEW}"
                )

    def open(self, layout: dict[str, Any]) -> Any:
        """Open and lock the file of draws."""
        import h5py

        path = self.path / "draws.h5"
        try:
            file: Any = h5py.File(path, "r+")
        except BlockingIOError:
            raise CheckpointError(
                f"{self.path} is in use by another process. Wait for it, or give another path."
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {self.path} is damaged ({path.name}: {_reason(error)}). {ANEW}"
            ) from None
        if {name: file[name].shape for name in _list_datasets(file)} != {
            name: array.shape for name, array in layout.items()
        }:
            file.close()
            raise CheckpointError(
                f"The checkpoint {self.path} is damaged ({path.name} has other datasets). {ANEW}"
            )
        return file

    def save(self, state: dict[str, np.ndarray], draws: int) -> None:
        """Commit the draws written so far, with the state after them.

        Raises:
            CheckpointError: if the disk is full; what was committed before stays.
        """
        try:
            os.fsync(self.file.id.get_vfd_handle())
        except OSError as error:
            raise _unsaved(self.path, error) from None
        write_state(self.path, state | {"draws": np.asarray(draws)})

    def load(self) -> tuple[dict[str, np.ndarray], int] | None:
        """Return the last state and the number of draws before it, or None without a state.

        Raises:
            CheckpointError: if the file is damaged.
        """
        from safetensors.numpy import load_file

        path = self.path / "state.safetensors"
        if not path.exists():
            return None
        try:
            state = load_file(path)
            return state, int(state.pop("draws"))
        # safetensors raises its own error
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint {self.path} is damaged ({path.name}: {error}). {ANEW}"
            ) from None

    def write(self, start: int, block: dict[str, np.ndarray]) -> None:
        """Write draws from number `start` on, past HDF5.

        HDF5 itself keeps what it could not write, and crashes when the process ends.

        Raises:
            CheckpointError: if they cannot be written.
        """
        number = self.file.id.get_vfd_handle()
        try:
            for name, values in block.items():
                dataset = self.file[name]
                for chain, rows in enumerate(values.astype(dataset.dtype)):
                    where = (chain * dataset.shape[1] + start) * (rows.nbytes // len(rows))
                    _write_all(number, rows.tobytes(), (dataset.id.get_offset() or 0) + where)
        except OSError as error:
            raise CheckpointError(
                f"Cannot write draws into {self.path}: {_reason(error)}. Free some space and call "
                "again: the run goes on from its last saved state."
            ) from None

    def map_datasets(self) -> StoredArrays:
        """Map the datasets into memory instead of reading them."""
        return {
            name: _map_dataset(self.path / "draws.h5", self.file[name])
            for name in _list_datasets(self.file)
        }


def _write_all(number: int, data: bytes, where: int) -> None:
    """Write into an open file, in as many pieces as it takes."""
    while data:
        count = os.pwrite(number, data, where)
        data, where = data[count:], where + count


def sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left in a folder: the prefix and the number of a process.

    One with the number of this process, which it has not made, is from an earlier process.
    """
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        number, _, token = path.name.removeprefix(prefix).partition(".")
        if not number.isdecimal() or token in _MADE_HERE:
            continue
        if int(number) == os.getpid() or not _is_running(int(number)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether there is a process with this number on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    # the process belongs to another user
    except OSError:
        return True
    return True


def _lay_out(path: Path, layout: dict[str, Any]) -> None:
    """Make an HDF5 file with contiguous datasets of these shapes, and reserve all of its space."""
    import h5py

    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    with h5py.File(path, "w") as file:
        for name, array in layout.items():
            kind = h5py.h5t.py_create(np.dtype(array.dtype), logical=True)
            h5py.h5d.create(
                file.id,
                name.encode(),
                kind,
                h5py.h5s.create_simple(array.shape),
                dcpl=early,
                lcpl=links,
            )
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _list_datasets(file: h5py.File) -> list[str]:
    """List the names of all datasets, those in groups included."""
    import h5py

    names: list[str] = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return names


def _map_dataset(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """Return a contiguous dataset as an array that is read from disk when it is used."""
    if dataset.size == 0:
        return np.empty(dataset.shape, dataset.dtype)
    dtype = np.dtype(np.uint8) if dataset.dtype == bool else dataset.dtype
    mapped = np.memmap(path, dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape)
    return mapped.view(bool) if dataset.dtype == bool else mapped


def _cure_change(part: str, old: object, new: dict[str, Any]) -> str:
    """Say what else helps against a change, besides beginning anew."""
    if part == "versions":
        return "Install those again to go on with it. "
    if (
        part != "engine"
        or not isinstance(old, dict)
        or old | {"num_samples": new["num_samples"]} != new
    ):
        return ""
    return (
        f"To add draws, fit with num_samples={old['num_samples']} and call bdl.mcmc.extend on "
        "what it gives. "
    )


def _reason(error: Exception) -> str:
    """Return the message of an error in one line; HDF5 wraps the system's words in a paragraph."""
    if getattr(error, "errno", None) in FULL or "No space left" in str(error):
        return "the disk is full (No space left on device)"
    system = re.search(r"error message = '([^']*)'", str(error))
    return system[1] if system else " ".join(str(error).split())


def _describe_change(old: object, new: object) -> str:
    """Say in brackets which setting changed; return nothing for hashes."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    changed = [
        f"{name} from {old.get(name)!r} to {new.get(name)!r}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    return f" ({', '.join(changed)})"
