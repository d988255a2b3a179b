"""Runs that are killed, interrupted or extended end with the same draws."""

import collections
import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_toys import FAST, Interrupting, fit
from toys import entries, product_program

import bayesdl as bdl
from inference.core.problem import Problem
from inference.core.result import Draws

SCRIPT = Path(__file__).parents[2] / "long_run.py"


def same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(engine, folder, aim=None, wait=0.0):
    """Runs to the end, or kills the run `wait` seconds after its stage `aim` begins; its lines and
    when they came.
    """
    lines = []
    with subprocess.Popen(
        command(engine, folder / "kept", folder / "out.npz"), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            lines.append((line.strip(), time.monotonic()))
            if line.strip() == aim:
                time.sleep(wait)
                process.kill()
                aim = None
    assert process.returncode in (0, -signal.SIGKILL)
    return lines


def seconds(lines):
    """How long each stage lasted."""
    begun = {}
    for stage, when in lines:
        begun.setdefault(stage, when)
    return {
        stage: after - when
        for (stage, when), after in zip(begun.items(), list(begun.values())[1:], strict=False)
    }


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("nuts", 3),
        pytest.param("nuts", 20, marks=pytest.mark.slow),
        pytest.param("sghmc", 10, marks=pytest.mark.slow),
        pytest.param("mclmc", 5, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_killed_at_random_times(engine, kills, tmp_path):
    """`kill -9` while the run starts, in warm-up and in sampling; its draws are those of one left
    alone, to the bit.

    The stages take turns, the time within one is random. A folder whose run ends before its kill is
    compared, and the next run has a new one.
    """
    (tmp_path / "whole").mkdir()
    lasted, rng, ended = seconds(run(engine, tmp_path / "whole")), random.Random(kills), 0
    whole, hit, folder = (
        np.load(tmp_path / "whole" / "out.npz"),
        collections.Counter(),
        tmp_path / "0",
    )

    def ends(aim, wait):
        folder.mkdir(exist_ok=True)
        stage = run(engine, folder, aim, wait)[-1][0]
        if stage == "end":
            same(dict(whole), dict(np.load(folder / "out.npz")))
        else:
            hit[stage] += 1
        return stage == "end"

    while hit.total() < kills or not {"sampling", *lasted} <= set(hit):
        aim = list(lasted)[hit.total() % len(lasted)]
        if ends(aim, rng.uniform(0, lasted[aim])):
            ended += 1
            folder = tmp_path / str(ended)
    assert ends(None, 0)
    assert hit.total() >= kills


@pytest.mark.slow
def test_a_full_disk_says_so(tmp_path):
    """A limit on the size of files stands for a disk that fills up."""
    out = subprocess.run(
        [*command("nuts", tmp_path / "run", tmp_path / "out.npz"), "1000"],
        capture_output=True,
        text=True,
    )
    assert (out.returncode, out.stdout.split()[-1]) == (1, "sampling")
    assert re.search(
        "CheckpointError: .*File too large. Free some space and call again",
        out.stderr.splitlines()[-1],
    ), out.stderr


def test_a_finished_run_is_read_from_disk(tmp_path):
    whole, kept = fit(), fit(checkpoint=tmp_path / "run")
    same(whole.raw.arrays(), kept.raw.arrays())

    class NoBlocks(Interrupting):
        def advance(self, steps, **facts):
            raise AssertionError("a finished run makes no draws")

    again = fit(checkpoint=tmp_path / "run", progress=NoBlocks(0))
    same(whole.raw.arrays(), again.raw.arrays())
    assert isinstance(again.samples["w"], np.memmap)
    assert np.isfinite(again.predict().mean).all()


def test_interrupted_gives_what_is_there(tmp_path):
    whole = fit(checkpoint=tmp_path / "whole")
    part = fit(checkpoint=tmp_path / "run", progress=Interrupting(110))
    made = part.raw.length
    assert 0 < made < 120
    same({k: v[:, :made] for k, v in whole.samples.items()}, part.samples)
    same({k: v[:, :made] for k, v in whole.raw.stats.items()}, part.raw.stats)
    with pytest.warns(
        UserWarning, match=r"interrupted after 50 of 120 draws: go on with bdl\.mcmc\.extend"
    ):
        assert not part.diagnose().ok
    same(whole.raw.arrays(), fit(checkpoint=tmp_path / "run").raw.arrays())

    longer = bdl.mcmc.extend(part, 10, progress=False)
    assert longer.raw.info["interrupted"] == "60 of 120 draws"
    longer = bdl.mcmc.extend(longer, 60, progress=False)
    assert "interrupted" not in longer.raw.info
    same(whole.raw.arrays(), longer.raw.arrays())


def test_interrupted_before_the_first_draw(tmp_path, monkeypatch):
    """There is nothing to give, but the start need not be made again."""
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path / "run", progress=Interrupting(10))
    monkeypatch.setattr("inference.mcmc.hmc.NumPyroSampler.start", None)
    assert fit(checkpoint=tmp_path / "run").raw.length == 120


CYCLES = bdl.CyclicalSGMCMC(200, 120, 2, thinning=3, num_cycles=3)


@pytest.mark.parametrize(
    ("engine", "longer"),
    [
        (FAST, {"num_samples": 200}),
        pytest.param(CYCLES, {"num_samples": 200, "num_cycles": 5}, marks=pytest.mark.slow),
    ],
    ids=["NUTS", "CyclicalSGMCMC"],
)
@pytest.mark.slow
def test_extend_continues_after_load_too(engine, longer, tmp_path):
    short = fit(engine)
    long = fit(dataclasses.replace(engine, **longer))
    loaded = bdl.load(short.save(tmp_path / "short.bdl"), model=product_program)
    for post in (short, loaded):
        extended = bdl.mcmc.extend(post, 80, progress=False)
        same(long.raw.arrays(), extended.raw.arrays())
    assert short.raw.length == 120


@pytest.mark.slow
def test_extend_refused():
    i, j, y = entries()
    with pytest.raises(bdl.UnsupportedError, match="VI has no chains to continue"):
        post = bdl.fit(product_program, i, j, y=y, engine=bdl.VI(steps=50), progress=False)
        bdl.mcmc.extend(post, 10)
    with pytest.raises(ValueError, match="at least 1"):
        bdl.mcmc.extend(fit(), 0)
    draws = Draws({"w": np.zeros((2, 120, 3, 2))}, {}, {}, {"000": np.zeros(2)})
    with pytest.raises(
        ValueError, match="cycles of 40 draws, and the last one would be cut; give 80"
    ):
        CYCLES.extend(problem_of(product_program), draws, 50)
    with pytest.raises(bdl.UnsupportedError, match="an older version saved them"):
        FAST.extend(problem_of(product_program), dataclasses.replace(draws, state={}), 50)


def problem_of(program):
    i, j, y = map(jnp.asarray, entries())
    return Problem(program, (i, j), {"y": y})


@pytest.mark.slow
def test_a_million_draws_in_flat_memory(tmp_path):
    """Resident memory between a fifth of the run and its end grows by less than a fifth of the
    size of the draws.
    """
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})
import os, resource, numpyro, numpyro.distributions as dist, bayesdl as bdl
from inference.core.progress import Silent

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
folder = {str(tmp_path / "run")!r}
post = bdl.fit(target, engine=engine, checkpoint=folder, every=50_000, progress=watch)
assert post.samples["z"].shape == (2, 500_000, 10)
print(watch.seen[len(watch.seen) // 5], watch.seen[-1], resident())
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    early, late, end = map(int, out.stdout.split())
    size = (tmp_path / "run" / "draws.h5").stat().st_size
    assert size > 40e6
    assert max(late, end) - early < size / 5
