"""Runs that are killed, interrupted, continued or given the wrong checkpoint; and runs longer than memory."""

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpyro
import pytest
from toys import entries, tensor_program

import bayesdl as bdl
from inference.progress import AbstractProgress

SCRIPT = Path(__file__).with_name("long_run.py")
FAST = bdl.NUTS(60, 120, 2)


def fit(engine=FAST, **options):
    i, j, y = entries()
    return bdl.fit(tensor_program, i, j, y=y, engine=engine, **{"progress": False} | options)


def same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def killed_and_resumed(engine, folder, kills, rng):
    """Kills the run at random moments after random blocks; gives the draws of the last call, which is left alone."""
    out, done = folder / "out.npz", 0
    while done < kills:
        with subprocess.Popen(command(engine, folder / "kept", out), stdout=subprocess.PIPE, text=True) as process:
            for _ in range(rng.randint(1, 4)):
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        done += 1
        if out.exists():  # it finished before: the same folder would only be read from now on
            break
    subprocess.run(command(engine, folder / "kept", out), check=True, stdout=subprocess.DEVNULL)
    return np.load(out), done


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("nuts", 3),
        pytest.param("nuts", 20, marks=pytest.mark.slow),
        pytest.param("sghmc", 10, marks=pytest.mark.slow),
        pytest.param("mclmc", 5, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(engine, kills, tmp_path):
    """`kill -9` in warm-up and in sampling; the draws are those of a run that nobody killed, to the bit."""
    subprocess.run(command(engine, "-", tmp_path / "whole.npz"), check=True, stdout=subprocess.DEVNULL)
    draws, done = killed_and_resumed(engine, tmp_path, kills, random.Random(kills))
    assert done == kills
    same(dict(np.load(tmp_path / "whole.npz")), dict(draws))


def test_a_finished_run_is_read_from_disk(tmp_path):
    whole, kept = fit(), fit(checkpoint=tmp_path / "run")
    same(whole.raw.arrays(), kept.raw.arrays())

    class NoBlocks(Interrupting):
        def advance(self, steps, **facts):
            raise AssertionError("a finished run makes no draws")

    again = fit(checkpoint=tmp_path / "run", progress=NoBlocks(0))
    same(whole.raw.arrays(), again.raw.arrays())
    assert isinstance(again.samples["a"], np.memmap)
    assert np.isfinite(again.predict().mean).all()


class Interrupting(AbstractProgress):
    """Ctrl-C after so many draws, warm-up included."""

    def __init__(self, after):
        self.left = after

    def note(self, message):
        pass

    def start(self, total, label):
        pass

    def advance(self, steps, **facts):
        self.left -= steps
        if self.left <= 0:
            raise KeyboardInterrupt

    def close(self):
        pass


def test_interrupted_gives_what_is_there(tmp_path):
    whole = fit(checkpoint=tmp_path / "whole")
    part = fit(checkpoint=tmp_path / "run", progress=Interrupting(110))
    made = part.samples["a"].shape[1]
    assert 0 < made < 120
    np.testing.assert_array_equal(part.samples["a"], whole.samples["a"][:, :made])
    with pytest.warns(UserWarning, match="interrupted after"):
        assert not part.diagnose().ok
    same(whole.raw.arrays(), fit(checkpoint=tmp_path / "run").raw.arrays())
    with pytest.raises(KeyboardInterrupt):  # in warm-up there is nothing to give
        fit(progress=Interrupting(10))


@pytest.mark.parametrize("engine", [FAST, bdl.SGHMC(200, 120, 2, thinning=3)], ids=["NUTS", "SGHMC"])
def test_extend_continues_after_load_too(engine, tmp_path):
    import dataclasses

    short = fit(engine)
    long = fit(dataclasses.replace(engine, num_samples=200))
    loaded = bdl.load(short.save(tmp_path / "short.bdl"), model=tensor_program)
    for post in (short, loaded):
        extended = post.extend(80, progress=False)
        np.testing.assert_array_equal(extended.samples["a"], long.samples["a"])
        np.testing.assert_array_equal(extended.raw.stats["lp"], long.raw.stats["lp"])
    assert short.samples["a"].shape[1] == 120


def test_extend_refused():
    i, j, y = entries()
    with pytest.raises(bdl.UnsupportedError, match="VI has no chains to continue"):
        bdl.fit(tensor_program, i, j, y=y, engine=bdl.VI(steps=50), progress=False).extend(10)
    with pytest.raises(ValueError, match="at least 1"):
        fit().extend(0)


def other_program(i, j, y=None):
    """The same sites and shapes with another density."""
    with numpyro.handlers.scale(scale=0.5):
        tensor_program(i, j, y)


def test_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    fit(checkpoint=path)
    i, j, y = entries()
    cases = [
        (tensor_program, y + 1, FAST, 0, "the data changed"),
        (other_program, y, FAST, 0, "the model changed"),
        (tensor_program, y, bdl.NUTS(60, 130, 2), 0, "num_samples from 120 to 130"),
        (tensor_program, y, FAST, 1, "the seed changed"),
    ]
    for program, target, engine, seed, words in cases:
        with pytest.raises(bdl.CheckpointError, match=words):
            bdl.fit(program, i, j, y=target, engine=engine, seed=seed, checkpoint=path, progress=False)
    (path / "manifest.json").write_text(json.dumps(json.loads((path / "manifest.json").read_text()) | {"schema": 99}))
    with pytest.raises(bdl.CheckpointError, match="schema 99"):
        fit(checkpoint=path)


def test_bad_checkpoints_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(bdl.CheckpointError, match="not a checkpoint"):
        fit(checkpoint=tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(bdl.CheckpointError, match="Cannot make the checkpoint"):
        fit(checkpoint=tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="every=0"):
        fit(checkpoint=tmp_path / "run", every=0)
    with pytest.raises(bdl.UnsupportedError, match="VI cannot keep a checkpoint"):
        fit(bdl.VI(steps=50), checkpoint=tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


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


@pytest.mark.slow
def test_a_million_draws_in_flat_memory(tmp_path):
    """Resident memory between a fifth of the run and its end grows by less than a fifth of the size of the draws."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import os, resource, numpyro, numpyro.distributions as dist, bayesdl as bdl
from inference.progress import Silent

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

class Watch(Silent):
    seen = []
    def advance(self, steps, **facts):
        self.seen.append(resident())

def target():
    numpyro.sample("z", dist.Normal(0, 1).expand([10]).to_event(1))

watch = Watch()
engine = bdl.HMC(500, 500_000, 2, num_steps=3)
post = bdl.fit(target, engine=engine, checkpoint={str(tmp_path / "run")!r}, every=50_000, progress=watch)
assert post.samples["z"].shape == (2, 500_000, 10)
print(watch.seen[len(watch.seen) // 5], watch.seen[-1], resident())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    early, late, end = map(int, out.stdout.split())
    size = (tmp_path / "run" / "draws.h5").stat().st_size
    assert size > 40e6
    assert max(late, end) - early < size / 5
