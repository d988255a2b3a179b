"""Conformal sets and frozen predictors from scikit-learn and from the shell."""

import numpy as np
import pandas as pd
import pytest
from calibration_toys import linear
from sklearn.linear_model import LinearRegression, LogisticRegression

import bayesdl as bdl
from bayesdl.cli import main as cli
from bayesdl.sklearn import BayesRegressor, CalibratedBayes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 2))
Y = X @ [1.0, -0.5] + 0.5 * RNG.normal(size=150)


def test_a_regressor_gives_conformal_intervals():
    model = BayesRegressor(bdl.BNN(hidden=()), engine="laplace", conformal=True).fit(X, Y)
    low, high = model.predict_interval(X, 0.8)
    assert abs(np.mean((low <= Y) & (high >= Y)) - 0.8) < 0.1
    assert "conformal" in repr(model.posterior_)


def test_an_engine_without_draws_holds_rows_out():
    table, y = (
        pd.DataFrame(X[:60], columns=["a", "b"]),
        np.where(np.arange(60) % 15, Y[:60], np.nan),
    )
    model = BayesRegressor(bdl.GP(), engine=bdl.ExactGP(num_restarts=1), conformal=0.25)
    model.fit(table, y, missing_target="drop")
    low, high = model.predict_interval(table, 0.8)
    assert np.isfinite(high - low).all() and (high > low).all()
    rows = len(model.posterior_.problem.args[0])
    assert len(model.posterior_.adjustment.scores) + rows == 56
    with pytest.raises(ValueError, match="leave out sample_weight"):
        model.fit(table, Y[:60], np.ones(60))
    with pytest.raises(ValueError, match="the share of the rows"):
        model.set_params(conformal="yes").fit(table, Y[:60])
    # as many rows as before, which compile nothing
    with pytest.raises(ValueError, match=r"ExactGP does not give.*conformal=0\.25"):
        model.set_params(conformal=True).fit(table[:rows], Y[:rows])


def test_any_estimator_says_how_sure_it_is():
    model = CalibratedBayes(LinearRegression(), head="normal", engine="laplace").fit(X, Y)
    np.testing.assert_allclose(model.predict(X), LinearRegression().fit(X, Y).predict(X), atol=1e-4)
    low, high = model.predict_interval(X)
    assert abs(np.mean((low <= Y) & (high >= Y)) - 0.9) < 0.08
    labels = np.where(Y > 0, "up", "down")
    classifier = CalibratedBayes(LogisticRegression(), engine="laplace").fit(X, labels)
    assert classifier.classes_.tolist() == ["down", "up"]
    assert classifier.score(X, labels) > 0.8
    np.testing.assert_allclose(classifier.predict_proba(X).sum(1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables")
    table = pd.DataFrame(X, columns=["a", "b"]).assign(y=Y)
    table.to_csv(path / "data.csv", index=False)
    said = pd.DataFrame({"id": np.arange(150), "mean": X[:, 0], "y": Y})
    said.to_csv(path / "said.csv", index=False)
    p = 1 / (1 + np.exp(-4 * Y))
    probs = pd.DataFrame({"P(no)": 1 - p, "P(yes)": p, "y": np.where(Y > 0, "yes", "no")})
    probs.to_csv(path / "probs.csv", index=False)
    return path


def test_the_shell_predicts_conformal_sets(folder):
    post = linear(bdl.BNN(hidden=()), pd.DataFrame(X, columns=["a", "b"]), Y, draws=200)
    bundle, out = post.save(folder / "fit.bdl"), folder / "out.csv"
    predict = ["predict", bundle, folder / "data.csv", "--conformal", "0.9", "-o", out]
    assert cli.main(list(map(str, predict))) == 0
    table = pd.read_csv(out)
    assert list(table.columns) == ["mean", "low", "high", "pieces"]
    assert np.mean((table.low <= Y) & (table.high >= Y)) > 0.8


@pytest.mark.parametrize(("name", "column"), [("said", "mean"), ("probs", "P(yes)")])
def test_the_shell_calibrates_a_table_of_predictions(folder, name, column):
    table, bundle = folder / f"{name}.csv", folder / f"{name}.bdl"
    arguments = ["calibrate", table, "--target", "y", "--engine", "laplace", "-o", bundle]
    assert cli.main(list(map(str, arguments))) == 0
    out = folder / f"{name}.out.csv"
    assert cli.main(["predict", str(bundle), str(table), "-o", str(out)]) == 0
    assert column in pd.read_csv(out).columns
