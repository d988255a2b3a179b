"""Maps of levels and of probabilities: densities, posteriors, other libraries' numbers."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import softmax

import bayesdl as bdl
from bayesdl.calibration.maps import making, probabilities
from bayesdl.calibration.maps.levels import FITTERS, BetaMap
from bayesdl.calibration.maps.transforms import EMPTY, Outcome
from bayesdl.data.validation import DataError
from bayesdl.posterior.running import log

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["beta", "spline"])
def test_a_map_is_a_distribution_whose_density_is_its_slope(name):
    made = FITTERS[name](RNG.beta(2.0, 0.7, 500))
    u = np.linspace(0.02, 0.98, 40)
    assert made.cdf(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(made.quantile(made.cdf(u)), u, atol=1e-9)
    for a, b in itertools.pairwise(u):
        area = quad(lambda x: float(np.exp(made.log_density(np.array(x)))), a, b)[0]
        assert abs(area - np.diff(made.cdf(np.array([a, b])))[0]) < 1e-6


@pytest.mark.parametrize("name", ["beta", "spline"])
def test_a_map_finds_the_levels_that_there_are(name):
    truth = stats.beta(1.6, 0.8)
    made = FITTERS[name](truth.rvs(4000, random_state=1))
    grid = np.linspace(0.05, 0.95, 19)
    # the distribution function of 4,000 levels is known to about 3 / sqrt(4,000)
    assert np.max(np.abs(made.cdf(grid) - truth.cdf(grid))) < 1.5 / np.sqrt(4000)


def test_no_change_is_made_where_none_is_needed():
    """Uniform levels keep their predictions in nearly all of 40 data sets."""
    kept = 0
    for seed in range(40):
        u = np.random.default_rng(seed).uniform(size=200)
        made = making._level_map(Outcome(u, EMPTY, EMPTY), ("beta", "spline"), None, 0)
        kept += made.map.name == "none"
    assert kept >= 34
    wide = making._level_map(
        Outcome(RNG.beta(3, 3, 200), EMPTY, EMPTY), ("beta", "spline"), None, 0
    )
    assert wide.map.name != "none" and wide.gain > 3 * wide.error
    assert "gains" in wide.words()[0]


def soft(n, classes=3, sharpen=2.5, seed=0):
    """Probabilities that are too sure of themselves, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 1.5
    truth = softmax(logits, axis=1)
    labels = (truth.cumsum(1) > rng.uniform(size=(n, 1))).argmax(1)
    return softmax(sharpen * logits, axis=1), labels


def nll(probs, labels):
    return -np.mean(np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)))


def test_the_temperature_is_found_and_averaged_over_its_posterior():
    probs, labels = soft(3000)
    made = probabilities.fit_temperature(probs, labels)
    assert abs(made.mean - 2.5) < 0.3
    # a grid of its own
    grid = np.linspace(-1, 3, 4001)
    values = np.log(probs)
    terms = np.array([probabilities.log_likelihood(values / np.exp(t), labels) for t in grid[::20]])
    terms -= grid[::20] ** 2 / 2
    weights = np.exp(terms - terms.max())
    exact = np.sum(weights * np.exp(grid[::20])) / weights.sum()
    assert abs(made.mean - exact) < 1e-3 * exact
    new, new_labels = soft(3000, seed=1)
    assert nll(made(new), new_labels) < nll(new, new_labels) - 0.1
    few, few_labels = soft(20, sharpen=1.0)
    # with little known the average is broader than the best single temperature
    assert np.allclose(probabilities.fit_temperature(few, few_labels)(few).sum(1), 1)


@pytest.mark.parametrize("name", ["vector", "dirichlet", "isotonic", "venn-abers"])
def test_richer_maps_give_probabilities_that_are_better_where_rows_are_many(name):
    probs, labels = soft(2000)
    new, new_labels = soft(300, seed=1)
    found = probabilities.CLASS_FITTERS[name](probs, labels)(new)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    assert (found >= 0).all()
    assert nll(found, new_labels) < nll(new, new_labels)


def test_equal_to_betacal():
    betacal = pytest.importorskip("betacal", reason="betacal is not installed")
    probs, labels = soft(300, classes=2)
    theirs = betacal.BetaCalibration("abm").fit(probs[:, 1:], labels)
    ours = probabilities.fit_beta_classes(probs, labels)
    np.testing.assert_allclose(ours(probs)[:, 1], theirs.predict(probs[:, 1:]), rtol=1e-12)


def test_equal_to_venn_abers():
    venn = pytest.importorskip("venn_abers", reason="venn-abers is not installed")
    probs, labels = soft(200, classes=2)
    new, _ = soft(50, classes=2, seed=1)
    theirs = venn.VennAbers()
    theirs.fit(probs, labels)
    merged, bounds = theirs.predict_proba(new)
    ours = probabilities.VennAbers(probs, labels)
    np.testing.assert_allclose(np.stack(ours.bounds(new[:, 1], 1), 1), bounds, atol=1e-12)
    np.testing.assert_allclose(ours(new), merged, atol=1e-12)


