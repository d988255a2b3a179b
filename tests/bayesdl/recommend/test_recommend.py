"""Recommenders: published split and metrics, torch, dense formulas, exact posteriors, errors."""

import contextlib
import copy

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from recommend_toys import ITEMS, QUICK, USERS, few_rows
from scipy import stats

import bayesdl as bdl
from bayesdl.data.validation import DataError
from bayesdl.recommend import (
    EASE,
    Anneal,
    Blend,
    Evaluation,
    HeldOut,
    MultDAE,
    MultVAE,
    PerUser,
    Popularity,
    evaluate,
    strong_split,
)
from bayesdl.recommend.autoencoder import network as networks
from bayesdl.recommend.autoencoder.likelihoods import LIKELIHOODS, UNSEEN, multinomial_in_blocks
from bayesdl.recommend.autoencoder.objective import (
    COMPOSITE_SHARES,
    WIDE_LOG_VARIANCE,
    Objective,
    draw_normal,
)
from bayesdl.recommend.autoencoder.program import programs
from bayesdl.recommend.autoencoder.training import BetaSchedule
from bayesdl.recommend.estimator import NotFittedError
from bayesdl.recommend.evaluation.metrics import find_hits, ndcg, rank_items, recall
from bayesdl.recommend.models.blend import GRID
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import as_entries, as_rows, stack_batches

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* hits of validation users are expected"
)  # of sets so small that no list can be matched


@pytest.fixture(scope="module")
def rows():
    return few_rows()


@pytest.fixture(scope="module")
def held(rows):
    dense = rows.toarray()[:10]
    hide = np.zeros_like(dense)
    hide[:, 0] = 1
    return HeldOut(scipy.sparse.csr_array(dense * (1 - hide)), scipy.sparse.csr_array(dense * hide))


@pytest.fixture(scope="module")
def fitted(rows, held):
    return MultVAE(**QUICK).fit(rows, held)


def objective(**changes):
    network = networks.Network(
        ITEMS, (8,), 3, changes.pop("dropout", 0.0), changes.pop("stochastic", True)
    )
    return Objective(
        network,
        **(
            {
                "likelihood": "multinomial",
                "prior": "normal",
                "weight_decay": 0.0,
                "item_block": None,
            }
            | changes
        ),
    )


# the published split and its figures


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


# likelihoods, paths and priors against dense formulas


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_are_those_of_the_dense_matrix(rows, name):
    f = np.random.default_rng(1).normal(size=(USERS, ITEMS)).astype(np.float32)
    X = rows.toarray()
    if name == "multinomial":
        expected = (X * (f - np.log(np.exp(f).sum(1, keepdims=True)))).sum(1)
    elif name == "bernoulli":
        expected = stats.bernoulli(1 / (1 + np.exp(-f))).logpmf(X).sum(1)
    elif name == "poisson":
        expected = stats.poisson(np.exp(f)).logpmf(X).sum(1)
    else:
        expected = -(np.where(X > 0, 1, UNSEEN) * (X - f) ** 2).sum(1) / 2
    np.testing.assert_allclose(
        LIKELIHOODS[name](jnp.asarray(f), as_entries(rows)), expected, rtol=1e-5
    )


