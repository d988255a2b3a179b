"""Files written by earlier versions load, predict the same numbers and mean the same specs.

`tests/golden/write_files.py` wrote them; files are added there and never written again.
"""

import json
import shutil
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "golden"))

import golden_answers  # noqa: E402
import golden_programs  # noqa: E402
import golden_specs  # noqa: E402

FILES = golden_answers.FILES
# one for each way in which a file is read; all files are asked what their specs mean
QUICK = """bnn-nuts.bdl bnn-classes.bdl bnn-laplace.bdl bnn-vi.bdl bnn-ssvi.bdl bnn-ssvi.sparse
    gp-exact.bdl gp-gpytorch.bdl funbat-messages.bdl program-nuts.bdl program-guide.bdl
    pfn-program.bdl pfn-cells.pfn recommend-popularity.bdl recommend-ease.bdl recommend-vae.bdl
    recommend-blend.bdl"""
PATHS = sorted(p for p in FILES.iterdir() if p.suffix in (".bdl", ".pfn", ".sparse"))
BUNDLES = [p for p in PATHS if p.suffix == ".bdl" and not p.stem.startswith("recommend-")]
STORED = json.loads((FILES / "specs.json").read_text())
# Single precision has a relative error of 6e-8 for each operation. Sums over draws, their
# differences (as in a standard deviation) and bisection make more of it, depending on the machine's
# vector units. Answers computed with AVX and with SSE4.2 alone both stay within this tolerance.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def skip_without_torch(path):
    case = golden_answers.BUNDLES.get(path.stem)
    if case is not None and case.needs_torch:
        for module in ("torch", "pyro", "gpytorch"):
            pytest.importorskip(module)


def mark(path):
    marks = [] if path.name in QUICK.split() else [pytest.mark.slow]
    return pytest.param(path, id=path.name, marks=marks)


@pytest.mark.parametrize("path", [mark(path) for path in PATHS])
def test_a_file_gives_the_numbers_that_it_gave(path):
    skip_without_torch(path)
    expected = dict(np.load(f"{path}.npz"))
    expected.pop("exact/repr", None)  # its words may change; the oldest files have it
    found = golden_answers.answers(path)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name.startswith("exact/"):
            np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)
        else:
            np.testing.assert_allclose(found[name], value, err_msg=name, **CLOSE)


def test_every_file_is_asked():
    cases = [
        (golden_answers.BUNDLES, "{}.bdl"),
        (golden_answers.PFNS, "{}.pfn"),
        (golden_answers.SPARSE, "{}.sparse"),
    ]
    cases.append((golden_answers.RECOMMENDERS, "recommend-{}.bdl"))
    assert {text.format(name) for names, text in cases for name in names} == {
        path.name for path in PATHS
    }


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_specs_in_a_file_mean_what_they_meant(path):
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    for part in ("model", "engine", "frame"):
        if "code" not in manifest[part]:
            check_meaning(manifest[part])


@pytest.mark.parametrize("name", STORED)
def test_a_stored_spec_means_what_it_meant(name):
    found = check_meaning(STORED[name])
    if name in golden_specs.SPECS:
        expected = golden_specs.SPECS[name]()
        assert type(found) is type(expected)
        assert as_stored(expected) == golden_specs.in_newest_form(STORED[name])


def check_meaning(stored):
    """Return a stored spec, which holds all that was stored, and is the same when saved again."""
    found = golden_specs.from_data(stored)
    written = as_stored(found)
    assert written == golden_specs.in_newest_form(stored)
    assert as_stored(golden_specs.from_data(written)) == written
    return found


def as_stored(spec):
    """Return a spec as a file has it, which compares where distributions do not."""
    return json.loads(json.dumps(golden_specs.to_data(spec)))


def test_every_class_that_files_may_hold_has_a_stored_spec():
    """A new one is added by `python tests/golden/write_files.py`, after `SPECS` has it."""
    assert golden_specs.kinds(list(STORED.values())) == set(golden_specs.registry())


def test_a_finished_run_is_read_from_its_checkpoint(tmp_path):
    kept = FILES / "checkpoint"
    versions = json.loads((kept / "manifest.json").read_text())["versions"]
    other = {name: old for name, old in versions.items() if version(name) != old}
    if other:
        pytest.skip(f"a checkpoint is of the versions of libraries that began it: {other}")
    shutil.copytree(kept, tmp_path / "run")
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    samples = golden_programs.fit_with_checkpoint(tmp_path / "run").samples
    expected = np.load(FILES / "checkpoint.npz")
    assert set(samples) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(samples[name], expected[name], err_msg=name)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
