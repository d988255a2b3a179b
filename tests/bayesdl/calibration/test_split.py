"""Held-out rows: what sets hold, what is refused, and what bundles keep."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.adjustment import changed
from bayesdl.warnings import DataWarning, TrustWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1200, 2))
Y = X @ [1.0, -0.5] + RNG.standard_t(3, size=1200) * np.exp(0.5 * X[:, 0])
LABELS = np.array(["a", "b", "c"])[
    np.clip(np.round(X[:, 0] + RNG.normal(size=1200)), -1, 1).astype(int) + 1
]
TRAIN, HELD, NEW = slice(0, 100), slice(100, 400), slice(400, 1200)
# of the share of 800 rows and of a threshold by 300
ERROR = np.sqrt(0.09 * (1 / 800 + 1 / 300))


def fit(spec, y, X=X):
    post = bdl.fit(spec, X[TRAIN], y[TRAIN], engine=bdl.Laplace(), progress=False)
    # few draws are enough, as nothing here needs the posterior itself
    return dataclasses.replace(post, raw=dataclasses.replace(post.raw, num_draws=50))


def load(post, folder):
    """Save and load; the number of draws that predictions take is none of a file's concern."""
    loaded = bdl.load(post.save(folder / "made.bdl"))
    return dataclasses.replace(loaded, raw=dataclasses.replace(loaded.raw, num_draws=50))


@pytest.fixture(scope="module")
def numbers():
    return fit(bdl.BNN(hidden=()), Y)


@pytest.fixture(scope="module")
def classes():
    return fit(bdl.BNN(hidden=(), likelihood=bdl.Categorical()), LABELS)


@pytest.mark.parametrize("score", ["cdf", "sd", "absolute", "quantile", "density"])
def test_sets_of_numbers_hold_what_they_say(numbers, score):
    sets = numbers.conformal(0.9, X[HELD], Y[HELD], score=score).predict(X[NEW])
    assert abs(sets.contains(Y[NEW]).mean() - 0.9) < 3 * ERROR
    low, high = sets.interval()
    inside = (low <= Y[NEW]) & (Y[NEW] <= high)
    assert (inside >= sets.contains(Y[NEW])).all()
    # the score of a point is at most the threshold just where it is in its set
    wider = sets.interval(0.95)
    assert (wider[0] <= low).all() and (high <= wider[1]).all()


@pytest.mark.parametrize("score", ["density", "aps", "raps"])
def test_sets_of_labels_hold_what_they_say(classes, score):
    sets = classes.conformal(0.9, X[HELD], LABELS[HELD], score=score).predict(X[NEW])
    share = sets.contains(LABELS[NEW]).mean()
    # an empty set gets the most probable class, which only adds
    assert 0.9 - 3 * ERROR < share < 0.9 + 3 * ERROR + 0.02
    assert all(len(one) for one in sets.sets())
    assert sets.to_pandas()["set"].str.len().gt(0).all()


def test_each_group_holds_what_it_says(numbers, classes):
    group = np.where(X[:, 0] > 0.5, "hot", "cold")
    table = pd.DataFrame(X, columns=["x0", "x1"]).assign(group=group)
    post = fit(bdl.BNN(hidden=()), Y, table)
    made = post.conformal(0.9, table[HELD], Y[HELD], score="absolute", groups="group")
    sets = made.predict(table[NEW])
    for name in ("hot", "cold"):
        rows = group[NEW] == name
        count = np.sum(group[HELD] == name)
        error = np.sqrt(0.09 * (1 / rows.sum() + 1 / count))
        assert abs(sets.contains(Y[NEW])[rows].mean() - 0.9) < 3 * error
    labels = numbers.conformal(0.9, X[HELD], Y[HELD], score="absolute", groups=group[HELD])
    again = labels.predict(X[NEW], groups=group[NEW]).interval()
    assert again.shape == sets.interval().shape
    by_class = classes.conformal(0.8, X[HELD], LABELS[HELD], groups="class").predict(X[NEW])
    for label in ("a", "b", "c"):
        rows = LABELS[NEW] == label
        error = np.sqrt(0.16 * (1 / rows.sum() + 1 / np.sum(LABELS[HELD] == label)))
        assert by_class.contains(LABELS[NEW])[rows].mean() > 0.8 - 3 * error
    with pytest.raises(DataError, match="warm"):
        labels.predict(X[NEW], groups=np.full(800, "warm")).interval()


def test_density_scores_each_target_by_itself():
    both = np.stack([Y, 50 * X[:, 1] + 50 * RNG.normal(size=1200)], axis=1)
    made = fit(bdl.BNN(hidden=()), both).conformal(0.9, X[HELD], both[HELD], score="density")
    assert made.adjustment.scores.shape == (300, 2)
    held = made.predict(X[NEW]).contains(both[NEW]).mean(0)
    assert (abs(held - 0.9) < 3 * ERROR).all()


def test_a_column_may_be_called_class(numbers, classes, tmp_path):
    table = pd.DataFrame(X, columns=["x0", "x1"]).assign(**{"class": np.where(X[:, 0] > 0, 1, 2)})
    post = fit(bdl.BNN(hidden=()), Y, table)
    made = load(post.conformal(0.9, table[HELD], Y[HELD], groups="class"), tmp_path)
    assert made.predict(table[NEW]).interval().shape == (2, 800)
    made = load(classes.conformal(0.8, X[HELD], LABELS[HELD], groups="class"), tmp_path)
    assert made.adjustment.by_class and not made.adjustment.takes_groups
    assert made.predict(X[NEW]).members().shape == (800, 3)