def test_blocks_of_items_change_nothing(rows):
    rng = np.random.default_rng(2)
    h, W, b = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((USERS, 5), (5, ITEMS), (ITEMS,))
    )
    x = as_entries(rows)

    def whole(h, W, b):
        return LIKELIHOODS["multinomial"](h @ W + b[None], x).sum()

    def in_blocks(h, W, b):
        return multinomial_in_blocks(h, W, b, x, 5).sum()  # 12 items do not divide into blocks of 5

    for one, other in zip(
        jax.value_and_grad(whole, (0, 1, 2))(h, W, b)[1] + (whole(h, W, b),),
        jax.value_and_grad(in_blocks, (0, 1, 2))(h, W, b)[1] + (in_blocks(h, W, b),),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_sparse_path_is_the_dense_one(rows, monkeypatch):
    """Loss and every gradient, also with rows that fill up a batch."""
    made, x = (
        objective(),
        as_entries(scipy.sparse.vstack([rows, scipy.sparse.csr_array((3, ITEMS))], "csr")),
    )
    x = x._replace(present=(jnp.arange(USERS + 3) < USERS).astype(float))
    params, found = made.init(jax.random.key(0)), []
    for share in (0.0, 1.0):
        monkeypatch.setattr(networks, "DENSE_SHARE", share)
        found.append(jax.value_and_grad(made.loss)(params, params, x, 0.3, jax.random.key(1)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    for name, value in found[0][1].items():
        np.testing.assert_allclose(value, found[1][1][name], rtol=1e-5, atol=1e-6, err_msg=name)
    monkeypatch.setattr(networks, "DENSE_SHARE", 1 / 20)
    alone = made.loss(params, params, as_entries(rows), 0.3, None)
    np.testing.assert_allclose(made.loss(params, params, x, 0.3, None), alone, rtol=1e-5)


def test_loss_and_gradients_are_torchs(rows):
    """A re-implementation with a dense matrix and torch's own layers has the same loss.

    It gets the same weights, batch and noise.
    """
    torch = pytest.importorskip("torch")
    made, x, key = objective(), as_entries(rows), jax.random.key(3)
    params = made.init(jax.random.key(0))
    from inference.core.keys import named_key

    noise = np.asarray(jax.random.normal(named_key(key, "z"), (USERS, 3)))
    loss, gradient = jax.value_and_grad(made.loss)(params, params, x, 0.3, key)
    w = {
        name: torch.tensor(np.asarray(value, np.float64), requires_grad=True)
        for name, value in params.items()
    }
    X = torch.tensor(rows.toarray(), dtype=torch.float64)
    h = torch.tanh(torch.nn.functional.normalize(X) @ w["encoder0.weight"] + w["encoder0.bias"])
    mean, log_variance = (h @ w["encoder1.weight"] + w["encoder1.bias"]).split(3, 1)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    z = mean + (log_variance / 2).exp() * torch.tensor(noise, dtype=torch.float64)
    logits = (
        torch.tanh(z @ w["decoder0.weight"] + w["decoder0.bias"]) @ w["decoder1.weight"]
        + w["decoder1.bias"]
    )
    nll = -(torch.log_softmax(logits, 1) * X).sum(1).mean()
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    (nll + 0.3 * kl).backward()
    code = made.network.encode(params, x)
    np.testing.assert_allclose(
        made.divergence(params, params, code, code[0], x).mean(), kl.item(), rtol=1e-5
    )
    np.testing.assert_allclose(loss, (nll + 0.3 * kl).item(), rtol=1e-5)
    for name, value in gradient.items():
        expected = w[name].grad.numpy()
        np.testing.assert_allclose(
            value, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name
        )


def test_the_noise_of_z_has_the_declared_sd():
    mean, log_variance = (
        jnp.full((20_000, 2), 3.0),
        jnp.broadcast_to(jnp.log(jnp.array([0.25, 4.0]))[None], (20_000, 2)),
    )
    z = (np.asarray(draw_normal(jax.random.key(0), mean, log_variance)) - 3) / [0.5, 2.0]
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 0.001


def test_dropout_keeps_the_mean_and_drops_the_share(rows):
    x = networks.normalise(as_entries(rows), 0.0, None)
    kept = jax.vmap(lambda key: networks.normalise(as_entries(rows), 0.5, key).value)(
        jax.random.split(jax.random.key(0), 4000)
    )
    inside = np.asarray(x.value) > 0
    error = np.asarray(kept)[:, inside].mean(0) - np.asarray(x.value)[inside]
    assert (np.abs(error) < 4.5 * np.asarray(x.value)[inside] / np.sqrt(4000)).all()
    dropped = (np.asarray(kept)[:, inside] == 0).ravel()
    assert abs(dropped.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(dropped.size)
    np.testing.assert_allclose(np.linalg.norm(networks.as_dense(x, ITEMS), axis=1), 1, rtol=1e-5)


def test_priors_that_are_mixtures(rows):
    x, z = as_entries(rows), jax.random.normal(jax.random.key(5), (USERS, 3))
    composite = objective(prior="composite")
    params, old = (composite.init(jax.random.key(seed)) for seed in (0, 1))
    mean, log_variance = map(np.asarray, composite.network.encode(old, x))
    parts = ((0.0, 1.0), (mean, np.exp(log_variance / 2)), (0.0, np.exp(WIDE_LOG_VARIANCE / 2)))
    density = sum(
        share * stats.norm(*part).pdf(np.asarray(z)).prod(1)
        for share, part in zip(COMPOSITE_SHARES, parts, strict=True)
    )
    np.testing.assert_allclose(composite.log_prior(params, old, z, x), np.log(density), rtol=1e-4)
    vamp = objective(prior="vamp")
    params = vamp.init(jax.random.key(0))
    pseudo = scipy.sparse.csr_array(np.asarray(jax.nn.sigmoid(params["pseudo"])))
    mean, log_variance = map(np.asarray, vamp.network.encode(params, as_entries(pseudo)))
    each = (
        stats.norm(mean[None], np.exp(log_variance / 2)[None]).pdf(np.asarray(z)[:, None]).prod(2)
    )
    np.testing.assert_allclose(
        vamp.log_prior(params, params, z, x), np.log(each.mean(1)), rtol=1e-4
    )


def test_batches_hold_every_entry_once(rows):
    order = np.random.default_rng(0).permutation(USERS)
    batches = stack_batches(rows, order, 16)
    assert batches.present.sum() == USERS and batches.user.shape[0] == 3
    found = np.zeros((48, ITEMS))
    np.add.at(found, (batches.user + 16 * np.arange(3)[:, None], batches.item), batches.value)
    np.testing.assert_array_equal(found[:USERS], rows.toarray()[order])
    assert all((np.diff(user) >= 0).all() for user in batches.user)


# training


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("prior", ["normal", pytest.param("vamp", marks=pytest.mark.slow)])
def test_all_likelihoods_learn(rows, likelihood, prior):
    model = MultVAE(**QUICK | {"epochs": 15}, likelihood=likelihood, prior=prior, beta=0.2).fit(
        rows
    )
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    top = model.recommend(rows[:3], k=4)
    assert np.isfinite(top.scores).all() and (top.lower <= top.upper).all()


def test_same_seed_same_fit(rows, held):
    one, same, other = (MultVAE(**QUICK, seed=seed).fit(rows, held) for seed in (0, 0, 1))
    for name, value in one.params_.items():
        np.testing.assert_array_equal(value, same.params_[name])
    assert not np.array_equal(one.params_["encoder0.weight"], other.params_["encoder0.weight"])


def test_the_best_epoch_is_kept(fitted, held):
    values = [epoch["ndcg@100"] for epoch in fitted.history_]
    assert fitted.best_epoch_ == int(np.argmax(values)) + 1
    assert fitted.score(held) == pytest.approx(max(values))


def test_beta_rises_with_the_planned_updates():
    betas = BetaSchedule(Anneal(cap=0.2, until=0.5), planned=100, patience=3)
    np.testing.assert_allclose(betas.values(0, 100)[[0, 25, 50, 99]], [0, 0.1, 0.2, 0.2], rtol=1e-6)
    auto = BetaSchedule("auto", 100, patience=3)
    assert auto.values(50, 1)[0] == pytest.approx(0.15) and not auto.goes_back(2, 0.3)
    assert (
        auto.goes_back(3, 0.3)
        and auto.values(90, 1)[0] == pytest.approx(0.3)
        and not auto.goes_back(9, 0.1)
    )


def test_beta_for_each_user_is_a_share_of_their_entries(rows):
    model = MultVAE(**QUICK, beta=PerUser(0.01)).fit(rows)
    np.testing.assert_allclose(
        model.posterior(rows).likelihood_power, 100 / rows.toarray().sum(1), rtol=1e-5
    )


# posteriors


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


def test_refinement_finds_the_posterior_that_nuts_finds(rows):
    """Means agree to 0.25 posterior standard deviations, standard deviations to 15 %.

    The encoder's own answer is farther away.
    """
    model = MultVAE(**QUICK | {"epochs": 40}, beta=1.0).fit(rows)
    program, _ = programs(model, rows[:4])
    z = bdl.fit(program, engine=bdl.NUTS(300, 1000, 1), progress=False).samples["z"][0]
    found = model.posterior(rows[:4], refine_steps=400, likelihood_power=1.0)
    encoder = model.posterior(rows[:4])
    assert (np.abs(found.mean - z.mean(0)) < 0.25 * z.std(0)).all()
    assert np.linalg.norm(found.mean - z.mean(0)) < np.linalg.norm(encoder.mean - z.mean(0))
    np.testing.assert_allclose(found.sd, z.std(0), rtol=0.15)


def test_program_and_guide_have_the_bound_of_training(rows):
    """The ELBO of the program by `bayesdl.vi` is within four standard errors of the loss."""
    model = MultVAE(**QUICK, dropout=0.0, beta=1.0).fit(rows)
    program, guide = programs(model, rows[:5], learn=True)
    estimate, x = bdl.vi.expectation(bdl.vi.elbo, program, guide), as_entries(rows[:5])
    keys = jax.random.split(jax.random.key(0), 500)
    one = np.asarray(jax.jit(jax.vmap(lambda key: estimate(key, model.params_)))(keys))
    loss = jax.jit(
        jax.vmap(lambda key: -5 * model.objective().loss(model.params_, {}, x, 1.0, key))
    )
    other = np.asarray(loss(keys))
    assert abs(one.mean() - other.mean()) < 4 * np.hypot(one.std(), other.std()) / np.sqrt(500)


def test_users_do_not_depend_on_who_is_asked_for_beside_them(fitted, rows):
    together, alone = (fitted.posterior(X, refine_steps=20) for X in (rows, rows[[7]]))
    np.testing.assert_allclose(together.mean[7], alone.mean[0], rtol=1e-4, atol=1e-5)


def test_without_items_other_likelihoods_still_learn(rows):
    model = MultVAE(**QUICK, likelihood="poisson").fit(rows)
    assert np.abs(model.posterior(np.zeros((1, ITEMS))).mean).max() > 0


def test_without_items_the_posterior_is_the_prior(fitted):
    found = fitted.posterior(np.zeros((2, ITEMS)))
    np.testing.assert_array_equal(found.mean, 0)
    np.testing.assert_array_equal(found.sd, 1)


def test_a_power_needs_steps_and_widens(fitted, rows):
    with pytest.raises(ValueError, match="give refine_steps"):
        fitted.posterior(rows, likelihood_power=1)
    sharp, wide = (
        fitted.posterior(rows, refine_steps=300, likelihood_power=power).sd.mean()
        for power in (5.0, 0.2)
    )
    assert wide > sharp


# recommendations


@pytest.mark.parametrize(
    "make", [Popularity, lambda: EASE(l2=5.0), lambda: MultVAE(**QUICK), lambda: MultDAE(**QUICK)]
)
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


# bad input


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


@pytest.mark.parametrize("models", [{"a": 1}, [EASE()]])
def test_what_cannot_be_evaluated(models, held):
    with pytest.raises(TypeError, match="expected recommenders by name, or one"):
        evaluate(models, held)
    with pytest.raises(TypeError, match=r"held is a (dict|list), expected HeldOut"):
        evaluate(held, models)


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
