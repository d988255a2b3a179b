"""Autoencoders against dense formulas and torch; training; posteriors against NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from recommend_toys import ITEMS, QUICK, USERS
from scipy import stats

import bayesdl as bdl
from bayesdl.recommend import (
    Anneal,
    MultVAE,
    PerUser,
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
from bayesdl.recommend.rows import as_entries, stack_batches

# The sets of users are so small that no list can be matched.
pytestmark = pytest.mark.filterwarnings("ignore:.* hits of validation users are expected")


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


# likelihoods, paths and priors against dense formulas


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.quick_cases(1)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_beta_for_each_user_is_a_share_of_their_entries(rows):
    model = MultVAE(**QUICK, beta=PerUser(0.01)).fit(rows)
    np.testing.assert_allclose(
        model.posterior(rows).likelihood_power, 100 / rows.toarray().sum(1), rtol=1e-5
    )


# posteriors


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_items_other_likelihoods_still_learn(rows):
    model = MultVAE(**QUICK, likelihood="poisson").fit(rows)
    assert np.abs(model.posterior(np.zeros((1, ITEMS))).mean).max() > 0


def test_without_items_the_posterior_is_the_prior(fitted):
    found = fitted.posterior(np.zeros((2, ITEMS)))
    np.testing.assert_array_equal(found.mean, 0)
    np.testing.assert_array_equal(found.sd, 1)


@pytest.mark.slow
def test_a_power_needs_steps_and_widens(fitted, rows):
    with pytest.raises(ValueError, match="give refine_steps"):
        fitted.posterior(rows, likelihood_power=1)
    sharp, wide = (
        fitted.posterior(rows, refine_steps=300, likelihood_power=power).sd.mean()
        for power in (5.0, 0.2)
    )
    assert wide > sharp
