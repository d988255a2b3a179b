"""The tutorials: notebooks are in step with their scripts, hold no outputs, and run."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")

TUTORIALS = Path(__file__).parents[2] / "tutorials"
SCRIPTS = sorted(TUTORIALS.glob("*.py"))
EACH = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def test_there_are_tutorials():
    assert len(SCRIPTS) >= 3
    assert {path.stem for path in SCRIPTS} == {path.stem for path in TUTORIALS.glob("*.ipynb")}


@EACH
def test_notebook_is_in_step_with_its_script(script):
    notebook = jupytext.read(script.with_suffix(".ipynb"))
    assert cells(script.with_suffix(".ipynb")) == cells(script), (
        f"run: jupytext --to notebook {script}"
    )
    assert notebook.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    assert not any(cell.get("outputs") for cell in notebook.cells)


@EACH
def test_script_ends_in_checks_of_what_it_claims(script):
    last = [source for kind, source in cells(script) if kind == "code"][-1]
    assert last.count("assert ") >= 5


@EACH
@pytest.mark.slow
def test_notebook_runs(script, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    client = nbclient.NotebookClient(
        jupytext.read(script.with_suffix(".ipynb")), timeout=600, kernel_name="python3"
    )
    client.execute(cwd=str(TUTORIALS))
