"""Probabilities and hits: distributions by simulation, the temperature, shared noise, labels."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial
from recommend_toys import ITEMS, QUICK, USERS, few_rows
from sklearn.base import clone

from bayesdl.data.validation import DataError
from bayesdl.recommend import (
    EASE,
    Blend,
    HeldOut,
    MultDAE,
    MultVAE,
    Popularity,
    probabilities,
    strong_split,
)
from bayesdl.recommend.autoencoder import codes, training
from bayesdl.recommend.estimator import NotFittedError
from bayesdl.recommend.hits import (
    expected_distinct,
    hits_distribution,
    inclusion_probabilities,
    shortest_intervals,
)
from bayesdl.recommend.probabilities import TopLists, quantile_coverage
from bayesdl.recommend.rows import as_entries

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*its probabilities are doubtful"
)  # of sets so small that no list can be matched
DRAWN = 20_000


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def fitted(rows):
    return MultVAE(**QUICK).fit(rows)


# hits among the next n different items


def zipf(items, power):
    p = np.arange(1.0, items + 1) ** -power
    return p / p.sum()


def counted(p):
    return expected_distinct(jnp.asarray(p, jnp.float32))[None, None]


@pytest.mark.parametrize("items", [30, 500])
@pytest.mark.parametrize("power", [0.0, 0.7, 1.2])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_hits_are_those_of_items_drawn_one_by_one(n, power, items):
    """n different items are drawn by simulation.

    Taking the time of the n-th as known is right to a share of about max p / 2 at the head.
    """
    p, k = zipf(items, power), 10
    order = np.argsort(-(np.log(p) + np.random.default_rng(n).gumbel(size=(DRAWN, items))), axis=1)[
        :, :n
    ]
    chosen = np.bincount(order.ravel(), minlength=items)[:k] / DRAWN
    given = (jnp.asarray(p[None, None, :k], jnp.float32), counted(p), jnp.array([float(n)]))
    q = np.asarray(inclusion_probabilities(*given))[0, 0]
    assert (
        np.abs(q - chosen) < 4 * np.sqrt(chosen * (1 - chosen) / DRAWN) + q * (n > 1) * p[0] / 2
    ).all()
    hits = (order < k).sum(1)
    distribution, found = (
        np.asarray(hits_distribution(*given))[0],
        np.bincount(hits, minlength=k + 1) / DRAWN,
    )
    assert (
        np.abs(distribution - found)
        < 4 * np.sqrt(found * (1 - found) / DRAWN) + (n > 1) * p[0] / 2 + 1e-4
    ).all()
    assert distribution @ np.arange(k + 1) == pytest.approx(q.sum(), rel=1e-4)
    assert distribution.sum() == pytest.approx(1, abs=1e-5)
    sd = np.sqrt(distribution @ np.arange(k + 1) ** 2 - (distribution @ np.arange(k + 1)) ** 2)
    assert sd == pytest.approx(
        hits.std(), rel=4 / np.sqrt(2 * DRAWN) + p[0] / 2
    )  # independent items have 8 % more with n = 2


def test_ends_of_the_distribution_of_hits():
    p = jnp.asarray(zipf(30, 1.0), jnp.float32)
    distributions = [
        np.asarray(hits_distribution(p[None, None, :5], counted(p), jnp.array([n])))[0]
        for n in (0.0, 0.5, 1.0, 30.0, 1e6)
    ]
    np.testing.assert_allclose(distributions[0], np.eye(6)[0])
    for distribution, n in zip(distributions[1:3], (0.5, 1.0), strict=True):
        np.testing.assert_allclose(
            distribution[:2], [1 - n * p[:5].sum(), n * p[:5].sum()], rtol=1e-5
        )
    for distribution in distributions[3:]:
        np.testing.assert_allclose(distribution, np.eye(6)[5], atol=1e-6)


def test_a_mean_over_draws_of_the_distribution():
    distributions = np.stack([zipf(200, 0.5), zipf(200, 1.0)])
    given = (
        jnp.asarray(distributions[None, :, :8], jnp.float32),
        jnp.concatenate([counted(p) for p in distributions], 1),
        jnp.array([10.0]),
    )
    alone = [hits_distribution(given[0][:, [i]], given[1][:, [i]], given[2]) for i in range(2)]
    np.testing.assert_allclose(hits_distribution(*given), np.mean(alone, axis=0), atol=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_shortest_interval(level):
    """Beside a search over all intervals."""
    distributions = np.random.default_rng(0).dirichlet(np.ones(7), size=50).astype(np.float32)
    low, high = map(np.asarray, shortest_intervals(jnp.asarray(distributions), jnp.full(50, level)))
    for distribution, a, b in zip(distributions, low, high, strict=True):
        every = [
            (j - i, -distribution[i : j + 1].sum())
            for i in range(7)
            for j in range(i, 7)
            if distribution[i : j + 1].sum() >= level
        ]
        assert (b - a, pytest.approx(-distribution[a : b + 1].sum(), abs=1e-5)) == min(every)


def test_expected_hits_and_intervals_of_recommendations(fitted, rows):
    top = fitted.recommend(rows, k=4, exclude_seen=False)
    np.testing.assert_allclose(top.expected_hits(), top.probabilities.sum(1), rtol=1e-5)
    low, high = top.hits_interval(np.arange(USERS), level=0.8)
    distribution = top.hits_distribution(np.arange(USERS))
    mass = [
        distribution[u, a : b + 1].sum() for u, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    assert min(mass) >= 0.8 - 1e-4 and (low[0], high[0]) == (0, 0)
    assert (np.diff(top.expected_hits(np.arange(USERS))[[1, 5, 10]]) > 0).all()


def test_upper_ranks_by_probabilities_not_by_scores(fitted, rows):
    """A constant for each user in the scores changes no probability and no rank.

    A layer of equal columns adds such a constant.
    """
    other = copy.copy(fitted)
    last = fitted.params_["decoder1.weight"]
    other.params_ = fitted.params_ | {"decoder1.weight": last + 3}
    one, two = (
        model.recommend(rows, k=3, strategy="ucb", exclude_seen=False) for model in (fitted, other)
    )
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-3, atol=1e-3)
    assert (one.items == two.items).mean() > 0.95  # ties to rounding


def test_upper_is_the_mean_plus_one_sd_of_log_probabilities(fitted, rows):
    top = fitted.recommend(rows[:5], k=ITEMS, exclude_seen=False, strategy="ucb")
    logs = np.log(fitted.recommend(rows[:5], k=ITEMS, exclude_seen=False).draws)
    order = fitted.recommend(rows[:5], k=ITEMS, exclude_seen=False).items
    expected = np.take_along_axis(
        logs.mean(1) + logs.std(1, ddof=1), np.argsort(order, axis=1), axis=1
    )
    assert (
        np.abs(
            np.take_along_axis(top.scores, np.argsort(top.items, axis=1), axis=1) - expected
        ).max()
        < 1e-4
    )


def test_thompson_explores(fitted, rows):
    found = [fitted.recommend(rows, k=3, strategy="thompson", seed=seed).items for seed in range(2)]
    assert not np.array_equal(*found)


def test_thompson_draws_for_each_user(fitted):
    lists = fitted.recommend(np.zeros((30, ITEMS)), k=3, strategy="thompson").items
    assert len(np.unique(lists, axis=0)) > 1


def test_users_alike_get_the_same_probabilities_and_explore_apart(fitted):
    X = np.zeros((3, ITEMS))
    X[:, [1, 4]] = 1
    for model in (fitted, EASE(l2=5.0).fit(np.eye(ITEMS) + np.roll(np.eye(ITEMS), 1, 0))):
        top = model.recommend(X, k=5)
        np.testing.assert_array_equal(top.draws[0], top.draws[1])
        np.testing.assert_allclose(model.recommend(X[:1], k=5).draws[0], top.draws[0], rtol=1e-5)
        explored = model.recommend(X, k=5, strategy="thompson").scores
        assert not np.array_equal(explored[0], explored[1])


def test_nothing_is_compiled_again_for_another_seed_or_number_of_users(rows):
    def compiled():
        return [
            f._cache_size()
            for f in (
                training.run_epoch,
                codes.encode_users,
                probabilities.draw_probabilities,
                inclusion_probabilities,
                hits_distribution,
                shortest_intervals,
            )
        ]

    first = MultVAE(**QUICK).fit(rows)
    for users in (1, 20, 40):
        top = first.recommend(rows[:users], k=3)
        top.hits_interval(4), top.expected_hits(4)
    before = compiled()
    second = MultVAE(**QUICK | {"seed": 1, "epochs": 9}, beta=0.3).fit(rows)
    for users in (2, 7, 31, 36, 40):
        top = second.recommend(rows[:users], k=3)
        top.hits_interval(2), top.expected_hits(3)
    assert compiled() == before


def test_refinement_takes_its_noise_with_both_signs(rows):
    """Where the bound is quadratic in z, the gradient of the means is then free of noise.

    One step is the same for two keys.
    """
    model = MultVAE(**QUICK | {"hidden": ()}, likelihood="gaussian").fit(rows)
    objective, x = model.objective(), as_entries(rows)
    code = codes.encode_users(objective, model.params_, x)
    one, two = (
        codes.refine_codes(objective, model.params_, code, x, 1.0, 1, jax.random.key(seed))
        for seed in (0, 1)
    )
    np.testing.assert_allclose(one[0], two[0], rtol=1e-4, atol=1e-5)
    assert np.abs(one[0] - code[0]).max() > 1e-3 and np.abs(one[1] - two[1]).max() > 1e-4


# the temperature


def test_temperature_makes_as_many_hits_expected_as_there_are(rows):
    """Held-out users have two items hidden each; the lists have one item, as there are few."""
    dense = rows.toarray()
    hide = np.zeros_like(dense)
    for u in range(USERS):
        hide[u, np.flatnonzero(dense[u])[:2]] = 1
    held = HeldOut(dense * (1 - hide), hide)
    model = MultDAE(**QUICK).fit(rows, held)  # without a posterior, so that no draws differ
    top = model.recommend(held.fold_in, k=1)
    actual = hide[np.arange(USERS), top.items[:, 0]].sum()
    assert 0 < actual < USERS
    assert top.expected_hits(hide.sum(1)).sum() == pytest.approx(actual, rel=1e-2)


def test_calibration_is_for_answers_as_they_are_asked_for(fitted, rows):
    dense = rows.toarray()
    hide = np.zeros_like(dense)
    hide[np.arange(USERS), dense[:, ::-1].argmax(1) * -1 - 1] = 1
    held = HeldOut(dense * (1 - hide), hide)
    model = copy.copy(fitted)
    found = []
    for how in ({}, {"refine_steps": 50}, {"refine_steps": 50, "likelihood_power": 0.2}):
        model.calibrate(held, **how)
        expected = model.recommend(held.fold_in, k=1, **how).expected_hits(hide.sum(1)).sum()
        actual = np.take_along_axis(
            hide, model.recommend(held.fold_in, k=1, **how).items, axis=1
        ).sum()
        assert expected == pytest.approx(
            actual, rel=0.1
        )  # ten draws apart in the one, a hundred shared ones in the other
        found.append(model.temperature_)
    assert len(set(found)) == 3


@pytest.mark.filterwarnings("error")
def test_probabilities_that_do_not_hold_are_reported():
    """Users of two kinds are thought to be of one kind.

    There are as many hits as expected, but not in each user's interval.
    """
    rng, n = np.random.default_rng(0), 600
    kind = rng.uniform(size=n) < 0.5
    hide = np.zeros((n, 100))
    for u in range(n):
        hide[u, rng.choice(np.arange(10) if kind[u] else np.arange(10, 100), 8, replace=False)] = 1
    held = HeldOut(np.zeros((n, 100)), hide)
    with pytest.warns(
        UserWarning,
        match=r"Popularity: quantiles that should hold the hits of 90% .* hold those of \d+%",
    ):
        Popularity().fit(hide, held)
    alike = np.zeros((n, 100))
    p = zipf(100, 0.8)
    for u in range(n):
        alike[u, rng.choice(100, 8, replace=False, p=p)] = 1
    Popularity().fit(alike, HeldOut(0 * alike, alike))  # of one kind indeed: there is no warning
    few = np.zeros((n, 100))
    few[:, 50:] = 1
    with pytest.warns(
        UserWarning,
        match="hits of validation users are expected at the best temperature, 0 are there",
    ):
        Popularity().fit(1 - few, HeldOut(0 * few, np.eye(100)[np.full(n, 99)]))


def test_quantiles_hold_as_the_distribution_says():
    """Quantiles of the users' own distribution hold, and those of another one do not."""
    p, other = zipf(300, 1.0), zipf(300, 1.0)[::-1]
    n, rng = np.full(400, 20.0), np.random.default_rng(0)
    order = np.argsort(-(np.log(p) + rng.gumbel(size=(400, 300))), axis=1)[:, :20]
    items = np.repeat(np.arange(10)[None], 400, 0)
    hits = (order < 10).sum(1)

    def holds(distribution):
        draw = Partial(
            lambda f, keys: f,
            jnp.repeat(jnp.log(jnp.asarray(distribution, jnp.float32))[None], 400, 0),
        )
        keys = jax.random.split(jax.random.key(0), 400)
        part = TopLists(
            draw,
            keys,
            jnp.zeros((400, 300), bool),
            jnp.asarray(items),
            jnp.asarray(n, jnp.float32),
            jnp.asarray(hits),
        )
        return quantile_coverage([part], 1.0)

    share, error = holds(p)
    assert abs(share - 0.9) < 3 * error < 0.05
    assert holds(other)[0] < 0.1


