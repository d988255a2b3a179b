"""Settings in scikit-learn's style, labels that travel, and items by their time."""

import copy

import numpy as np
import pandas as pd
import pytest
from recommend_toys import ITEMS, QUICK, few_rows, zipf
from sklearn.base import clone

from bayesdl.data.validation import DataError
from bayesdl.recommend import (
    EASE,
    Blend,
    HeldOut,
    MultDAE,
    MultVAE,
    Popularity,
    strong_split,
)
from bayesdl.recommend.estimator import NotFittedError

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.*its probabilities are doubtful")
DRAWN = 20_000


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def fitted(rows):
    return MultVAE(**QUICK).fit(rows)


def test_a_refused_fit_leaves_the_earlier_one_and_a_stopped_one_none(rows, monkeypatch):
    model = MultVAE(**QUICK).fit(rows)
    before = model.recommend(rows, k=3).scores
    with pytest.raises(DataError):
        model.fit(-rows.toarray())
    np.testing.assert_array_equal(model.recommend(rows, k=3).scores, before)
    monkeypatch.setattr(
        MultVAE, "run_training", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        model.fit(rows)
    with pytest.raises(NotFittedError, match="is not fitted"):
        model.recommend(rows, k=3)


def test_settings_are_those_of_scikit_learns_tools(fitted):
    for model in (
        fitted,
        EASE(l2=3.0),
        Blend([EASE(), MultDAE(**QUICK)], weights=(1.0, 2.0)),
        Popularity(),
    ):
        assert clone(model) == model and not hasattr(clone(model), "num_items_")
    changed = copy.copy(fitted).set_params(latent=5)
    assert changed.latent == 5 != fitted.latent and not changed.fitted and fitted.fitted
    with pytest.raises(ValueError, match="EASE has no setting 'lamda': expected l2"):
        EASE().set_params(lamda=1.0)
    with pytest.raises(ValueError, match="two"):
        Blend([EASE()]).check()


def test_tables_are_read_by_label(rows):
    names = [f"item {i}" for i in range(ITEMS)]
    table = pd.DataFrame(rows.toarray(), columns=names)
    model = Popularity().fit(table)
    assert model.items_.tolist() == names
    shuffled = table[names[::-1]]
    np.testing.assert_array_equal(
        model.recommend(shuffled, k=3).items, model.recommend(table, k=3).items
    )
    np.testing.assert_array_equal(
        model.recommend(rows, k=3).items, model.recommend(table, k=3).items
    )
    turned = Popularity().fit(rows, items=np.arange(ITEMS)[::-1])
    np.testing.assert_array_equal(
        turned.recommend(pd.DataFrame(rows.toarray()), k=3).items, turned.recommend(rows, k=3).items
    )
    plain = pd.DataFrame(rows.toarray())  # without labels: by position
    np.testing.assert_array_equal(
        model.recommend(plain, k=3).items, model.recommend(table, k=3).items
    )
    features = pd.DataFrame(
        np.random.default_rng(0).normal(size=(ITEMS, 2)), index=names, columns=["wide", "tall"]
    )
    one, two = (MultVAE(**QUICK).fit(table, item_features=F) for F in (features, features[::-1]))
    np.testing.assert_array_equal(
        one.recommend(table, k=3).scores, two.recommend(table, k=3).scores
    )
    np.testing.assert_array_equal(
        model.recommend(shuffled.iloc[2], k=3).items, model.recommend(rows[[2]], k=3).items
    )
    more = pd.DataFrame([[0.5, -1.0]], index=["new"], columns=features.columns)
    grown = [
        one.with_items(F, ["new"]).recommend(np.ones(ITEMS + 1), k=1, exclude_seen=False)
        for F in (more, more.iloc[:, ::-1])
    ]
    np.testing.assert_array_equal(grown[0].scores, grown[1].scores)
    with pytest.raises(
        DataError, match=r"missing tall; unknown high\. Expected the features of the fit"
    ):
        one.with_items(more.rename(columns={"tall": "high"}), ["new"])
    held = HeldOut(table, 0 * shuffled + shuffled.eq(0))
    np.testing.assert_array_equal(model.check_held_out(held)[1].toarray(), 1 - rows.toarray())


def test_the_last_items_are_hidden_where_times_are_given():
    rng = np.random.default_rng(0)
    users, items = (
        np.repeat(np.arange(30), 8),
        np.concatenate([rng.permutation(20)[:8] for _ in range(30)]),
    )
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.tile(np.arange(8), 30), unit="h")
    shuffled = rng.permutation(240)
    for times in (np.tile(np.arange(8.0), 30), when):
        split = strong_split(
            users[shuffled], items[shuffled], times=times[shuffled], held_out=(5, 5), share=0.25
        )
        for held in (split.validation, split.test):
            for user, hidden in zip(held.users, held.held_out.toarray(), strict=True):
                known = items[users == user][np.isin(items[users == user], split.items)]
                assert set(split.items[hidden > 0]) == set(known[len(known) - len(known) // 4 :])


@pytest.mark.slow
def test_probabilities_are_of_the_next_items_where_the_last_are_hidden():
    """Users share one distribution, and their last items are rarer than random ones.

    Calibration to the last items is right for the next ones.
    """
    p, rng = zipf(80, 0.8), np.random.default_rng(0)
    order = np.argsort(-(np.log(p) + rng.gumbel(size=(2400, 80))), axis=1)
    users, items, when = (
        np.repeat(np.arange(2400), 20),
        order[:, :20].ravel(),
        np.tile(np.arange(20), 2400),
    )
    random, last = (
        strong_split(users, items, times=times, held_out=(1000, 1000), share=0.25)
        for times in (None, when)
    )
    found = {}
    for name, split in (("random", random), ("last", last)):
        model = Popularity().fit(split.train, split.validation)
        top = model.recommend(last.test.fold_in, k=8)
        columns = np.argsort(last.items)[np.searchsorted(np.sort(last.items), top.items)]
        gap = top.expected_hits(5) - np.take_along_axis(
            last.test.held_out.toarray(), columns, axis=1
        ).sum(1)
        found[name] = gap.mean() / (gap.std() / np.sqrt(1000))
    assert abs(found["last"]) < 3 * np.sqrt(2) and found["random"] > 3 * np.sqrt(2)


def test_labels_travel_with_a_split():
    users, items = (
        np.repeat(np.arange(60), 6),
        np.random.default_rng(0).permuted(np.tile(np.arange(100, 120), (60, 1)), axis=1)[:, :6],
    )
    split = strong_split(np.append(users, 99), np.append(items.ravel(), 100), held_out=(10, 10))
    assert split.left_out == 1 and "1 users with too few items left out" in repr(split)
    model = Popularity().fit(split.train, split.validation)
    np.testing.assert_array_equal(model.items_, split.items)
    X, labels = model.rows_from(
        ["b", "a", "b", "b"], [split.items[3], split.items[5], split.items[4], split.items[4]]
    )
    assert labels.tolist() == ["b", "a"]
    np.testing.assert_array_equal(X.toarray().nonzero(), [[0, 0, 1], [3, 4, 5]])
    with pytest.warns(UserWarning, match="1 of 2 events are dropped"):
        assert model.rows_from(["b", "a"], [7, split.items[0]])[0].sum() == 1
