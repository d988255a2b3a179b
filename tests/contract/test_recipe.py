"""The recipes of CONTRIBUTING.md, followed to the letter: a new model and a new engine.

Their code is read out of that file, written into a package, imported and registered. Everything
else must follow: the table, the command line, "auto", files and the contract.
"""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from contract_checks import (
    check_round_trip,
    check_runs_or_says_why_not,
    check_settings_are_plain_data,
)

import bayesdl as bdl
from bayesdl.cli import main, support_table
from bayesdl.cli.parser import parser
from bayesdl.engines import ENGINES, choose
from bayesdl.model.examples import rows
from bayesdl.model.registry import MODELS, SPECS, registered_models, registered_specs

ROOT = Path(__file__).resolve().parents[2]


def recipe(title):
    """The blocks of Python code of a section of CONTRIBUTING.md, as one file."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return "\n\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """The package with both recipes, imported; what it registered is forgotten afterwards."""
    folder = tmp_path_factory.mktemp("recipes")
    package = folder / "recipe_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "trend.py").write_text(recipe("How to add a model"))
    (package / "importance.py").write_text(recipe("How to add an engine"))
    before = list(ENGINES), list(registered_models()), dict(registered_specs())
    sys.path.insert(0, str(folder))
    try:
        yield (
            importlib.import_module("recipe_package.trend").Trend,
            importlib.import_module("recipe_package.importance").Importance,
        )
    finally:
        sys.path.remove(str(folder))
        ENGINES[:], MODELS[:] = before[0], before[1]
        SPECS.clear()
        SPECS.update(before[2])


def test_both_are_in_the_table(recipes):
    table = support_table.support()
    assert table["NUTS"]["Trend"] is None
    assert table["Importance"]["Trend"] is None
    assert table["Importance"]["FunBaT"] == "it needs 1 to 8 latent dimensions"
    assert "| Importance" in support_table.markdown(table)


def test_both_are_on_the_command_line(recipes, capsys, tmp_path):
    X, y = rows()
    np.savetxt(tmp_path / "a.csv", np.c_[X, y], header="a,b,y", delimiter=",", comments="")
    words = ["fit", str(tmp_path / "a.csv"), "--target", "y", "-o", str(tmp_path / "fit.bdl")]
    words += ["--model", "trend", "--engine", "Importance", "--set", "num_proposals=500"]
    assert main.main([*words, "--set", "model.scale=2"]) == 0
    out = capsys.readouterr().out
    assert "Trend(scale=2.0" in out and "Importance(num_proposals=500" in out
    with pytest.raises(SystemExit):
        parser().parse_args(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "trend" in text and "importance" in text


def test_auto_takes_the_engine_that_offers_itself_first(recipes):
    Trend, Importance = recipes
    X, y = rows()
    model = Trend()
    engine, why = choose(model.problem(model.learn_schema(X, y), X, y))
    assert (engine, why) == (
        Importance(),
        "3 latent dimensions are few enough for draws from the prior",
    )
    X, y = rows(200)
    assert type(choose(model.problem(model.learn_schema(X, y), X, y))[0]) is bdl.NUTS


def test_the_contract_of_the_model(recipes, tmp_path):
    (example,) = recipes[0].examples()
    for engine in (bdl.NUTS, bdl.Laplace, bdl.ExactGP):
        check_runs_or_says_why_not(engine, example)
    check_round_trip(bdl.Laplace(), example, tmp_path / "fit.bdl")


def test_the_contract_of_the_engine(recipes, tmp_path):
    Trend, Importance = recipes
    check_settings_are_plain_data(Importance)
    for model in (Trend, bdl.Program, bdl.GP, bdl.FunBaT):
        check_runs_or_says_why_not(Importance, model.examples()[0])
    check_round_trip(Importance.example(), Trend.examples()[0], tmp_path / "fit.bdl")
    post = bdl.load(tmp_path / "fit.bdl")
    assert post.raw.independent
    assert post.diagnose().ok


def test_rows_are_taken_by_the_index_of_the_plate(recipes):
    """Minibatches see some of the rows, and the engine's name is enough."""
    X, y = rows()
    model = recipes[0]()
    post = bdl.fit(model, X, y, engine=bdl.VI(steps=200, batch_size=6), progress=False)
    assert np.isfinite(post.predict(X).mean).all()
    assert bdl.fit(model, X, y, engine="importance", progress=False).engine == recipes[1]()


def test_the_engine_is_right(recipes):
    """Conjugate: with a known noise the posterior of the slopes is normal; Monte Carlo, z < 4.

    Draws are chosen among proposals, so both the number of draws and the effective number of
    proposals, sum(w)^2 / sum(w^2), make the error; the latter is known from proposals made here.
    """
    Trend, Importance = recipes
    X, y = rows(12)
    model = Trend(likelihood=bdl.Normal(scale=1.0), standardize=False)
    engine = Importance(num_proposals=40_000, num_samples=2000)
    drawn = bdl.fit(model, X, y, engine=engine, progress=False).samples["w"][0, :, :, 0]
    precision = X.T @ X + np.eye(2)
    mean, covariance = np.linalg.solve(precision, X.T @ y), np.linalg.inv(precision)
    proposals = np.random.default_rng(0).normal(size=(40_000, 2))
    weights = np.exp(-((y - proposals @ X.T) ** 2).sum(1) / 2)
    share = 1 / 2000 + (weights**2).sum() / weights.sum() ** 2
    variances = covariance.diagonal()
    assert (np.abs(drawn.mean(0) - mean) < 4 * np.sqrt(variances * share)).all()
    error = np.sqrt((np.outer(variances, variances) + covariance**2) * share)
    assert (np.abs(np.cov(drawn.T) - covariance) < 4 * error).all()
