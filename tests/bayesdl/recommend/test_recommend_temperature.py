"""The temperature, coverage of quantiles, and probabilities of EASE and of blends."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from recommend_toys import ITEMS, QUICK, USERS, few_rows, zipf

from bayesdl.recommend import (
    EASE,
    Blend,
    HeldOut,
    MultDAE,
    MultVAE,
    Popularity,
)
from bayesdl.recommend.probabilities import TopLists, quantile_coverage

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.*its probabilities are doubtful")
DRAWN = 20_000


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def fitted(rows):
    return MultVAE(**QUICK).fit(rows)


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
        # Ten draws for each user in the one, a hundred shared ones in the other.
        assert expected == pytest.approx(actual, rel=0.1)
        found.append(model.temperature_)
    assert len(set(found)) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
