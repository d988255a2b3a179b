"""The command line's help, and settings given as text."""

import inspect
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_toys import answer, refused

import bayesdl as bdl
from bayesdl.cli import building, commands, settings
from bayesdl.cli import main as cli
from bayesdl.cli import support_table as matrix
from bayesdl.cli.parser import parser
from bayesdl.engines import ENGINES
from bayesdl.model import likelihoods

GOLDEN = Path(__file__).parents[2] / "golden"


COMMANDS = (
    "fit",
    "predict",
    "calibrate",
    "check",
    "plot",
    "summary",
    "effects",
    "report",
    "serve",
    "impute",
    "outliers",
    "recommend",
    "recommend fit",
    "recommend apply",
    "engines",
    "demo",
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_the_golden_text(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([*command.split(), "--help"]) == 0
    golden = GOLDEN / f"help{'_' * bool(command)}{command.replace(' ', '_')}.txt"
    text = capsys.readouterr().out
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_command_at_all_shows_the_help(capsys):
    assert cli.main([]) == 0
    assert "predict new rows" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "bayesdl 0.1.0\n"


def test_choices_name_every_engine_and_likelihood():
    assert set(building.engines_by_name().values()) == set(ENGINES)
    assert {line.model for line in building.models_by_name().values()} == {
        bdl.BNN,
        bdl.GP,
        bdl.FunBaT,
        bdl.StudentTProcess,
        bdl.Table,
    }
    found = {cls for cls in vars(likelihoods).values() if inspect.isclass(cls)}
    found = {cls for cls in found if issubclass(cls, likelihoods.AbstractLikelihood)}
    assert {*building.LIKELIHOODS.values(), likelihoods.AbstractLikelihood} == found


def test_an_engine_has_its_name_in_any_case():
    options = parser().parse_args(
        ["fit", "a.csv", "--target", "y", "-o", "b.bdl", "--engine", "ExactGP"]
    )
    assert options.engine == "exact-gp"


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


def test_few_whole_numbers_are_classes():
    line = building.models_by_name()["bnn"]
    few, counts = pd.Series([0, 1, 2] * 10, name="y"), pd.Series(np.arange(30) % 15, name="y")
    assert building.choose_likelihood(few, None, line)[0] == "categorical"
    assert "--regression" in building.choose_likelihood(few, None, line)[1]
    assert building.choose_likelihood(few, None, line, regression=True)[0] == "normal"
    assert building.choose_likelihood(counts, None, line)[0] == "normal"
    assert (
        building.choose_likelihood(few, None, building.models_by_name()["student-t"])[0] == "normal"
    )


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


def test_engines_lists_reasons(capsys):
    table = answer(capsys, "engines")["engines"]
    assert table["NUTS"]["BNN"] is None and "Gaussian process" in table["ExactGP"]["BNN"]
    assert cli.main(["engines"]) == 0
    assert capsys.readouterr().out.strip() == matrix.markdown(table)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["fit"], "required: DATA, -o"),
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


def test_devices_for_chains_unless_the_user_chose(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "anywhere")
    monkeypatch.setattr(cli, "cores", lambda: 16)
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    cli.prepare_jax()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=x --xla_force_host_platform_device_count=4"
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    cli.prepare_jax()
    assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=1"


def test_the_target_is_no_mode(folder, capsys):
    arguments = ["--target", "bp", "--model", "funbat", "--modes", "bmi,bp", "-o", folder / "t.bdl"]
    assert "--modes bmi,bp: 'bp' is the target" in refused(
        capsys, "fit", folder / "diabetes.csv", *arguments
    )


@pytest.mark.parametrize(
    ("engine", "settings", "model"),
    [
        (None, (), "table"),
        ("auto", (), "table"),
        ("Stacking", (), "table"),
        ("nuts", (), "bnn"),
        (None, ("hidden=20",), "bnn"),
    ],
)
def test_the_model_where_none_is_named(engine, settings, model):
    assert building.default_model(engine, settings) == model
    assert building.default_model(engine, settings, weighted=True) == "bnn"
