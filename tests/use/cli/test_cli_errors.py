"""What the command line cannot do: tables, bundles and outputs that cannot be used."""

import json
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from cli_toys import GP, refused

TABLES = {
    "empty": ("", "is empty"),
    "header": ("a,y\n", "has no rows"),
    "one row": ("a,y\n1,2\n", "one row"),
    "nan target": ("a,y\n1,2\n2,\n3,4\n4,6\n", "The target 'y', line 3 is NaN or missing"),
    "nan target in a file with an empty line and two lines in a cell": (
        'a,b,y\n1,"x\nx",2\n\n2,y,\n3,x,4\n4,y,6\n',
        "line 5 is NaN or missing: fill it in, or leave such rows out by --missing-target drop",
    ),
    "text": ("a,y\n1,2\n2,3\nx,4\n4,6\n", "line 4 is not a number"),
    "ids": (
        "id,y\n" + "".join(f"user {i},{i}.5\n" for i in range(12)),
        "'id' holds 12 different texts in 12 rows (e.g. 'user 0'), which is not a category: "
        "leave it out by --drop id",
    ),
    "texts as numbers": (
        "a,y\n" + "".join(f"{i},{i}000 CHF\n" for i in range(30)),
        "The target 'y' holds 30 different texts in 30 rows, e.g. '0000 CHF'",
    ),
    "two problems": (
        "id,y\n" + "".join(f"user {i},{i}.5\n" for i in range(12)) + "user 13,\n",
        "The data have 2 problems: 1. Column 'id'",
    ),
    "semicolons": ("a;y\n1;2\n2;3\n", "give it by --sep ';'"),
    "name in another case": ("a,Y\n1,2\n2,3\n", "Did you mean 'Y'?"),
    "dates and times": (
        "a,y\n1/2/2024 10:30,2\n2/2/2024 10:30,3\n3/2/2024 10:30,4\n",
        "holds dates",
    ),
    "constant": ("a,y\n1,2\n1,3\n1,4\n1,5\n", "is constant"),
    "constant target": ("a,y\n1,2\n2,2\n3,2\n4,2\n", "target is constant"),
    "no inputs": ("y\n2\n3\n4\n", "X is empty"),
    "ragged": ("a,y\n1,2\n1,2,3,4\n", "cannot be read as CSV"),
    "no target": ("a,b\n1,2\n2,3\n", "no column 'y'"),
    "not text": (b"\xff\xfe\x00\x81", "cannot be read as CSV"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_used(case, tmp_path, capsys):
    content, words = TABLES[case]
    (tmp_path / "d.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in refused(
        capsys, "fit", tmp_path / "d.csv", "--target", "y", *GP, "-o", tmp_path / "x.bdl"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["d.csv"]


def test_new_data_that_do_not_fit(fitted, tmp_path, capsys):
    new = tmp_path / "new.csv"
    for content, words in [
        ("sex,bmi\nmale,0\n", "lacks column 'bp'"),
        ("sex,bmi,bp\nother,0,0\n", "unseen category 'other'"),
        ("sex,bmi,bp\nmale,0,tall\n", "line 2 is not a number: got 'tall'"),
    ]:
        new.write_text(content)
        assert words in refused(capsys, "predict", fitted, new, "-o", tmp_path / "out.csv")
    assert "does not exist" in refused(capsys, "predict", fitted, tmp_path / "absent.csv")
    assert "is a folder" in refused(capsys, "predict", fitted, tmp_path)
    assert not (tmp_path / "out.csv").exists()


def test_parquet_that_is_none_or_cannot_be_read(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pyarrow")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and then nothing")
    arguments = ["fit", tmp_path / "d.parquet", "--target", "y", "-o", tmp_path / "x.bdl"]
    assert "cannot be read as Parquet" in refused(capsys, *arguments)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "bayesdl[parquet]"' in refused(capsys, *arguments)


def test_bundles_that_cannot_be_used(fitted, folder, tmp_path, capsys):
    (tmp_path / "cut.bdl").write_bytes(fitted.read_bytes()[:2000])
    with zipfile.ZipFile(fitted) as old, zipfile.ZipFile(tmp_path / "newer.bdl", "w") as new:
        manifest = json.loads(old.read("manifest.json")) | {"schema": 99}
        new.writestr("manifest.json", json.dumps(manifest))
    for name, words in [
        ("cut", "is truncated"),
        ("newer", "upgrade bayesdl"),
        ("absent", "does not exist"),
    ]:
        path = tmp_path / f"{name}.bdl"
        assert words in refused(capsys, "check", path)
        assert words in refused(capsys, "summary", path)
        assert words in refused(capsys, "predict", path, folder / "diabetes.csv")


@pytest.mark.parametrize("key", ["engine", "frame", "layout", "draws"])
@pytest.mark.quick_cases(1)
def test_a_manifest_that_lacks_a_key(key, fitted, tmp_path, capsys):
    with zipfile.ZipFile(fitted) as old, zipfile.ZipFile(tmp_path / "lacking.bdl", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps({k: v for k, v in json.loads(content).items() if k != key})
            new.writestr(name, content)
    assert f"its manifest lacks '{key}'" in refused(capsys, "check", tmp_path / "lacking.bdl")


def test_names_that_are_too_long(fitted, folder, tmp_path, capsys):
    data, long = folder / "diabetes.csv", tmp_path / ("x" * 300)
    for out in (
        long,
        tmp_path / ("x" * 250),
    ):  # the held-out rows have a longer name than the bundle
        assert "File name too long" in refused(
            capsys, "fit", data, "--target", "target", *GP, "-o", out
        )
    assert "File name too long" in refused(capsys, "predict", fitted, data, "-o", long)
    assert "does not exist" in refused(capsys, "check", long)
    assert "does not exist" in refused(capsys, "predict", fitted, long)
    assert not any(tmp_path.iterdir())


def test_outputs_that_cannot_be_written(fitted, folder, tmp_path, capsys):
    data = folder / "diabetes.csv"
    for out, words in [
        (tmp_path / "no" / "x.bdl", "no folder"),
        (tmp_path, "is a folder"),
        (data, "is the input"),
    ]:
        assert words in refused(capsys, "fit", data, "--target", "target", *GP, "-o", out)
        assert words in refused(capsys, "predict", fitted, data, "-o", out)
    assert "Cannot write" in refused(capsys, "demo", "--out", data)


def test_a_write_that_fails_leaves_the_old_file(fitted, folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("old")

    def half(self, path, **_):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    assert "the disk is full" in refused(
        capsys, "predict", fitted, folder / "diabetes.csv", "-o", out
    )
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"] and out.read_text() == "old"


def test_values_out_of_range(fitted, folder, capsys):
    data = folder / "diabetes.csv"
    assert "--level 1" in refused(capsys, "predict", fitted, data, "--level", 1)
    assert "--holdout 1" in refused(
        capsys, "fit", data, "--target", "target", *GP, "--holdout", 1, "-o", folder / "y.bdl"
    )


def test_an_engine_that_cannot_run_the_model(folder, capsys):
    error = refused(
        capsys,
        "fit",
        folder / "diabetes.csv",
        "--target",
        "target",
        "--engine",
        "exact-gp",
        "-o",
        folder / "y.bdl",
    )
    assert "ExactGP cannot run this model" in error and "NUTS" in error