def test_equal_to_isotonic_regression_of_scikit_learn():
    from sklearn.isotonic import IsotonicRegression

    probs, labels = soft(200, classes=2)
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probs[:, 1], labels)
    ours = probabilities.IsotonicClasses(probs, labels)(probs)
    np.testing.assert_allclose(ours[:, 1], model.predict(probs[:, 1]), atol=1e-12)


@pytest.fixture(scope="module")
def narrow():
    """A fit whose noise is fixed at a third of what it is."""
    X = RNG.normal(size=(400, 2))
    y = X @ [1.0, -0.5] + 0.9 * RNG.normal(size=400)
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.3))
    post = bdl.fit(model, X[:150], y[:150], engine=bdl.Laplace(), progress=False)
    post = dataclasses.replace(post, raw=dataclasses.replace(post.raw, num_draws=100))
    return post, X, y


def test_a_posterior_is_recalibrated_from_its_own_rows(narrow, tmp_path, caplog):
    post, X, y = narrow
    log.propagate = True
    made = post.recalibrate()
    assert any("the map" in record.message for record in caplog.records)
    new, raw = made.predict(X[150:]), post.predict(X[150:])
    target = y[150:]
    low, high = new.interval(0.9)
    share = np.mean((low <= target) & (target <= high))
    assert (
        share > 0.75 > np.mean((raw.interval(0.9)[0] <= target) & (target <= raw.interval(0.9)[1]))
    )
    assert new.log_prob(target).mean() > raw.log_prob(target).mean() + 0.5
    # cdf, quantile, density, samples and moments are of one distribution
    np.testing.assert_allclose(new.cdf(low), 0.05, atol=1e-4)
    near = 1e-3
    slope = (new.cdf(target + near) - new.cdf(target - near)) / (2 * near)
    sure = raw.cdf(target) * (1 - raw.cdf(target)) > 1e-3
    np.testing.assert_allclose(np.exp(new.log_prob(target))[sure], slope[sure], rtol=0.02)
    drawn = new.sample(4000)
    assert np.max(np.abs(np.mean(drawn <= new.quantile(0.3), 0) - 0.3)) < 5 * np.sqrt(0.21 / 1000)
    np.testing.assert_allclose(drawn.mean(0), new.mean, atol=5 * new.std.max() / np.sqrt(1000))
    np.testing.assert_allclose(drawn.std(0), new.std, rtol=0.15)
    fair = np.mean(np.abs(drawn - target), 0) - 0.5 * np.mean(np.abs(drawn[::2] - drawn[1::2]), 0)
    np.testing.assert_allclose(new.crps(target).mean(), fair.mean(), rtol=0.05)
    loaded = bdl.load(made.save(tmp_path / "made.bdl"))
    loaded = dataclasses.replace(loaded, raw=dataclasses.replace(loaded.raw, num_draws=100))
    np.testing.assert_array_equal(
        loaded.predict(X[:5]).quantile(0.3), made.predict(X[:5]).quantile(0.3)
    )
    assert repr(loaded) == repr(made)
    held = post.recalibrate(X[150:], y[150:], map="beta").adjustment
    assert isinstance(held.map, BetaMap) and held.held_out and held.map.a < 0.7 > held.map.b


def test_memory_does_not_grow_with_the_rows(narrow):
    """2,000 simulated targets of all rows at once would take 320 megabytes, several times over."""
    post, X, y = narrow
    many = np.tile(X, (50, 1))
    pred = post.recalibrate(X[150:], y[150:], map="beta").predict(many)
    tracemalloc.start()
    found = pred.mean, pred.std, pred.crps(np.tile(y, 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    first = post.recalibrate(X[150:], y[150:], map="beta").predict(many[:1024])
    np.testing.assert_array_equal(found[0][:1024], first.mean)
    np.testing.assert_array_equal(found[2][:1024], first.crps(np.tile(y, 50)[:1024]))


def test_what_cannot_be_recalibrated_is_refused(narrow):
    post, X, y = narrow
    with pytest.raises(DataError, match="needs at least 20"):
        post.recalibrate(X[150:160], y[150:160])
    with pytest.raises(DataError, match="training rows"):
        post.recalibrate(X[:150], y[:150])
    with pytest.raises(ValueError, match="'beta', 'spline', 'isotonic'"):
        post.recalibrate(map="temperature")
    with pytest.raises(AttributeError, match="no density"):
        post.recalibrate(map="isotonic").predict(X[150:]).log_prob(y[150:])


def test_a_rare_class_is_in_all_parts_and_a_lone_one_is_refused_in_words():
    p = np.random.default_rng(0).uniform(size=60)
    probs, labels = np.stack([1 - p, p], axis=1), np.zeros(60, int)
    with pytest.raises(DataError, match="rows of both classes"):
        probabilities.CLASS_FITTERS["beta"](probs, labels)
    labels[[3, 4]] = 1
    made = making._class_map(Outcome(np.zeros(0), probs, labels), ("beta",), "beta", 0)
    assert made.map.a >= 0 and made.map.b >= 0
    against = probabilities.CLASS_FITTERS["beta"](probs, (p < 0.5).astype(int))
    assert against.a == against.b == 0 and abs(against.c) < 1
