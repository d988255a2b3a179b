"""What every recommender gives, EASE's posterior, blends, and items that came later."""

import contextlib
import copy

import numpy as np
import pytest
import scipy.sparse
from recommend_toys import ITEMS, QUICK, USERS

from bayesdl.data.validation import DataError
from bayesdl.recommend import (
    EASE,
    Blend,
    MultDAE,
    MultVAE,
    Popularity,
)
from bayesdl.recommend.models.blend import GRID
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import as_entries, as_rows

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")


def test_ease_weights_have_the_posterior_of_a_bayesian_regression(rows):
    """Each item is regressed on the others with prior variance s^2 / lambda.

    The means of the weights and the variance of a new user's score are compared.
    """
    l2, X = 3.0, rows.toarray().astype(float)
    model = EASE(l2=l2).fit(rows)
    new = (np.random.default_rng(3).uniform(size=(4, ITEMS)) < 0.4).astype(float)
    new[:, 5] = 0
    others = np.arange(ITEMS) != 5
    Z = X[:, others]
    gram = np.linalg.inv(Z.T @ Z + l2 * np.eye(ITEMS - 1))
    b = gram @ Z.T @ X[:, 5]
    noise = (((X[:, 5] - Z @ b) ** 2).sum() + l2 * (b**2).sum()) / USERS
    np.testing.assert_allclose(model.weights[others, 5], b, rtol=1e-8)
    sd = np.sqrt(noise * ((new[:, others] @ gram) * new[:, others]).sum(1))
    np.testing.assert_allclose(np.sqrt(model.block_moments(as_rows(new))[1])[:, 5], sd, rtol=1e-6)
    np.testing.assert_allclose(
        model.block_scores(as_rows(new), Refinement())[:, 5], new[:, others] @ b, rtol=1e-6
    )


@pytest.mark.parametrize(
    "make", [Popularity, lambda: EASE(l2=5.0), lambda: MultVAE(**QUICK), lambda: MultDAE(**QUICK)]
)
@pytest.mark.quick_cases(2)
def test_what_every_recommender_gives(make, rows, held):
    model = make().fit(rows, held, items=[f"item {i}" for i in range(ITEMS)])
    X = rows[:35]
    top = model.recommend(X, k=3)
    assert top.items.shape == (35, 3) and top.items.dtype.kind == "U"
    seen = [{f"item {i}" for i in X[[u]].indices} for u in range(35)]
    assert all(not seen[u] & set(top.items[u]) for u in range(35))
    assert (np.diff(top.scores, axis=1) <= 0).all()
    assert (top.lower <= top.upper).all()  # a mean may lie outside of them, where draws are skewed
    np.testing.assert_allclose(top.probabilities, top.draws.mean(1), rtol=1e-5)
    assert (top.expected_hits() <= 1 + 1e-6).all()
    alone = model.recommend(X[[4]], k=3)
    np.testing.assert_array_equal(alone.items[0], top.items[4])
    some = model.recommend(X, k=2, candidates=["item 3", "item 7", "item 9"], exclude_seen=False)
    assert set(some.items.ravel()) <= {"item 3", "item 7", "item 9"}
    np.testing.assert_allclose(
        model.recommend(X, k=ITEMS, exclude_seen=False).probabilities.sum(1), 1, rtol=1e-4
    )
    with (
        pytest.warns(UserWarning, match="1 users have no items")
        if model.needs_items
        else contextlib.nullcontext()
    ):
        blank = model.recommend(np.zeros((1, ITEMS)), k=ITEMS)
    assert np.isfinite(blank.scores).all() and np.isfinite(blank.probabilities).all()
    if not isinstance(model, Popularity):
        assert model.similar_items("item 2", k=4)[0].shape == (4,)
    assert "item" in repr(top) and len(top.to_pandas()) == 105
    for strategy in ("thompson", "ucb"):
        one, same = (model.recommend(X, k=3, strategy=strategy, seed=2).items for _ in range(2))
        np.testing.assert_array_equal(one, same)


def test_users_who_have_seen_everything(fitted):
    with pytest.warns(UserWarning, match="1 users have fewer unseen candidates than k"):
        top = fitted.recommend(np.ones((1, ITEMS)), k=3)
    assert (
        not top.filled.any() and len(top.to_pandas()) == 0 and np.isfinite(top.probabilities).all()
    )


def test_blend_chooses_weights_and_is_no_worse(rows, held):
    members = [EASE(l2=5.0).fit(rows), Popularity().fit(rows)]
    model = Blend(members).fit(rows, held)
    assert model.score(held) >= members[0].score(held) - 1e-9
    assert model.weights_ == (
        1.0,
        max(GRID, key=lambda w: Blend(members, (1.0, w)).fit(rows).score(held)),
    )
    with pytest.raises(ValueError, match="give fit\\(train, validation"):
        Blend(members).fit(rows)


def test_items_without_entries_are_scored_by_their_features(rows):
    """A new item with the features of an old one has nearly its score.

    The old items keep their scores to rounding.
    """
    features = np.eye(ITEMS)[:, :6] + np.eye(ITEMS)[:, 6:]
    model = MultVAE(**QUICK).fit(rows, item_features=features)
    text = copy.copy(model)
    text.items_ = np.array([f"item {i}" for i in range(ITEMS)], object)
    assert text.with_items(features[:1], ["new"]).items_[-1] == "new"
    with pytest.raises(DataError, match="of another kind"):
        text.with_items(features[:1], [100])
    with pytest.raises(DataError, match="must be new"):
        text.with_items(features[:1], ["item 3"])
    more = model.with_items(features[:2], [100, 101])
    X = rows[:5]
    wider = scipy.sparse.hstack([X, scipy.sparse.csr_array((5, 2))], "csr")
    before, after = (
        np.concatenate([f for _, f in m.scores(x)]) for m, x in ((model, X), (more, wider))
    )
    np.testing.assert_allclose(after[:, :ITEMS], before, rtol=1e-5, atol=1e-5)
    last = "decoder1"
    own = (
        model.objective().network.last_hidden(
            model.params_, model.user_codes(as_entries(as_rows(X)), Refinement())[0]
        )
        @ model.params_[f"{last}.weight"]
    )
    np.testing.assert_allclose(
        after[:, ITEMS:],
        (before - own - model.params_[f"{last}.bias"][None])[:, :2],
        rtol=1e-3,
        atol=1e-4,
    )
