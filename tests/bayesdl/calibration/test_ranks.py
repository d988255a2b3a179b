"""Order statistics: exact at the edge, and equal to MAPIE's and crepes' where these are there."""

import numpy as np
import pytest

from bayesdl.calibration.conformal.labels import label_scores, with_top
from bayesdl.calibration.conformal.systems import system_cdf, system_quantile
from bayesdl.calibration.held_out import group_numbers
from bayesdl.calibration.ranks import (
    as_level,
    jackknife_plus,
    rank_of,
    refuse_few,
    rows_needed,
    threshold,
)
from bayesdl.data.validation import DataError


def standard_error(share, count):
    return np.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99, 2 / 3])
def test_the_fewest_rows_are_enough_and_one_less_is_not(level):
    rows = rows_needed(level)
    assert rank_of(level, rows) == rows
    assert threshold(np.arange(rows), level) == rows - 1
    assert rows == 1 or threshold(np.arange(rows - 1), level) == np.inf
    refuse_few(rows, level, "It")
    with pytest.raises(DataError, match=f"at least {rows}"):
        refuse_few(rows - 1, level, "It")


def test_thresholds_hold_what_they_say_for_any_distribution():
    """Of 2,000 data sets each, P(new <= threshold) is k / (n + 1)."""
    rng = np.random.default_rng(0)
    for rows, level in ((9, 0.9), (40, 0.8), (25, 0.5)):
        scores = rng.standard_cauchy((2000, rows + 1))
        hits = [row[-1] <= threshold(row[:-1], level) for row in scores]
        expected = rank_of(level, rows) / (rows + 1)
        assert abs(np.mean(hits) - expected) < 3 * standard_error(expected, 2000)


def leave_one_out_means(x):
    """Means without each entry, for each data set: (sets, n)."""
    n = x.shape[1]
    return (x.sum(1, keepdims=True) - x) / (n - 1)


def test_the_jackknife_plus_covers_in_the_normal_mean_model():
    rng = np.random.default_rng(1)
    x = rng.standard_t(3, (2000, 31))
    train, new = x[:, :-1], x[:, -1]
    centers = leave_one_out_means(train)
    residuals = np.abs(train - centers)
    ends = np.stack(
        [jackknife_plus(c[:, None], r, 0.9)[:, 0] for c, r in zip(centers, residuals, strict=True)]
    )
    share = np.mean((ends[:, 0] <= new) & (new <= ends[:, 1]))
    assert abs(share - 28 / 31) < 3 * standard_error(0.9, 2000)


def test_a_predictive_system_is_uniform_at_new_rows():
    rng = np.random.default_rng(2)
    residuals, new = rng.gumbel(size=(2000, 19)), rng.gumbel(size=2000)
    u = [
        system_cdf(r, np.array([e]), tau)[0]
        for r, e, tau in zip(residuals, new, rng.uniform(size=2000), strict=True)
    ]
    from scipy.stats import kstest

    assert kstest(u, "uniform").pvalue > 0.001
    lower, upper = np.transpose([system_quantile(r, 0.9) for r in residuals])
    assert abs(np.mean(new <= upper) - 0.9) < 3 * standard_error(0.9, 2000)
    assert np.mean(new <= lower) <= np.mean(new <= upper)


@pytest.mark.parametrize("name", ["density", "aps", "raps"])
def test_label_sets_hold_what_they_say_though_probabilities_are_wrong(name):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 4)) * 2
    truth = np.exp(0.3 * logits)
    truth /= truth.sum(1, keepdims=True)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (truth.cumsum(1) > rng.uniform(size=(20_000, 1))).argmax(1)
    scores = label_scores(name, probs, 0)
    own = np.take_along_axis(scores, y[:, None], 1)[:, 0]
    limit = threshold(own[:10_000], 0.9)
    members = scores[10_000:] <= limit
    hits = members[np.arange(10_000), y[10_000:]]
    # the error of the threshold and that of the share
    assert abs(hits.mean() - 0.9) < 3 * np.sqrt(2) * standard_error(0.9, 10_000)
    filled = with_top(members, probs[10_000:])
    assert filled.any(1).all() and (filled >= members).all()


