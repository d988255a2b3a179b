"""The command line end to end: every command, its output, and every error in one line."""

import contextlib
import inspect
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris

import bayesdl as bdl
from bayesdl.cli import building, commands, settings
from bayesdl.cli import main as cli
from bayesdl.cli import support_table as matrix
from bayesdl.cli.parser import parser
from bayesdl.engines import ENGINES
from bayesdl.model import likelihoods

GOLDEN = Path(__file__).parents[1] / "golden"
COMMANDS = (
    "fit",
    "predict",
    "check",
    "summary",
    "recommend",
    "recommend fit",
    "recommend apply",
    "engines",
    "demo",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables: diabetes with a text column, and iris with named classes."""
    path = tmp_path_factory.mktemp("cli")
    diabetes = load_diabetes(as_frame=True).frame[["sex", "bmi", "bp", "target"]].head(60)
    diabetes["sex"] = np.where(diabetes["sex"] > 0, "male", "female")
    diabetes.to_csv(path / "diabetes.csv", index=False)
    iris = load_iris(as_frame=True).frame[::3]
    iris["target"] = np.array(["setosa", "versicolor", "virginica"])[iris["target"]]
    iris.to_csv(path / "iris.csv", index=False)
    return path


GP = ["--model", "gp", "--set", "num_restarts=1", "--set", "ard=false"]


@pytest.fixture(scope="module")
def fit_output(folder):
    """What fitting a Gaussian process printed; the bundle is saved once for all tests."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(
            [
                "fit",
                str(folder / "diabetes.csv"),
                "--target",
                "target",
                *GP,
                "-o",
                str(folder / "gp.bdl"),
            ]
        )
    assert code == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def fitted(folder, fit_output):
    return folder / "gp.bdl"


@pytest.fixture(scope="module")
def classifier(folder):
    path = folder / "iris.bdl"
    arguments = [
        "--target",
        "target",
        "--model",
        "linear",
        "--engine",
        "laplace",
        "--set",
        "num_rounds=1",
    ]
    assert cli.main(["fit", str(folder / "iris.csv"), *arguments, "-o", str(path)]) == 0
    return path


def refused(capsys, *arguments):
    """The message of a command that must fail: one line, exit code 2, nothing on stdout."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bayesdl: error: ")
    assert err.count("\n") == 1
    return err


def answer(capsys, *arguments, code=0):
    """The JSON object that a command prints."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


# what it prints


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_the_golden_text(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([*command.split(), "--help"]) == 0
    golden = GOLDEN / f"help{'_' * bool(command)}{command.replace(' ', '_')}.txt"
    text = capsys.readouterr().out
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "bayesdl 0.1.0\n"


def test_choices_name_every_engine_and_likelihood():
    assert set(building.engines_by_name().values()) == set(ENGINES)
    assert {line.model for line in building.models_by_name().values()} == {
        bdl.BNN,
        bdl.GP,
        bdl.FunBaT,
    }
    found = {cls for cls in vars(likelihoods).values() if inspect.isclass(cls)}
    found = {cls for cls in found if issubclass(cls, likelihoods.AbstractLikelihood)}
    assert {*building.LIKELIHOODS.values(), likelihoods.AbstractLikelihood} == found


def test_an_engine_has_its_name_in_any_case():
    options = parser().parse_args(
        ["fit", "a.csv", "--target", "y", "-o", "b.bdl", "--engine", "ExactGP"]
    )
    assert options.engine == "exact-gp"


# fit


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, 2.0, 3.0], "normal"),
        ([1, 2, 3], "normal"),
        ([0, 1, 1], "bernoulli"),
        ([True, False, True], "bernoulli"),
        (["a", "b", "a"], "bernoulli"),
        (["a", "b", "c"], "categorical"),
    ],
)
def test_likelihood_from_target(values, expected):
    bnn = building.models_by_name()["bnn"]
    likelihood, why = building.choose_likelihood(pd.Series(values, name="y"), None, bnn)
    assert likelihood == expected
    assert "'y'" in why


def made(name, likelihood, *texts):
    """The model of the command line, and what applies the engine's settings."""
    line = building.models_by_name()[name]
    return building.build(line, likelihood, settings.Settings.parse(list(texts)))


def test_settings_reach_their_parts():
    texts = [
        "num_samples=50",
        "model.hidden=7,8",
        "activation=relu",
        "prior=student-t",
        "prior.scale=2",
        "likelihood.scale=none",
    ]
    model, configure = made("bnn", "normal", *texts)
    assert (model.hidden, model.activation, model.prior.scale, model.likelihood.scale) == (
        (7, 8),
        "relu",
        2.0,
        None,
    )
    assert type(model.prior).__name__ == "StudentT"
    assert configure(bdl.NUTS()).num_samples == 50
    model, _ = made("gp", "normal", "kernel=matern52", "lengthscale=0.5")
    assert (type(model.kernel).__name__, model.kernel.lengthscale) == ("Matern52", 0.5)
    assert made("linear", "poisson")[0].hidden == ()
    assert made("bnn", "normal", "hidden=5")[0].hidden == (5,)


