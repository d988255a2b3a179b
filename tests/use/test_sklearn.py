"""The scikit-learn estimators: scikit-learn's own checks, and use in its tools."""

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from estimator_checks import QUICK, checks_of
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayesdl as bdl
from bayesdl.sklearn import BayesClassifier, BayesRegressor

LINEAR, TWO, MANY = (
    bdl.BNN(hidden=(), likelihood=law) for law in (bdl.Normal(), bdl.Bernoulli(), bdl.Categorical())
)
ENGINE = bdl.Laplace(num_rounds=3)
REGRESSOR, CLASSIFIER = BayesRegressor(LINEAR, ENGINE), BayesClassifier(MANY, ENGINE)
BOTH = pytest.mark.parametrize(
    "estimator", [REGRESSOR, CLASSIFIER], ids=["regressor", "classifier"]
)

WITH_TARGET = QUICK | {
    "check_requires_y_none",
    "check_supervised_y_no_nan",
    "check_classifiers_regression_target",
}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=40)
LABEL = np.where(Y > 0, "up", "down")


@BOTH
def test_quick_scikit_learn_checks(estimator):
    run = set()
    for instance, check in checks_of(estimator, True, WITH_TARGET):
        check(instance)
        run.add(check.func.__name__)
    # scikit-learn gives this one to classifiers only
    assert run == WITH_TARGET - (
        set() if estimator is CLASSIFIER else {"check_classifiers_regression_target"}
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@BOTH
def test_all_other_scikit_learn_checks(estimator):
    for instance, check in checks_of(estimator, False, WITH_TARGET):
        check(instance)


@pytest.fixture(scope="module")
def regressor():
    return clone(REGRESSOR).fit(X, Y)


@pytest.fixture(scope="module")
def classifier():
    return clone(CLASSIFIER).set_params(model=TWO).fit(X, LABEL)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.quick_cases(1)
def test_a_row_alone_is_predicted_as_among_others(regressor, rows):
    np.testing.assert_allclose(
        regressor.predict(X[:rows]), regressor.predict(X)[:rows], rtol=1e-7, atol=1e-9
    )


def test_predictions_are_those_of_the_posterior(regressor):
    mean, std = regressor.predict(X, return_std=True)
    post = bdl.fit(LINEAR, X, Y, engine=ENGINE, seed=0, progress=False)
    np.testing.assert_array_equal(mean, post.predict(X, double=True).mean)
    np.testing.assert_array_equal(std, post.predict(X, double=True).std)
    np.testing.assert_array_equal(regressor.predict(X), mean)
    assert regressor.score(X, Y) == pytest.approx(
        1 - np.sum((Y - mean) ** 2) / np.sum((Y - Y.mean()) ** 2)
    )


@pytest.mark.slow
def test_classifier_probabilities_are_in_the_order_of_classes(classifier):
    assert classifier.classes_.tolist() == ["down", "up"]
    probs = classifier.predict_proba(X)
    np.testing.assert_allclose(probs.sum(1), 1)
    np.testing.assert_array_equal(probs, classifier.posterior_.predict(X, double=True).probs)
    np.testing.assert_array_equal(classifier.predict(X), np.where(probs[:, 1] > 0.5, "up", "down"))
    assert classifier.score(X, LABEL) == np.mean(classifier.predict(X) == LABEL)


def test_sample_y_has_the_moments_of_the_prediction(regressor):
    drawn = regressor.sample_y(X, n_samples=1000, random_state=0)
    assert drawn.shape == (40, 1000)
    mean, std = regressor.predict(X, return_std=True)
    # the draws of the function are shared by all rows, so rows err together: one bound for each
    assert np.all(np.abs(drawn.mean(1) - mean) < 5 * std / np.sqrt(1000))
    np.testing.assert_array_equal(drawn, regressor.sample_y(X, n_samples=1000, random_state=0))


def test_sample_y_takes_another_draw_of_the_function_each_time(regressor):
    # E[y] of one draw of the function varies with random_state by its epistemic sd at a far point
    far = np.array([[1000.0, 0.0, 0.0]])
    once = np.array([regressor.sample_y(far, random_state=seed)[0, 0] for seed in range(20)])
    prediction = regressor.posterior_.predict(far)
    assert prediction.epistemic[0] > 10 * prediction.aleatoric[0]
    assert once.std() > 0.5 * prediction.epistemic[0]  # 20 draws: the sample sd is off by 16 %


def test_sample_y_of_labels(classifier):
    drawn = classifier.sample_y(X, n_samples=5, random_state=0)
    assert drawn.shape == (40, 5)
    assert set(drawn.ravel()) == {"down", "up"}


@pytest.mark.slow
def test_several_targets(regressor):
    both = clone(REGRESSOR).fit(X, np.stack([Y, -Y], axis=1))
    assert both.predict(X).shape == (40, 2)
    assert both.sample_y(X, n_samples=3, random_state=0).shape == (40, 2, 3)
    column = clone(REGRESSOR).fit(X, Y[:, None])
    np.testing.assert_array_equal(column.predict(X), regressor.predict(X))


@pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's
@pytest.mark.slow
def test_gaussian_process_has_one_target():
    estimator = BayesRegressor(bdl.GP(bdl.kernels.RBF(lengthscale=1.0)), engine=bdl.ExactGP())
    with pytest.warns(DataConversionWarning):
        estimator.fit(X, Y[:, None])
    assert estimator.score(X, Y) > 0.9
    assert estimator.sample_y(X, 3, random_state=0).shape == (40, 3)


def test_data_frames_keep_names_and_categories():
    frame = pd.DataFrame({"size": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    estimator = clone(REGRESSOR).fit(frame, pd.Series(Y, name="price"))
    assert estimator.feature_names_in_.tolist() == ["size", "colour"]
    assert estimator.n_features_in_ == 2
    assert estimator.posterior_.predict(frame).target.names == ("price",)
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[["colour", "size"]])
    with pytest.raises(ValueError, match="unseen category"):
        estimator.predict(frame.assign(colour="green"))


@pytest.mark.parametrize("classes, expected", [(2, bdl.Bernoulli), (3, bdl.Categorical)])
@pytest.mark.slow
def test_default_model_follows_the_number_of_classes(classes, expected):
    estimator = BayesClassifier(engine=bdl.VI(steps=20)).fit(X, np.arange(40) % classes)
    assert isinstance(estimator.posterior_.model.likelihood, expected)


def test_an_average_is_fitted_where_everything_is_left_open():
    """An engine, weights or several targets are for a network."""
    regressor, classifier = BayesRegressor(), BayesClassifier()
    assert isinstance(regressor._chosen_model(True, None, bdl.Normal()), bdl.Table)
    assert isinstance(regressor._chosen_model(False, None, bdl.Normal()), bdl.BNN)
    assert isinstance(regressor._chosen_model(True, np.ones(40), bdl.Normal()), bdl.BNN)
    chosen = classifier._chosen_model(True, None, bdl.Bernoulli())
    assert chosen == bdl.Table(likelihood=bdl.Bernoulli())
    with_engine = BayesClassifier(engine="nuts")._chosen_model(True, None, bdl.Bernoulli())
    assert with_engine == bdl.BNN(likelihood=bdl.Bernoulli())
    assert regressor.set_params(model__hidden=(7,)).model == bdl.BNN(hidden=(7,))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [BayesRegressor(), BayesClassifier()], ids=["y", "label"])
def test_defaults_in_a_cross_validation(estimator):
    scores = cross_val_score(estimator, X, LABEL if isinstance(estimator, BayesClassifier) else Y)
    assert scores.mean() > 0.7


def test_models_of_the_other_kind_are_refused():
    with pytest.raises(ValueError, match="use BayesClassifier"):
        BayesRegressor(TWO).fit(X, Y)
    with pytest.raises(ValueError, match="use BayesRegressor"):
        BayesClassifier(LINEAR).fit(X, LABEL)
    with pytest.raises(NotFittedError):
        BayesClassifier().predict(X)


def test_specs_clone_and_stay_equal():
    estimator = BayesRegressor(
        bdl.BNN(prior=bdl.priors.Horseshoe()), engine=bdl.NUTS(num_chains=2), seed=3
    )
    again = clone(estimator)
    assert again.get_params() == estimator.get_params()
    assert dataclasses.asdict(again.model) == dataclasses.asdict(estimator.model)
    assert set(estimator.get_params()) == {
        "model",
        "engine",
        "seed",
        "progress",
        "conformal",
    }
    assert "Horseshoe" in repr(estimator)


@pytest.mark.parametrize(
    "copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
@pytest.mark.quick_cases(1)
def test_copies_predict_the_same(regressor, copied):
    again = copied(regressor)
    np.testing.assert_array_equal(again.predict(X), regressor.predict(X))
    assert again.posterior_.seed == regressor.posterior_.seed


@pytest.mark.slow
def test_pipeline_cross_validation_and_grid_search():
    pipeline = make_pipeline(StandardScaler(), clone(REGRESSOR))
    assert cross_val_score(pipeline, X, Y, cv=2).min() > 0.8


@pytest.mark.slow
def test_grid_search_over_models_and_engines():
    grid = [
        {"engine": [ENGINE]},
        {"model": [LINEAR.with_prior(bdl.priors.Laplace())], "engine": [bdl.VI(steps=20)]},
    ]
    search = GridSearchCV(clone(REGRESSOR), grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 2
    assert search.best_score_ > 0.8
    assert search.best_params_ == {"engine": ENGINE}
