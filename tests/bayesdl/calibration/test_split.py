"""Held-out rows: what sets hold, what is refused, and what bundles keep."""

import numpy as np
import pandas as pd
import pytest
from calibration_toys import linear

import bayesdl as bdl
from bayesdl.calibration.held_out import labels_in
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
    return linear(spec, X[TRAIN], y[TRAIN])


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
    made = post.conformal(0.9, table[HELD], Y[HELD], groups="class")
    made = bdl.load(made.save(tmp_path / "made.bdl"))
    assert made.predict(table[NEW]).interval().shape == (2, 800)
    made = classes.conformal(0.8, X[HELD], LABELS[HELD], groups="class")
    made = bdl.load(made.save(tmp_path / "made.bdl"))
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


def test_groups_that_are_missing_or_of_other_rows_are_refused(numbers):
    held = pd.DataFrame(X[HELD], columns=["x0", "x1"], index=np.arange(1000, 1300))
    labels = pd.Series(np.where(X[HELD][:, 0] > 0, "hot", "cold"), held.index)
    for missing in (np.nan, None):
        with pytest.raises(DataError, match=r"no label in row 7 \(1 such rows\)"):
            lacking = labels.where(labels.index != 1007, missing)
            numbers.conformal(0.8, X[HELD], Y[HELD], groups=lacking)
    with pytest.raises(DataError, match=r"X and groups have rows with labels of their own"):
        numbers.conformal(0.8, held, Y[HELD], groups=labels.reset_index(drop=True))
    made = numbers.conformal(0.8, X[HELD], Y[HELD], groups=labels)
    with pytest.raises(DataError, match="no label in row 0"):
        made.predict(X[NEW], groups=[None] * 800).interval()
    table = held.assign(group=labels.where(labels.index != 1050, None))
    with pytest.raises(DataError, match=r"column 'group' has no label in row 50"):
        labels_in(["group"], table)


def test_targets_that_do_not_fit_are_refused_in_words(numbers, classes):
    labels = classes.conformal(0.9, X[HELD], LABELS[HELD]).predict(X[NEW])
    with pytest.raises(ValueError, match="y has 3 targets for 800 predicted rows"):
        labels.contains(["a"] * 3)
    with pytest.raises(AttributeError, match="use sets"):
        labels.interval()
    made = numbers.conformal(0.9, X[HELD], Y[HELD]).predict(X[NEW])
    system = numbers.conformal(0.9, X[HELD], Y[HELD], system=True).predict(X[NEW])
    bent = numbers.recalibrate(X[HELD], Y[HELD], map="beta").predict(X[NEW])
    for ask in (made.contains, made.cdf, system.cdf, system.crps, bent.crps, bent.log_prob):
        with pytest.raises(ValueError, match="y has 3 targets for 800 predicted rows"):
            ask(np.zeros(3))
        with pytest.raises(ValueError, match=r"y=0\.0: expected a target for each of the 800"):
            ask(0.0)
        with pytest.raises(DataError, match="not a number: got 'a'"):
            ask(["a"] * 800)
    with pytest.raises(DataError, match=r"have no target in row 3 \(2 such rows\): leave these"):
        numbers.conformal(0.9, X[HELD], np.where(np.isin(np.arange(300), [3, 5]), np.nan, Y[HELD]))


def test_rows_in_the_order_of_time_are_told():
    days = pd.date_range("2024-01-01", periods=200)
    table = pd.DataFrame({"day": days, "x": X[:200, 0]})
    post = linear(bdl.BNN(hidden=()), table[:100], Y[:100])
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
    # more rows than are held in memory at once
    twice = made.predict(np.concatenate([X[NEW], X[NEW]])).interval()
    np.testing.assert_array_equal(twice, np.tile(sets.interval(), 2))
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
        loaded = bdl.load(made.save(tmp_path / "made.bdl"))
        assert repr(loaded) == repr(made) and loaded.adjustment.words() == made.adjustment.words()
        np.testing.assert_array_equal(
            loaded.predict(X[NEW], **given).interval(0.8),
            made.predict(X[NEW], **given).interval(0.8),
        )
    made = classes.conformal(0.9, X[HELD], LABELS[HELD], score="aps")
    loaded = bdl.load(made.save(tmp_path / "made.bdl"))
    np.testing.assert_array_equal(loaded.predict(X[NEW]).members(), made.predict(X[NEW]).members())


def test_a_new_fit_has_no_old_sets(numbers):
    made = numbers.conformal(0.9, X[HELD], Y[HELD])
    with pytest.warns(TrustWarning, match="left out of the new one"):
        assert changed(made, seed=1).adjustment is None
    with pytest.raises(ModelError, match="adjusted already"):
        made.conformal(0.9)
