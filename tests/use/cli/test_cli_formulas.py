"""Formulas in the shell: fit, predict for new groups, check, effects."""

import numpy as np
import pandas as pd
import pytest
from cli_toys import answer, refused

import bayesdl as bdl
from bayesdl.cli import main as cli


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """A table with groups that are numbers, and the fit of a formula."""
    folder = tmp_path_factory.mktemp("formulas")
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=80), "site": np.repeat(range(101, 109), 10)})
    table["arm"] = np.tile(["a", "b"], 40)
    table["y"] = 2 + table.x + (table.arm == "b") + 0.5 * random.normal(size=80)
    table.to_csv(folder / "trials.csv", index=False)
    path = folder / "run.bdl"
    formula = ["--formula", "y ~ x * arm + (1 | site)", "--engine", "laplace"]
    assert cli.main(["fit", str(folder / "trials.csv"), *formula, "-o", str(path)]) == 0
    return folder, path


def test_a_formula_is_fitted_predicted_and_checked(trials, capsys):
    folder, path = trials
    held = pd.read_csv(f"{path}.holdout.csv")
    assert len(held) == 16 and set(held.site) <= set(range(101, 109))
    # the approximation by Laplace is not close to the posterior of a group's scale
    found = answer(capsys, "check", path, code=1)
    assert found["scores"]["rmse"] == pytest.approx(bdl.load(path).score(held)["rmse"])
    held.drop(columns="y").assign(site=999).to_csv(folder / "new.csv", index=False)
    assert "--groups sample draws" in refused(capsys, "predict", path, folder / "new.csv")
    found = answer(capsys, "predict", path, folder / "new.csv", "--groups", "population")
    by_hand = bdl.load(path).predict(held, groups="population").mean
    np.testing.assert_allclose(found["predictions"]["mean"], by_hand, rtol=1e-9)


def test_effects_are_those_of_python(trials, capsys):
    folder, path = trials
    post = bdl.load(path)
    found = answer(capsys, "effects", path, "--of", "x", "--by", "arm", "--level", 0.5)
    table = bdl.effects.comparisons(post, "x", by="arm").to_pandas(0.5)
    assert found["table"]["arm"] == ["a", "b"]
    np.testing.assert_allclose(found["table"]["25%"], table["25%"], rtol=1e-9)
    found = answer(capsys, "effects", path, "--by", "arm")
    np.testing.assert_allclose(
        found["table"]["estimate"],
        bdl.effects.predictions(post, by="arm").to_pandas().estimate,
        rtol=1e-9,
    )
    answer(capsys, "effects", path, "--along", "x,arm", "-o", folder / "lines.svg")
    assert (folder / "lines.svg").read_text().startswith("<?xml")
    answer(capsys, "effects", path, "--of", "x", "--slopes", "-o", folder / "slopes.csv")
    assert list(pd.read_csv(folder / "slopes.csv").contrast) == ["dy/dx"]


def test_what_does_not_go_with_a_formula_is_refused(trials, capsys):
    folder, path = trials
    fit = "fit", folder / "trials.csv", "-o", folder / "no.bdl"
    assert "give --formula" in refused(capsys, *fit)
    formula = *fit, "--formula", "y ~ x"
    assert "--target is for tables" in refused(capsys, *formula, "--target", "y")
    assert "expected one of them" in refused(capsys, *formula, "--model", "gp")
    assert "did you mean 'arm'" in refused(capsys, *fit, "--formula", "y ~ amr")
    assert "does not parse at character 5" in refused(capsys, *fit, "--formula", "y ~ (x")
    tables = *fit, "--target", "y", "--likelihood", "weibull"
    assert "weibull is for formulas" in refused(capsys, *tables)
    assert "by --of COLUMN" in refused(capsys, "effects", path, "--slopes")
    assert "did you mean 'arm'" in refused(capsys, "effects", path, "--by", "arms")
    assert not (folder / "no.bdl").exists()
