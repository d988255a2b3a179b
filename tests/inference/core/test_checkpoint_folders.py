"""Folders of checkpoints: other runs, damage, full disks are told."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from checkpoint_toys import FAST, Interrupting, fit
from toys import entries, product_program

import bayesdl as bdl
from inference.core.checkpoint import MEANING, Folder
from inference.core.problem import Problem


def test_data_that_a_program_closes_over_are_part_of_it():
    """In the program itself, and in a compiled function that it calls."""
    i, j, y = entries()

    def fingerprint(y, shift=0.0):
        add = jax.jit(lambda x: x + np.full(len(y), shift))
        return Problem(lambda: product_program(i, j, add(jnp.asarray(y)))).fingerprint()

    changed = y.copy()
    changed[-1] += 1e-6
    assert fingerprint(y) == fingerprint(y.copy())
    assert len({fingerprint(y), fingerprint(changed), fingerprint(y, 1e-6)}) == 3


def other_program(i, j, y=None):
    """The same sites and shapes with another density."""
    with numpyro.handlers.scale(scale=0.5):
        product_program(i, j, y)


@pytest.mark.slow
def test_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    fit(checkpoint=path)
    i, j, y = entries()
    cases = [
        (product_program, y + 1, FAST, 0, "the data changed"),
        (other_program, y, FAST, 0, "the model or data in it changed"),
        (
            product_program,
            y,
            bdl.NUTS(60, 130, 2),
            0,
            "num_samples from 120 to 130.*num_samples=120 and call bdl.mcmc.extend",
        ),
        (product_program, y, FAST, 1, "the seed changed"),
    ]
    for program, target, engine, seed, words in cases:
        with pytest.raises(bdl.CheckpointError, match=words):
            bdl.fit(
                program, i, j, y=target, engine=engine, seed=seed, checkpoint=path, progress=False
            )
    manifest = json.loads((path / "manifest.json").read_text())
    older = manifest["versions"] | {"jax": "0.0.1"}
    for change, words in (
        ({"versions": older}, "jax from '0.0.1' to .*Install those again"),
        ({"schema": 99}, "schema 99"),
    ):
        (path / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(bdl.CheckpointError, match=words):
            fit(checkpoint=path)


def test_bad_checkpoints_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(bdl.CheckpointError, match="not a checkpoint"):
        fit(checkpoint=tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(bdl.CheckpointError, match="Cannot make the checkpoint"):
        fit(checkpoint=tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="every=0"):
        fit(checkpoint=tmp_path / "run", every=0)
    with pytest.raises(bdl.UnsupportedError, match="VI cannot keep a checkpoint"):
        fit(bdl.VI(steps=50), checkpoint=tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def open_folder(path):
    """A folder of one site, without a run."""
    identity = dict.fromkeys(MEANING, "")
    return Folder(path, identity, {"samples/a": jax.ShapeDtypeStruct((2, 1000), np.float64)})


def test_an_empty_folder_begins_a_run(tmp_path):
    with open_folder(tmp_path) as folder:
        assert folder.load() is None


def test_a_damaged_checkpoint_says_so(tmp_path):
    with open_folder(tmp_path / "run") as folder:
        folder.save({"000": np.zeros(3)}, 7)
    (tmp_path / "run" / "state.safetensors").write_bytes(b"")
    with (
        open_folder(tmp_path / "run") as folder,
        pytest.raises(bdl.CheckpointError, match=r"damaged \(state.safetensors"),
    ):
        folder.load()
    os.truncate(tmp_path / "run" / "draws.h5", 5000)
    with pytest.raises(bdl.CheckpointError, match=r"damaged \(draws.h5"):
        open_folder(tmp_path / "run")
    (tmp_path / "run" / "draws.h5").unlink()
    with pytest.raises(bdl.CheckpointError, match=r"damaged \(draws.h5"):
        open_folder(tmp_path / "run")


def test_a_checkpoint_in_use_says_so(tmp_path):
    open_folder(tmp_path / "run").__exit__(None)
    draws = str(tmp_path / "run" / "draws.h5")
    code = f"import h5py; file = h5py.File({draws!r}, 'r+'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(bdl.CheckpointError, match="in use by another process"):
            open_folder(tmp_path / "run")
        other.communicate(b"\n")


def test_what_killed_processes_left_is_swept(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for number in (dead.pid, os.getpid(), os.getppid()):
        (tmp_path / f".run.{number}").mkdir()
    with open_folder(tmp_path / "run"):
        (tmp_path / "run" / f".state.{dead.pid}").write_text("")
    with open_folder(tmp_path / "run"):
        assert not list((tmp_path / "run").glob(".state*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".run.{os.getppid()}", "run"]


def test_draws_and_state_are_on_the_disk_before_the_state_counts(tmp_path, monkeypatch):
    with open_folder(tmp_path / "run") as folder:
        calls, fsync, replace = [], os.fsync, os.replace

        def forced(number):
            calls.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
            fsync(number)

        def renamed(old, new):
            calls.append("renamed")
            replace(old, new)

        monkeypatch.setattr(os, "fsync", forced)
        monkeypatch.setattr(os, "replace", renamed)
        folder.save({"000": np.zeros(3)}, 7)
    assert [name for name in calls if "bayesdl-part" not in name] == ["draws.h5", "renamed", "run"]
    assert calls[1].endswith(".bayesdl-part.safetensors")


def test_a_state_that_cannot_be_saved_leaves_the_last_one(tmp_path):
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_folder(tmp_path / "run") as folder:
        folder.save({"000": np.zeros(3)}, 7)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(
                bdl.CheckpointError, match=r"Cannot save the state.*Free some space and call again"
            ):
                folder.save({"000": np.zeros(100_000)}, 8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert folder.load()[1] == 7
    assert not list((tmp_path / "run").glob(".state*"))


def test_no_space_is_refused_before_anything_is_computed(tmp_path):
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(bdl.CheckpointError, match=r"needs 0.0\d* MB|needs \d"):
            fit(bdl.NUTS(60, 5000, 2), checkpoint=tmp_path / "run", progress=Interrupting(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