def test_equal_to_mapie():
    mapie = pytest.importorskip("mapie.regression", reason="MAPIE is not installed")
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import QuantileRegressor, Ridge
    from sklearn.model_selection import KFold

    X, y = load_diabetes(return_X_y=True)
    train, held, new = slice(0, 200), slice(200, 320), slice(320, 442)
    ridge = Ridge().fit(X[train], y[train])
    theirs = mapie.SplitConformalRegressor(ridge, confidence_level=0.9, prefit=True)
    theirs.conformalize(X[held], y[held])
    _, intervals = theirs.predict_interval(X[new])
    q = threshold(np.abs(y[held] - ridge.predict(X[held])), 0.9)
    ours = np.stack([ridge.predict(X[new]) - q, ridge.predict(X[new]) + q], 1)
    np.testing.assert_allclose(ours, intervals[:, :, 0], rtol=1e-12)

    cross = mapie.CrossConformalRegressor(Ridge(), confidence_level=0.9, cv=KFold(5), method="plus")
    cross.fit_conformalize(X[:320], y[:320])
    _, intervals = cross.predict_interval(X[new])
    centers, residuals = np.empty((320, 122)), np.empty(320)
    for fitted, out in KFold(5).split(X[:320]):
        one = Ridge().fit(X[fitted], y[fitted])
        centers[out], residuals[out] = one.predict(X[new]), np.abs(y[out] - one.predict(X[out]))
    np.testing.assert_allclose(
        jackknife_plus(centers, residuals, 0.9).T, intervals[:, :, 0], rtol=1e-12
    )

    quantiles = [
        QuantileRegressor(quantile=p, alpha=0.01).fit(X[train], y[train]) for p in (0.05, 0.95, 0.5)
    ]
    theirs = mapie.ConformalizedQuantileRegressor(quantiles, confidence_level=0.9, prefit=True)
    theirs.conformalize(X[held], y[held])
    _, intervals = theirs.predict_interval(X[new], symmetric_correction=True)
    low, high = (one.predict(X) for one in quantiles[:2])
    q = threshold(np.maximum(low[held] - y[held], y[held] - high[held]), 0.9)
    ours = np.stack([low[new] - q, high[new] + q], 1)
    np.testing.assert_allclose(ours, intervals[:, :, 0], rtol=1e-12)


def test_equal_to_crepes():
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    rng = np.random.default_rng(4)
    # with 99 rows crepes rounds 100 (1 - 0.9) down to 9
    residuals, sigmas = rng.normal(size=95), rng.uniform(0.5, 2, 95)
    means, new = rng.normal(size=50), rng.uniform(0.5, 2, 50)
    y = rng.normal(size=50) * 2

    plain = crepes.ConformalRegressor().fit(residuals)
    theirs = plain.predict_int(means, confidence=0.9)
    q = threshold(np.abs(residuals), 0.9)
    np.testing.assert_allclose(np.stack([means - q, means + q], 1), theirs, rtol=1e-12)

    bins, new_bins = np.arange(95) % 3, np.arange(50) % 3
    mondrian = crepes.ConformalRegressor().fit(residuals, bins=bins)
    theirs = mondrian.predict_int(means, bins=new_bins, confidence=0.9)
    limits = np.array([threshold(np.abs(residuals[bins == b]), 0.9) for b in range(3)])[new_bins]
    np.testing.assert_allclose(np.stack([means - limits, means + limits], 1), theirs, rtol=1e-12)

    system = crepes.ConformalPredictiveSystem().fit(residuals, sigmas=sigmas)
    p = system.predict_p(means, y, sigmas=new, smoothing=False)
    ours = system_cdf(residuals / sigmas, (y - means) / new, tau=1.0)
    np.testing.assert_allclose(ours, p, rtol=1e-12)
    theirs = system.predict_int(means, sigmas=new, confidence=0.9)
    low, high = system_quantile(residuals / sigmas, 0.05), system_quantile(residuals / sigmas, 0.95)
    ours = np.stack([means + new * low[0], means + new * high[1]], 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_levels_and_groups_that_mean_nothing_are_refused_in_words():
    with pytest.raises(ValueError, match="expected a probability"):
        as_level(1 - 1e-9, "conformal")
    with pytest.raises(DataError, match="groups are text"):
        group_numbers(["10", "20"], np.array([10, 20]), 2, None)
    with pytest.raises(DataError, match="at least 19"):
        refuse_few(9, 0.9, "It", sides=2)
    refuse_few(19, 0.9, "It", sides=2)