def test_eases_probabilities_do_not_depend_on_the_unit_of_the_data():
    X = np.random.default_rng(0).poisson(0.5, size=(60, 8)).astype(float)
    tops = [
        EASE(l2=5 * c**2).fit(c * X).recommend(c * X[:5], k=8, exclude_seen=False)
        for c in (1.0, 0.02)
    ]
    np.testing.assert_allclose(tops[0].probabilities, tops[1].probabilities, rtol=1e-3)


def test_ease_gives_probabilities_in_proportion_to_its_scores():
    X = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
    model = EASE(l2=100.0).fit(np.tile(X, (200, 1)))  # so many that the weights are known
    top = model.recommend(np.array([[0, 1, 0, 0]]), k=3)
    draws, scores = top.draws[0], top.scores[0]
    np.testing.assert_allclose(draws.sum(1), 1, rtol=1e-5)
    assert scores[2] < 0 and np.median(draws[:, 2]) < 0.01
    assert np.median(draws[:, 0] / draws[:, 1]) == pytest.approx(scores[0] / scores[1], rel=0.2)


def test_a_blend_is_the_product_of_its_members_distributions(rows):
    members = [MultDAE(**QUICK).fit(rows), MultDAE(**QUICK | {"seed": 1}).fit(rows)]
    members[0].temperature_ = 0.7
    model = Blend(members, weights=(1.0, 0.5)).fit(rows)
    distributions = [
        member.recommend(rows, k=ITEMS, exclude_seen=False) for member in [*members, model]
    ]
    p, q, pooled = (
        np.take_along_axis(top.probabilities, np.argsort(top.items, axis=1), axis=1)
        for top in distributions
    )
    product = p * q**0.5
    np.testing.assert_allclose(pooled, product / product.sum(1, keepdims=True), rtol=1e-4)


def test_a_blend_fits_copies_of_its_members_and_drops_what_does_not_help(rows):
    dense = rows.toarray()
    hide = np.zeros_like(dense)
    hide[np.arange(USERS), ITEMS - 1 - dense[:, ::-1].argmax(1)] = 1
    held, other = HeldOut(dense * (1 - hide), hide), np.roll(dense, 3, axis=1)
    model = Blend([EASE(l2=5.0), Popularity()], weights=(1.0, 1.0)).fit(dense).fit(other)
    fresh = Blend([EASE(l2=5.0), Popularity()], weights=(1.0, 1.0)).fit(other)
    np.testing.assert_array_equal(
        model.recommend(dense, k=3).scores, fresh.recommend(dense, k=3).scores
    )
    assert not any(member.fitted for member in model.members)
    members = [EASE(l2=5.0).fit(dense), Popularity().fit(dense)]
    one, two = (
        dict(zip(map(type, m), Blend(m).fit(dense, held).weights_, strict=True))
        for m in (members, members[::-1])
    )
    assert one == two and max(one.values()) >= 1 and 1 in one.values()


# settings and labels


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