def test_settings_whose_type_has_an_alias():
    assert settings.fields(bdl.SSVI)["removal"] == "str | Callable"
    assert settings.fields(bdl.priors.LayerGaussian)["weight"] == "float | tuple"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("samples=50", "Possible: model.hidden"),
        ("model.num_samples=50", "no such setting"),
        ("scale=2", "prior.scale or likelihood.scale"),
        ("num_samples=many", "expected a whole number"),
        ("num_samples=2.5", "expected a whole number"),
        ("dense_mass=2", "expected true or false"),
        ("num_samples=-3", "expected a whole number of at least 1"),
        ("activation=step", "expected one of 'tanh'"),
        ("prior=spike", "expected one of bursts"),
        ("hidden=wide", "expected numbers with commas"),
        ("num_samples", "expected key=value"),
    ],
)
def test_wrong_settings(text, words, folder, capsys):
    error = refused(
        capsys,
        "fit",
        folder / "diabetes.csv",
        "--target",
        "target",
        "--engine",
        "nuts",
        "--set",
        text,
        "-o",
        folder / "x.bdl",
    )
    assert words in error
    assert not (folder / "x.bdl").exists()


# predict, check, summary


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


def test_engines_lists_reasons(capsys):
    table = answer(capsys, "engines")["engines"]
    assert table["NUTS"]["BNN"] is None and "Gaussian process" in table["ExactGP"]["BNN"]
    assert cli.main(["engines"]) == 0
    assert capsys.readouterr().out.strip() == matrix.markdown(table)


# errors: the data


TABLES = {
    "empty": ("", "is empty"),
    "header": ("a,y\n", "has no rows"),
    "one row": ("a,y\n1,2\n", "one row"),
    "nan": ("a,y\n1,2\n,3\n3,4\n4,6\n", "row 1 is NaN"),
    "nan target": ("a,y\n1,2\n2,\n3,4\n4,6\n", "row 1 is NaN"),
    "text": ("a,y\n1,2\n2,3\nx,4\n4,6\n", "row 2 is not a number"),
    "iso dates": ("a,y\n2024-01-01,2\n2024-01-02,3\n2024-01-03,4\n2024-01-04,5\n", "holds dates"),
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
        ("sex,bmi,bp\nmale,0,tall\n", "row 0 is not a number: got 'tall'"),
        ("sex,bmi,bp\nmale,0,\n", "row 0 is NaN"),
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


def test_a_category_that_one_row_has_is_not_held_out(tmp_path):
    from bayesdl.cli.tables import hold_out

    table = pd.DataFrame({"a": np.arange(10), "b": ["rare"] + ["common"] * 9})
    held = np.array([hold_out(table, 0.5, seed, None) for seed in range(20)])
    assert not held[:, 0].any() and held[:, 1:].any()


# errors: bundles, paths, options


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
        assert "File name too long" in refused(capsys, "predict", fitted, data, "-o", out)
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
    assert "No space left" in refused(capsys, "predict", fitted, folder / "diabetes.csv", "-o", out)
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"] and out.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["fit"], "required: DATA, --target"),
        (
            ["fit", "d.csv", "--target", "y", "-o", "x", "--engine", "magic"],
            "invalid choice: 'magic'",
        ),
        (["fit", "d.csv", "--target", "y", "-o", "x", "--seed", "-1"], "expected a whole number"),
        (["summary", "absent.bdl", "--verbose"], "unrecognized arguments: --verbose"),
    ],
)
def test_wrong_usage(arguments, words, capsys):
    assert words in refused(capsys, *arguments)


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


def test_length_scales_that_do_not_fit_the_inputs(tmp_path, capsys):
    pytest.importorskip("gpytorch")
    pd.DataFrame({"a": range(9), "b": np.arange(9) % 4, "y": np.arange(9) % 5}).to_csv(
        tmp_path / "d.csv", index=False
    )
    for engine in ("exact-gp", "gpytorch"):
        arguments = [
            "--target",
            "y",
            "--model",
            "gp",
            "--engine",
            engine,
            "--set",
            "lengthscale=1,2,3",
            "-o",
            tmp_path / "x",
        ]
        assert "3 length scales and the model has 2 inputs" in refused(
            capsys, "fit", tmp_path / "d.csv", *arguments
        )


def test_interrupt(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "engines", stop)
    assert cli.main(["engines"]) == 130
    assert capsys.readouterr().err == "bayesdl: interrupted\n"


# as a process of its own


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


def test_devices_for_chains_unless_the_user_chose(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "anywhere")
    monkeypatch.setattr(cli, "cores", lambda: 16)
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    cli.prepare_jax()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=x --xla_force_host_platform_device_count=4"
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    cli.prepare_jax()
    assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=1"


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


def test_the_target_is_no_mode(folder, capsys):
    arguments = ["--target", "bp", "--model", "funbat", "--modes", "bmi,bp", "-o", folder / "t.bdl"]
    assert "--modes bmi,bp: 'bp' is the target" in refused(
        capsys, "fit", folder / "diabetes.csv", *arguments
    )
