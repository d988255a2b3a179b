"""Hits among the next items by simulation, intervals, upper bounds, shared noise."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recommend_toys import ITEMS, QUICK, USERS, few_rows, zipf

from bayesdl.recommend import (
    EASE,
    MultVAE,
    probabilities,
)
from bayesdl.recommend.autoencoder import codes, training
from bayesdl.recommend.hits import (
    expected_distinct,
    hits_distribution,
    inclusion_probabilities,
    shortest_intervals,
)
from bayesdl.recommend.rows import as_entries

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.*its probabilities are doubtful")
DRAWN = 20_000


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def fitted(rows):
    return MultVAE(**QUICK).fit(rows)


# hits among the next n different items


def counted(p):
    return expected_distinct(jnp.asarray(p, jnp.float32))[None, None]


@pytest.mark.parametrize("items", [30, 500])
@pytest.mark.parametrize("power", [0.0, 0.7, 1.2])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.quick_cases(6)
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
    # Independent items have 8 % more with n = 2.
    assert sd == pytest.approx(hits.std(), rel=4 / np.sqrt(2 * DRAWN) + p[0] / 2)


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


def test_the_old_name_of_the_distribution_of_hits_warns(fitted, rows):
    top = fitted.recommend(rows[:2], k=3)
    with pytest.warns(DeprecationWarning, match="hits_distribution"):
        old = top.hits_law(2)
    np.testing.assert_array_equal(old, top.hits_distribution(2))


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


@pytest.mark.slow
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


@pytest.mark.slow
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
