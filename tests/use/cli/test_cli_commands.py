"""The command line on small tables: fit, predict, check, summary."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_toys import GP, answer, refused

import bayesdl as bdl
from bayesdl.cli import main as cli


@pytest.fixture(scope="module")
def classifier(folder):
    """A fit that is not to be trusted: it stops long before it is close to the posterior."""
    path = folder / "iris.bdl"
    arguments = [
        "--target",
        "target",
        "--model",
        "linear",
        "--engine",
        "vi",
        "--set",
        "steps=100",
    ]
    assert cli.main(["fit", str(folder / "iris.csv"), *arguments, "-o", str(path)]) == 0
    return path


def test_fit_says_what_it_chose_and_scores(folder, fit_output):
    assert (
        "ExactGP" in fit_output
        and "because a Gaussian process with 48 rows has a closed form" in fit_output
    )
    assert "because the target 'target' holds numbers" in fit_output
    assert "held-out scores (12 rows)" in fit_output and "rmse" in fit_output
    held, table = pd.read_csv(folder / "gp.bdl.holdout.csv"), pd.read_csv(folder / "diabetes.csv")
    assert len(held.merge(table, how="inner")) == len(held) == 12


def test_fit_without_holding_out_removes_stale_held_out_rows(folder, capsys):
    (folder / "all.bdl.holdout.csv").write_text("of an earlier fit")
    result = answer(
        capsys,
        "fit",
        folder / "diabetes.csv",
        "--target",
        "target",
        *GP,
        "--holdout",
        0,
        "-o",
        folder / "all.bdl",
    )
    assert result["rows"] == {"training": 60, "held out": 0}
    assert result["scores"] is None and not (folder / "all.bdl.holdout.csv").exists()


def test_names_with_dots_keep_their_own_held_out_rows(folder, tmp_path, capsys):
    arguments = [folder / "diabetes.csv", "--target", "target", *GP]
    files = [
        answer(capsys, "fit", *arguments, "-o", tmp_path / name)["holdout"]
        for name in ("run.v1", "run.v2")
    ]
    assert [Path(file).name for file in files] == ["run.v1.holdout.csv", "run.v2.holdout.csv"]
    assert answer(capsys, "check", tmp_path / "run.v1")["data"] == files[0]


@pytest.mark.slow
def test_classes_become_a_categorical(classifier, folder, capsys):
    result = answer(capsys, "predict", classifier, folder / "iris.csv")
    assert result["rows"] == 50
    columns = result["predictions"]
    np.testing.assert_allclose(
        sum(np.array(columns[f"P({c})"]) for c in ("setosa", "versicolor", "virginica")),
        1.0,
        atol=1e-6,
    )
    assert np.mean(np.array(columns["class"]) == pd.read_csv(folder / "iris.csv")["target"]) > 0.8


def test_predict_to_stdout_csv_and_parquet(fitted, folder, capsys):
    assert cli.main(["predict", str(fitted), str(folder / "diabetes.csv"), "--level", "0.8"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "mean,std,10%,90%,aleatoric,epistemic" and len(lines) == 61
    assert (
        cli.main(
            [
                "predict",
                str(fitted),
                str(folder / "diabetes.csv"),
                "--level",
                "0.8",
                "-o",
                str(folder / "p.csv"),
            ]
        )
        == 0
    )
    assert (folder / "p.csv").read_text() == printed
    pytest.importorskip("pyarrow")
    pd.read_csv(folder / "diabetes.csv").to_parquet(folder / "diabetes.parquet")
    result = answer(
        capsys,
        "predict",
        fitted,
        folder / "diabetes.parquet",
        "--level",
        0.8,
        "-o",
        folder / "p.parquet",
    )
    assert result == {"out": str(folder / "p.parquet"), "rows": 60}
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "p.parquet"), pd.read_csv(folder / "p.csv")
    )


def test_check_scores_held_out_rows_and_its_exit_code(fitted, classifier, folder, capsys):
    found = answer(capsys, "check", fitted)
    assert found["diagnosis"]["ok"] and found["data"].endswith("gp.bdl.holdout.csv")
    other = answer(capsys, "check", fitted, "--data", folder / "diabetes.csv")
    assert other["scores"]["rmse"] != found["scores"]["rmse"]
    assert cli.main(["check", str(fitted)]) == 0
    assert "can be trusted" in capsys.readouterr().out
    untrusted = answer(capsys, "check", classifier, code=1)
    assert untrusted["diagnosis"]["facts"]["pareto k"] > 0.7
    assert untrusted["scores"]["accuracy"] > 0.7


def test_check_without_held_out_rows(fitted, tmp_path, capsys):
    alone = tmp_path / "alone.bdl"
    alone.write_bytes(fitted.read_bytes())
    assert answer(capsys, "check", alone)["scores"] is None
    assert cli.main(["check", str(alone)]) == 0
    assert "--data FILE" in capsys.readouterr().out


def test_summary(fitted, capsys):
    assert "sigma" in answer(capsys, "summary", fitted)["table"]
    assert cli.main(["summary", str(fitted)]) == 0
    assert "kernel.lengthscale" in capsys.readouterr().out


def test_a_category_that_one_row_has_is_not_held_out(tmp_path):
    from bayesdl.cli.tables import hold_out

    table = pd.DataFrame({"a": np.arange(10), "b": ["rare"] + ["common"] * 9})
    held = np.array([hold_out(table, 0.5, seed, None) for seed in range(20)])
    assert not held[:, 0].any() and held[:, 1:].any()


def test_a_table_as_it_comes(tmp_path, capsys):
    """Ids, missing cells and targets, dates, weights, another separator and encoding."""
    rng, rows = np.random.default_rng(0), 40
    table = pd.DataFrame({"Größe": rng.normal(size=rows), "id": [f"u{i}" for i in range(rows)]})
    table["price"] = table["Größe"] + 0.1 * rng.normal(size=rows)
    table["day"] = pd.date_range("2024-01-01", periods=rows).strftime("%Y-%m-%d")
    table["count"] = rng.integers(1, 3, rows)
    table.loc[[3, 7, 11, 20], "Größe"] = np.nan
    table.loc[5, "price"] = np.nan
    data, saved = tmp_path / "d.csv", tmp_path / "x.bdl"
    form = ["--sep", ";", "--encoding", "cp1252"]
    table.to_csv(data, sep=";", index=False, encoding="cp1252")
    arguments = ["--target", "price", "--model", "linear", "--engine", "laplace", "-o", saved]
    options = ["--drop", "id", "--weights", "count", "--missing-target", "drop"]
    result = answer(capsys, "fit", data, *arguments, *options, *form)
    assert result["rows"] == {"training": 31, "held out": 8}
    columns = bdl.load(saved).schema.columns
    assert columns.encoded_names == ["Größe", "Größe is missing", "day"]
    out = tmp_path / "p.csv"
    answer(capsys, "predict", saved, data, "--keep", "id", "--digits", 3, "-o", out, *form)
    predicted = pd.read_csv(out)
    assert predicted["id"].tolist() == table["id"].tolist()
    assert all(float(f"{v:.3g}") == v for v in predicted["mean"])
    assert answer(capsys, "check", saved)["scores"]["rmse"] < 1
    assert answer(capsys, "plot", saved)["out"].endswith("x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert "Did you mean 'id'?" in refused(capsys, "predict", saved, data, "--keep", "ids", *form)


@pytest.mark.slow
def test_as_a_process(fitted, folder, tmp_path):
    environment = {
        k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
    }
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [
        sys.executable,
        "-m",
        "bayesdl.cli.main",
        "predict",
        str(fitted),
        str(folder / "diabetes.csv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 61
    assert (tmp_path / "cache" / "bayesdl" / "jax").is_dir()

    (tmp_path / "file").write_text("")
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "file")}  # a cache that cannot be made
    command = [sys.executable, "-m", "bayesdl.cli.main", "summary", "absent.bdl"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith("bayesdl: error: absent.bdl does not exist")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    result = answer(capsys, "demo", "--out", tmp_path / "demo")
    assert result["diabetes"]["diagnosis"]["ok"] and result["breast_cancer"]["diagnosis"]["ok"]
    assert result["diabetes"]["bnn"]["nll"] < result["diabetes"]["ridge regression"]["nll"] + 0.05
    assert (
        result["breast_cancer"]["bnn"]["nll"]
        < result["breast_cancer"]["logistic regression"]["nll"] + 0.05
    )
    names = {file.name for file in (tmp_path / "demo").iterdir()}
    assert names == {
        "diabetes.bdl",
        "diabetes.csv",
        "breast_cancer.bdl",
        "breast_cancer.csv",
        "calibration.png",
    }


@pytest.mark.slow
def test_tensor_with_blank_targets(tmp_path, capsys):
    """The name of the target is kept, and a fit is checked on its held-out rows."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"day": rng.integers(0, 8, 60), "price": rng.integers(0, 6, 60)})
    table["sales"] = np.where(
        np.arange(60) % 9 == 4, np.nan, np.sin(table["day"] / 2) * table["price"]
    )
    table.to_csv(tmp_path / "sales.csv", index=False)
    out = tmp_path / "sales.bdl"
    arguments = [
        "--target",
        "sales",
        "--model",
        "funbat",
        "--modes",
        "day,price",
        "--set",
        "iterations=30",
    ]
    assert (
        cli.main(
            ["fit", str(tmp_path / "sales.csv"), *arguments, "--set", "restarts=2", "-o", str(out)]
        )
        == 0
    )
    assert cli.main(["check", str(out), "--data", str(tmp_path / "sales.csv")]) in (0, 1)
    assert "scores on" in capsys.readouterr().out