@pytest.mark.parametrize("score", ["aps", "raps"])
def test_a_set_of_labels_does_not_depend_on_the_rows_beside_it(classes, score):
    made = classes.conformal(0.9, X[HELD], LABELS[HELD], score=score)
    whole, part = made.predict(X[NEW]).members(), made.predict(X[NEW][300:500]).members()
    np.testing.assert_array_equal(whole[300:500], part)


def test_a_predictive_system_is_a_whole_distribution(numbers):
    system = numbers.conformal(0.9, X[HELD], Y[HELD], system=True).predict(X[NEW])
    levels, shares = np.linspace(0.1, 0.9, 9), system.cdf(Y[NEW])
    assert np.max(np.abs([np.mean(shares <= q) - q for q in levels])) < 4 * ERROR
    low, high = system.interval(0.8)
    assert abs(np.mean((low <= Y[NEW]) & (Y[NEW] <= high)) - 0.8) < 4 * ERROR
    assert system.crps(Y[NEW]).mean() < numbers.predict(X[NEW]).crps(Y[NEW]).mean()
    drawn = system.sample(500)
    np.testing.assert_allclose(drawn.mean(0), system.mean, atol=5 * system.std.max() / 500**0.5)
    with pytest.raises(AttributeError, match="no density"):
        system.log_prob(Y[NEW])


def test_nine_rows_are_enough_for_ninety_percent(numbers):
    held = slice(100, 109)
    assert np.isfinite(numbers.conformal(0.9, X[held], Y[held]).predict(X[NEW]).interval()).all()
    with pytest.raises(DataError, match=r"8 rows.*at least 9"):
        numbers.conformal(0.9, X[100:108], Y[100:108])


def test_bad_rows_are_refused_in_words(numbers, classes):
    with pytest.raises(DataError, match=r"100 of 100 calibration rows are training rows"):
        numbers.conformal(0.9, X[TRAIN], Y[TRAIN])
    with pytest.raises(DataError, match=r"20 of 120 calibration rows are training rows"):
        numbers.conformal(0.9, X[80:200], Y[80:200])
    with pytest.raises(DataError, match="unseen class 'z'"):
        classes.conformal(0.9, X[HELD], np.full(300, "z"))
    with pytest.raises(ValueError, match="y has 9 targets for 300"):
        numbers.conformal(0.9, X[HELD], Y[:9])
    with pytest.raises(DataError, match="y is missing"):
        numbers.conformal(0.9, X[HELD])
    with pytest.raises(ValueError, match="'quantile', 'cdf', 'density' for numbers"):
        numbers.conformal(0.9, X[HELD], Y[HELD], score="mad")
    with pytest.raises(ValueError, match="needs held-out rows"):
        numbers.conformal(0.9, score="sd")
    with pytest.raises(DataError, match=r"The group 'rare'.*has 3 rows"):
        group = np.where(np.arange(300) < 3, "rare", "common")
        numbers.conformal(0.9, X[HELD], Y[HELD], groups=group)


def test_rows_in_the_order_of_time_are_told():
    days = pd.date_range("2024-01-01", periods=200)
    table = pd.DataFrame({"day": days, "x": X[:200, 0]})
    post = bdl.fit(bdl.BNN(hidden=()), table[:100], Y[:100], engine="laplace", progress=False)
    with pytest.warns(DataWarning, match="order of the date 'day'"):
        post.conformal(0.9, table[100:], Y[100:200])
    with pytest.warns(DataWarning, match="order of the date 'day'"):
        post.conformal(0.9)


@pytest.mark.slow
def test_refits_give_the_jackknife_plus(numbers, tmp_path):
    made = numbers.conformal(0.8, refits=5)
    sets = made.predict(X[NEW])
    assert sets.contains(Y[NEW]).mean() > 0.6
    loaded = bdl.load(made.save(tmp_path / "made.bdl"))
    np.testing.assert_array_equal(loaded.predict(X[NEW]).interval(), sets.interval())
    with pytest.raises(ModelError, match="from 2 to the number of training rows, 100"):
        numbers.conformal(0.8, refits=101)


def test_bundles_keep_them(numbers, classes, tmp_path):
    group = np.where(X[:, 0] > 0, "hot", "cold")
    kinds = [
        (numbers.conformal(0.9, X[HELD], Y[HELD]), {}),
        (numbers.conformal(0.9, X[HELD], Y[HELD], system=True), {}),
        (numbers.conformal(0.9, X[HELD], Y[HELD], groups=group[HELD]), {"groups": group[NEW]}),
    ]
    for made, given in kinds:
        loaded = load(made, tmp_path)
        assert repr(loaded) == repr(made) and loaded.adjustment.words() == made.adjustment.words()
        np.testing.assert_array_equal(
            loaded.predict(X[NEW], **given).interval(0.8),
            made.predict(X[NEW], **given).interval(0.8),
        )
    made = classes.conformal(0.9, X[HELD], LABELS[HELD], score="aps")
    loaded = load(made, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X[NEW]).members(), made.predict(X[NEW]).members())


def test_a_new_fit_has_no_old_sets(numbers):
    made = numbers.conformal(0.9, X[HELD], Y[HELD])
    with pytest.warns(TrustWarning, match="left out of the new one"):
        assert changed(made, seed=1).adjustment is None
    with pytest.raises(ModelError, match="adjusted already"):
        made.conformal(0.9)
