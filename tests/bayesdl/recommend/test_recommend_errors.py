"""Recommenders and their evaluation: bad data and settings are refused with the cure."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from recommend_toys import ITEMS, QUICK

from bayesdl.data.validation import DataError
from bayesdl.recommend import (
    EASE,
    Anneal,
    Blend,
    Evaluation,
    HeldOut,
    MultVAE,
    PerUser,
    Popularity,
    evaluate,
    strong_split,
)
from bayesdl.recommend.estimator import NotFittedError
from bayesdl.recommend.rows import as_rows

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")


def test_bad_matrices(rows, fitted):
    cases = [
        (np.full((2, ITEMS), -1.0), "is negative"),
        (np.full((2, ITEMS), np.nan), "is not finite"),
        (np.ones((2, ITEMS + 1)), "give the same columns"),
        (np.array([["a"] * ITEMS]), "expected users x items"),
    ]
    for X, words in cases:
        with pytest.raises(DataError, match=words):
            fitted.recommend(X)
    with pytest.raises(DataError, match="no entry above zero"):
        EASE().fit(np.zeros((3, 4)))
    double = scipy.sparse.csr_array((np.ones(3), [1, 1, 2], [0, 2, 3]), shape=(2, 4))
    with pytest.warns(UserWarning, match="summed"):
        assert as_rows(double).toarray()[0, 1] == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m, X: m.recommend(X, k=ITEMS + 1), "there are 12 candidates"),
        (lambda m, X: m.recommend(X, k=0), "whole number of at least 1"),
        (lambda m, X: m.recommend(X, strategy="best", k=3), "expected one of mean"),
        (lambda m, X: m.recommend(X, candidates=[99], k=1), "99 is not an item"),
        (lambda m, X: m.similar_items(99), "99 is not an item"),
        (lambda m, X: MultVAE().recommend(X), "is not fitted"),
        (lambda m, X: MultVAE(likelihood="bernouli").fit(X), "expected one of multinomial"),
        (lambda m, X: MultVAE(beta=-1).fit(X), "expected 'auto'"),
        (lambda m, X: MultVAE(prior="flow").fit(X), "expected one of normal"),
        (lambda m, X: MultVAE(likelihood="bernoulli", **QUICK).fit(2 * X), "takes ones"),
        (
            lambda m, X: MultVAE(**QUICK).fit(X, item_features=np.ones((3, 2))),
            "with a row for each of 12 items",
        ),
        (lambda m, X: m.with_items(np.ones((1, 2)), [5]), "fitted with item_features"),
        (lambda m, X: m.recommend(X, k=3, refine_steps=-1), "at least 0"),
        (lambda m, X: m.posterior(X, refine_steps=5, likelihood_power=0), "above zero"),
        (lambda m, X: Popularity().fit(X).similar_items(3), "does not know which items are alike"),
        (lambda m, X: m.similar_items(3, k=-1), "at least 1"),
        (lambda m, X: MultVAE(**QUICK).fit(X, HeldOut(X, 0 * X)), "validation.held_out"),
        (lambda m, X: MultVAE(**QUICK, beta=lambda progress: -1.0).fit(X), "at least 0"),
        (lambda m, X: PerUser(-1), "share >= 0"),
        (lambda m, X: EASE().fit(X, items=[1] * ITEMS), "two columns have one label"),
        (lambda m, X: HeldOut(X, X), "shown and held out at once"),
        (lambda m, X: EASE(l2=0).fit(X), "above zero"),
        (lambda m, X: EASE().fit(X, items=[1]), "one label for each of 12"),
        (lambda m, X: HeldOut(X, X[:2]), "expected the same users"),
        (lambda m, X: strong_split([1, 2], [1]), "expected a label of each"),
        (lambda m, X: strong_split(["a", None], [1, 1]), r"users\[1\] is missing"),
        (lambda m, X: strong_split([1, 2], [1, np.nan]), r"items\[1\] is missing"),
        (lambda m, X: strong_split([1, 2], [1, 1]), "lower held_out"),
        (lambda m, X: Anneal(until=0), "expected cap >= 0"),
        (lambda m, X: EASE().start_fit(X, (X, X), None), "got tuple, expected HeldOut"),
        (lambda m, X: m.check_held_out((X, X)), "Got tuple, expected HeldOut"),
        (
            lambda m, X: m.score(HeldOut(X, 0 * X, items=np.arange(ITEMS)[::-1])),
            "items=split.items",
        ),
        (
            lambda m, X: EASE().fit(X).recommend(X, k=1, refine_steps=3),
            "EASE has no posterior of users",
        ),
        (lambda m, X: m.recommend(X, k=1).expected_hits(-1), "of at least 0"),
        (lambda m, X: m.recommend(X, k=1).expected_hits([1, 2]), "one whole number or 40"),
        (lambda m, X: m.rows_from([1, 2], [3]), "a label of each"),
        (lambda m, X: m.rows_from([1, 2], ["a", "b"]), "none of the items"),
        (lambda m, X: m.recommend(X, k=1).hits_interval(2, level=90.0), "0 < level < 1"),
        (lambda m, X: m.recommend(X, k=1).expected_hits(0.5), "whole number"),
        (lambda m, X: m.recommend(X, k=1).expected_hits(None), "n=None"),
        (lambda m, X: m.recommend(X, k=1, seed=None), "seed=None"),
        (lambda m, X: m.calibrate(HeldOut(0 * X, X), k=ITEMS + 1), "12 candidates"),
        (lambda m, X: evaluate(m, HeldOut(X, 0 * X)), "no user has held-out items"),
        (lambda m, X: strong_split([1], [1], held_out=(-1, 1)), "two whole numbers"),
        (lambda m, X: strong_split([1], [1], held_out=(0.1, 0.1)), "two whole numbers"),
        (lambda m, X: strong_split([1], [1], share=1.0), "0 < share < 1"),
        (lambda m, X: strong_split([1], [1], [np.nan]), "none missing"),
        (lambda m, X: strong_split([1], [1], times=[1, 2]), "one for each of 1 events"),
        (lambda m, X: strong_split([1], [1], times=["May"]), "times must be numbers"),
        (lambda m, X: Blend([EASE(), EASE()], (1.0, -1.0)).fit(X), "numbers of at least 0"),
        (lambda m, X: Blend({"a": EASE()}).fit(X), "expected a list of two"),
        (lambda m, X: MultVAE(**QUICK).fit(X, item_features=[["red"]] * ITEMS), "get_dummies"),
        (
            lambda m, X: m.recommend(
                pd.DataFrame(np.ones((1, ITEMS)), columns=list("abcdefghijkl")), k=1
            ),
            "missing 0, 1, 2 and 9 others; unknown a, b, c and 9 others",
        ),
        (lambda m, X: Evaluation({"a": {"m": np.ones(2)}}).paired("a", "b"), "expected two of a"),
        (
            lambda m, X: Evaluation({"a": {"m": np.ones(2)}}).paired("a", "a", "n"),
            "expected one of m",
        ),
    ],
)
def test_bad_settings(make, words, fitted, rows):
    with pytest.raises((ValueError, NotFittedError), match=words):
        make(fitted, rows)
