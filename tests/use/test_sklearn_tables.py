"""`BayesImputer` and `BayesDensity`: scikit-learn's own checks, and what they give."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from estimator_checks import QUICK, checks_of
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import bayesdl as bdl
from bayesdl.sklearn import BayesDensity, BayesImputer

ONE = bdl.Circuit(states=1)
IMPUTER, DENSITY = BayesImputer(ONE, "vbem"), BayesDensity(ONE, "vbem")
BOTH = pytest.mark.parametrize("estimator", [IMPUTER, DENSITY], ids=["imputer", "density"])

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)) @ np.array([[1.0, 0.8, 0.2], [0.0, 0.6, 0.5], [0.0, 0.0, 1.0]])
HOLES = np.where(RNG.random(X.shape) < 0.15, np.nan, X)


@BOTH
def test_quick_checks_of_scikit_learn(estimator):
    run = set()
    for instance, check in checks_of(estimator, quick=True):
        check(instance)
        run.add(check.func.__name__)
    assert run == QUICK


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@BOTH
def test_all_other_checks_of_scikit_learn(estimator):
    for instance, check in checks_of(estimator, quick=False):
        check(instance)


@pytest.fixture(scope="module")
def imputer():
    return clone(IMPUTER).fit(HOLES)


@pytest.fixture(scope="module")
def density():
    return clone(DENSITY).fit(X)


def table():
    x = RNG.normal(size=60)
    frame = pd.DataFrame(
        {
            "size": x,
            "kind": pd.Categorical(np.where(x > 0, "hi", "lo"), categories=["lo", "hi", "other"]),
            "name": pd.array(np.where(x > 0.5, "A", "B"), dtype="string"),
            "count": pd.array(np.round(10 + 2 * x), dtype="Int64"),
            "yes": pd.array(x > 0, dtype="boolean"),
            "when": pd.Timestamp("2024-03-01") + pd.to_timedelta(np.round(20 * x), "D"),
        },
        index=[f"row {i}" for i in range(60)],
    )
    return frame.mask(RNG.random(frame.shape) < 0.15), frame


@pytest.fixture(scope="module")
def mixed():
    holes, whole = table()
    return BayesImputer(bdl.Circuit(states=2), "vbem").fit(holes), holes, whole


def test_numbers_are_their_conditional_mean(imputer):
    """With one state rows are normal: the mean of a cell is that of the conditional normal."""
    filled = imputer.transform(HOLES)
    weights = imputer.posterior_.raw.expected().normals[0]
    schema = imputer.posterior_.schema
    shift, scale = (np.array([getattr(c, n) for c in schema.columns]) for n in ("shift", "scale"))
    z = (HOLES - shift) / scale
    mean, S = (np.asarray(part)[0, 0] for part in (weights.mean, weights.matrix))
    for row, found in zip(z, (filled - shift) / scale, strict=True):
        m = np.isnan(row)
        gain = S[np.ix_(m, ~m)] @ np.linalg.inv(S[np.ix_(~m, ~m)])
        np.testing.assert_allclose(found[m], mean[m] + gain @ (row - mean)[~m], atol=1e-10)
    np.testing.assert_array_equal(filled[~np.isnan(HOLES)], HOLES[~np.isnan(HOLES)])


def test_filled_cells_are_those_of_predictions(mixed):
    imputer, holes, _ = mixed
    filled, post = imputer.transform(holes), imputer.posterior_
    gaps = holes.isna()
    expected = post.predict(holes, of="size").mean[gaps["size"]]
    np.testing.assert_allclose(filled["size"][gaps["size"]], expected, rtol=1e-9)
    labels = post.predict(holes, of="kind").label[gaps["kind"]]
    assert filled["kind"][gaps["kind"]].tolist() == labels.tolist()


def test_a_frame_keeps_its_columns_index_and_types(mixed):
    imputer, holes, _ = mixed
    filled = imputer.transform(holes)
    assert list(filled.columns) == list(holes.columns) and filled.index.equals(holes.index)
    assert not filled.isna().any(axis=None)
    changed = filled.dtypes[filled.dtypes != holes.dtypes]
    # the mean of whole numbers need not be whole
    assert changed.to_dict() == {"count": np.dtype(float)}
    kept = filled.astype(holes.dtypes.drop("count").to_dict()).mask(holes.isna())
    pd.testing.assert_frame_equal(kept, holes.astype({"count": float}))
    # days stay days
    assert (filled["when"] == filled["when"].dt.normalize()).all()
    assert imputer.get_feature_names_out().tolist() == list(holes.columns)


def test_several_tables_differ_in_what_was_missing(mixed):
    imputer, holes, _ = mixed
    one, other, again = *imputer.sample(holes, 2), imputer.sample(holes, 1)[0]
    pd.testing.assert_frame_equal(one, again)
    gaps = holes["size"].isna()
    assert (one["size"] != other["size"])[gaps].all() and (one["size"] == other["size"])[
        ~gaps
    ].all()
    drawn = copy.copy(imputer).set_params(sample_posterior=True).transform(holes)
    pd.testing.assert_frame_equal(drawn, imputer.posterior_.impute(holes, draws=1)[0])


def test_draws_of_a_cell_have_its_moments(imputer):
    row = np.array([[X[0, 0], np.nan, X[0, 2]]])
    drawn = np.concatenate(imputer.sample(row, 400))[:, 1]
    law = imputer.posterior_.predict(row, of="x1")
    assert abs(drawn.mean() - law.mean[0]) < 4 * law.std[0] / np.sqrt(400)
    # draws of a t with many degrees of freedom: the sample variance is off by sqrt(2.2 / n)
    assert abs(drawn.var() / law.std[0] ** 2 - 1) < 4 * np.sqrt(2.2 / 400)


def test_other_columns_and_categories_are_refused(mixed, imputer):
    fitted, holes, _ = mixed
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(holes[holes.columns[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(holes.drop(columns="kind"))
    with pytest.raises(ValueError, match="unseen category 'other'"):
        fitted.transform(holes.assign(kind="other"))
    with pytest.raises(ValueError, match="2 features"):
        imputer.transform(X[:, :2])
    with pytest.raises(ValueError, match="infinity"):
        imputer.transform(np.where(X > 1, np.inf, X))
    with pytest.raises(NotFittedError):
        clone(IMPUTER).transform(X)
    with pytest.raises(ValueError, match=r"expected bdl\.Circuit"):
        BayesImputer(bdl.GP()).fit(X)
    with pytest.raises(ValueError, match="Column 'x1' has no value"):
        clone(IMPUTER).fit(np.where([False, True, False], np.nan, X))


@pytest.mark.slow
def test_in_pipelines_and_searches(imputer):
    y = X @ [1.0, 2.0, 3.0]
    whole = make_pipeline(clone(IMPUTER), LinearRegression()).fit(HOLES, y)
    expected = LinearRegression().fit(imputer.transform(HOLES), y)
    np.testing.assert_allclose(whole.predict(HOLES), expected.predict(imputer.transform(HOLES)))
    search = GridSearchCV(clone(DENSITY), {"model__states": [1, 2]}, cv=2).fit(X)
    assert search.best_params_["model__states"] in (1, 2)
    assert cross_val_score(clone(DENSITY), X, cv=2).shape == (2,)


def test_copies_give_the_same(imputer):
    for back in (pickle.loads(pickle.dumps(imputer)), copy.deepcopy(imputer)):
        np.testing.assert_array_equal(back.transform(HOLES), imputer.transform(HOLES))


def test_densities_are_those_of_the_posterior(density):
    log_p = density.score_samples(HOLES)
    np.testing.assert_array_equal(log_p, density.posterior_.density(HOLES))
    assert density.score(HOLES) == pytest.approx(log_p.mean())


def test_the_density_of_many_rows_of_one_state_is_that_of_a_normal():
    """scikit-learn's mixture of one normal, whose numbers the posterior tends to with n."""
    from sklearn.mixture import GaussianMixture

    many = np.random.default_rng(1).normal(size=(900, 3)) @ np.diag([1.0, 5.0, 0.1])
    ours = clone(DENSITY).fit(many).score_samples(many)
    theirs = GaussianMixture(1).fit(many).score_samples(many)
    # nine numbers are learned of 900 rows, and the predictive knows that they are not sure
    assert 0 < (theirs - ours).mean() < 0.02
    # both fall with the distance from one centre; the prior turns the axes a little
    assert spearmanr(ours, theirs).statistic > 0.99


def test_new_rows(density, mixed):
    drawn = density.sample(2000, random_state=0)
    np.testing.assert_array_equal(drawn, density.sample(2000, random_state=0))
    assert drawn.shape == (2000, 3) and density.sample().shape == (1, 3)
    # twenty circuits stand behind the rows, each with a mean of its own
    error = X.std(0) * np.sqrt(1 / 2000 + 1 / (20 * 80))
    assert (np.abs(drawn.mean(0) - X.mean(0)) < 5 * error).all()
    rows = mixed[0].posterior_.sample(5)
    assert rows["yes"].dtype == bool and rows["when"].dtype.kind == "M"
