"""The protocol: the published split and its figures, ranking metrics, comparisons."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from recommend_toys import QUICK
from scipy import stats

from bayesdl.recommend import (
    EASE,
    Evaluation,
    HeldOut,
    MultDAE,
    Popularity,
    evaluate,
    strong_split,
)
from bayesdl.recommend.evaluation.metrics import find_hits, ndcg, rank_items, recall

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")


def test_the_published_split(reference):
    data = reference.movielens()
    split = strong_split(data["users"], data["items"], data["ratings"])
    mine = (
        split.train,
        split.validation.fold_in,
        split.validation.held_out,
        split.test.fold_in,
        split.test.held_out,
    )
    for name, found in zip(
        ("train", "val_foldin", "val_heldout", "test_foldin", "test_heldout"), mine, strict=True
    ):
        np.testing.assert_array_equal(found.indptr, data[name].indptr)
        np.testing.assert_array_equal(found.indices, data[name].indices)


def published(reference):
    data = reference.movielens()
    return data["train"], *(
        HeldOut(data[f"{part}_foldin"], data[f"{part}_heldout"]) for part in ("val", "test")
    )


def test_popularity_on_the_published_split(reference):
    train, _, test = published(reference)
    assert evaluate(Popularity().fit(train), test).values["Popularity"][
        "ndcg@100"
    ].mean() == pytest.approx(0.21459, abs=2e-5)


@pytest.mark.slow
def test_ease_on_the_published_split(reference):
    train, _, test = published(reference)
    found = evaluate(EASE(l2=500).fit(train), test).values["EASE"]
    for metric, value in (("ndcg@100", 0.42068), ("recall@20", 0.35742), ("recall@50", 0.47883)):
        assert found[metric].mean() == pytest.approx(value, abs=2e-5)


def test_metrics_are_those_of_a_loop():
    """Scores with many ties, users with one to all items held out."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (30, 15)).astype(np.float32)
    wanted = rng.uniform(size=(30, 15)) < rng.uniform(size=(30, 1))
    wanted[:, 3] = True
    items = np.asarray(rank_items(jnp.asarray(scores), 10)[1])
    hit = find_hits(items, scipy.sparse.csr_array(wanted))
    for k in (1, 4, 10):
        for u in range(30):
            order = sorted(range(15), key=lambda i, u=u: (-scores[u, i], i))[:k]
            found = [wanted[u, i] for i in order]
            best = sum(1 / np.log2(r + 2) for r in range(min(k, wanted[u].sum())))
            gain = sum(1 / np.log2(r + 2) for r, is_hit in enumerate(found) if is_hit)
            assert abs(ndcg(hit, wanted.sum(1), k)[u] - gain / best) < 1e-12
            assert (
                abs(recall(hit, wanted.sum(1), k)[u] - sum(found) / min(k, wanted[u].sum())) < 1e-12
            )


def test_split_keeps_users_apart_and_counts_what_it_drops():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 50, 900), rng.integers(0, 40, 900)
    split = strong_split(users, items, held_out=(5, 7), seed=1)
    assert split.train.shape[0] == len(split.users) and split.validation.fold_in.shape[0] == 5
    assert not set(split.users) & (set(split.validation.users) | set(split.test.users))
    assert not (split.test.fold_in.toarray() * split.test.held_out.toarray()).any()
    events = len(np.unique(np.stack([users, items]), axis=1).T)
    kept = [
        split.train,
        *(
            part
            for held in (split.validation, split.test)
            for part in (held.fold_in, held.held_out)
        ),
    ]
    assert sum(part.nnz for part in kept) + split.dropped == events


def test_paired_differences_are_scipys(rows, held):
    found = evaluate({"ease": EASE(l2=5.0).fit(rows), "dae": MultDAE(**QUICK).fit(rows)}, held)
    a, b = (
        found.values[name]["recall@20"] + np.arange(10) * scale
        for name, scale in (("ease", 0.1), ("dae", 0.13))
    )
    paired = Evaluation({"a": {"m": a}, "b": {"m": b}}).paired("a", "b", "m")
    test = stats.ttest_rel(a, b)
    assert paired["p"] == pytest.approx(test.pvalue) and paired["difference"] / paired[
        "se"
    ] == pytest.approx(test.statistic)


@pytest.mark.parametrize("models", [{"a": 1}, [EASE()]])
def test_what_cannot_be_evaluated(models, held):
    with pytest.raises(TypeError, match="expected recommenders by name, or one"):
        evaluate(models, held)
    with pytest.raises(TypeError, match=r"held is a (dict|list), expected HeldOut"):
        evaluate(held, models)
