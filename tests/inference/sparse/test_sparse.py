"""Sparse subspace VI: the ELBO against closed forms and exact posteriors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from scipy import integrate, stats
from sparse_toys import images, make_training, moments_of, regression

import bayesdl as bdl
from bayesdl.model.language import NUMPYRO
from bayesdl.posterior.core import latent_draws
from inference.core.keys import named_key
from inference.sparse.engine import SSVI
from inference.sparse.variational.divergence import kl_of_entries
from inference.sparse.variational.priors import Prior


@pytest.mark.slow
def test_density_one_is_dense_mean_field_vi_step_for_step():
    X, y = regression()
    training, state, data = make_training(
        bdl.BNN(hidden=(7, 5), activation="relu"), X, y, density=1.0, steps=50
    )
    (inputs, targets), _ = data
    total, optimizer = len(inputs), optax.adam(optax.cosine_decay_schedule(0.01, 50))
    names = ["layer0", "layer1", "layer2"]
    w = {n: {k: v[0, 0] for k, v in state.params["weights"][f"{n}.weight"].items()} for n in names}
    mine = {
        "w": w,
        "b": {n: state.params["points"][f"{n}.bias"] for n in names},
        "s": state.params["normals"]["sigma"],
    }

    def loss(params, rows, key):
        h, kl = inputs[rows].T, 0.0
        for n in names:
            mu, sd = params["w"][n]["mean"], jax.nn.softplus(params["w"][n]["raw"])
            m, v = mu @ h, sd**2 @ h**2
            eps = jax.random.normal(named_key(named_key(key, "weights"), f"{n}.weight"), m.shape)
            h = (m + jnp.sqrt(v + 1e-12) * eps) / math.sqrt(h.shape[0]) + params["b"][n][:, None]
            h = jax.nn.relu(h) if n != "layer2" else h
            kl += (-jnp.log(sd) + (sd**2 + mu**2) / 2 - 0.5).sum()
            kl -= jax.scipy.stats.norm.logpdf(params["b"][n]).sum()
        loc, sd = params["s"]["loc"], jax.nn.softplus(params["s"]["raw"])
        u = loc + sd * jax.random.normal(named_key(named_key(key, "sites"), "sigma"), ())
        sigma = jnp.exp(u)
        log_prior = jnp.log(2.0) + jax.scipy.stats.norm.logpdf(sigma) + u
        kl += -(0.5 * math.log(2 * math.pi * math.e) + jnp.log(sd)) - log_prior
        likelihood = (
            jax.scipy.stats.norm.logpdf(targets[rows], h[0], sigma).sum() * total / len(rows)
        )
        return -(likelihood - kl) / total

    opt_state = optimizer.init(mine)
    step, gradients = jax.jit(training.step), jax.jit(jax.value_and_grad(loss))
    for i in range(25):
        key = jax.random.fold_in(named_key(training.key, "steps"), i)
        rows = jax.random.randint(named_key(key, "rows"), (16,), 0, total)
        value, gradient = gradients(mine, rows, named_key(key, "draws"))
        state, terms = step(i, state, data)
        np.testing.assert_allclose(-training.objective.value(terms) / total, value, rtol=1e-5)
        updates, opt_state = optimizer.update(gradient, opt_state, mine)
        mine = optax.apply_updates(mine, updates)
    for n in names:
        found = state.params["weights"][f"{n}.weight"]
        for part in ("mean", "raw"):
            np.testing.assert_allclose(found[part][0, 0], mine["w"][n][part], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            state.params["points"][f"{n}.bias"], mine["b"][n], rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(
        state.params["normals"]["sigma"]["loc"], mine["s"]["loc"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_doubling_the_data_halves_the_share_of_kl():
    X, y = regression()
    one = make_training(bdl.BNN(hidden=(10,), standardize=False), X, y)
    two = make_training(bdl.BNN(hidden=(10,), standardize=False), np.tile(X, (2, 1)), np.tile(y, 2))
    state = one[1]
    rows, key = jnp.arange(16), jax.random.key(0)
    (terms, _), (doubled, _) = (
        training.objective.terms(state.params, state.index, rows, key, data)
        for training, _, data in (one, two)
    )
    assert float(doubled.likelihood) == pytest.approx(2 * float(terms.likelihood), rel=1e-5)
    assert float(doubled.divergence) == pytest.approx(float(terms.divergence), rel=1e-6)
    assert (two[0].total, one[0].total) == (120, 60)  # by which the loss is divided


@pytest.mark.parametrize("estimator", ["local", "flipout", "weights"])
@pytest.mark.quick_cases(1)
def test_elbo_of_a_linear_model_is_the_closed_form(estimator):
    X, y = regression()
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.5), standardize=False)
    training, state, data = make_training(model, X, y, density=0.6, estimator=estimator)
    mean, sd = (
        np.asarray(training.layout.matrices(state.index, v)["layer0.weight"])[0]
        for v in moments_of(state)
    )
    active, width = sd > 0, X.shape[1]
    prior = math.sqrt(1 / 0.5)  # 4 of 8 inputs are active
    fit, spread = X @ mean / math.sqrt(width), X**2 @ sd**2 / width
    likelihood = stats.norm.logpdf(y, fit, 0.5).sum() - (spread / (2 * 0.25)).sum()
    kl = (
        np.log(prior / sd[active]) + (sd[active] ** 2 + mean[active] ** 2) / (2 * prior**2) - 0.5
    ).sum()
    kl -= stats.norm.logpdf(0.0)  # of the bias, a point

    @jax.jit
    def terms(key):
        return jnp.stack(training.objective.terms(state.params, state.index, None, key, data)[0])

    found = np.asarray(jax.lax.map(terms, jax.random.split(jax.random.key(1), 2000)), np.float64)
    error = found.std(0) / np.sqrt(len(found))
    assert abs(found[:, 0].mean() - likelihood) < 4 * error[0]
    np.testing.assert_allclose(found[:, 1], kl, rtol=1e-4)


@pytest.mark.slow
def test_estimators_agree_where_weights_are_shared_by_places():
    """Noise of its own for each place would be another q: a convolution shares its weights."""
    X, y = images(12)
    model = bdl.BNN(
        network=bdl.ConvNet(image=(8, 8), channels=(4, 4)),
        likelihood=bdl.Categorical(),
        standardize=False,
    )
    found = {}
    for estimator in ("local", "flipout", "weights"):
        training, state, data = make_training(
            model, X, y, density=0.5, estimator=estimator, initial_scale=0.5
        )

        @jax.jit
        def likelihoods(key, training=training, state=state, data=data):
            def one(key):
                return training.objective.terms(state.params, state.index, None, key, data)[
                    0
                ].likelihood

            return jax.lax.map(one, jax.random.split(key, 4000))

        found[estimator] = np.asarray(likelihoods(jax.random.key(1)), np.float64)
    for estimator in ("local", "flipout"):
        one, other = found[estimator], found["weights"]
        assert abs(one.mean() - other.mean()) < 4 * math.hypot(one.std(), other.std()) / math.sqrt(
            4000
        )


@pytest.mark.slow
def test_priors_are_wider_by_the_share_of_inputs():
    X, y = regression(columns=20)
    model = bdl.BNN(hidden=(20, 20), standardize=False)
    units, *_ = make_training(model, X, y, structure="neurons", density=0.4)
    counts = [units.layout.patterns[f"layer{i}.weight"].count for i in range(2)]
    live = {"layer0.weight": 1.0, "layer1.weight": counts[0] / 20, "layer2.weight": counts[1] / 20}
    assert units.layout.shares == pytest.approx(live)
    single, state, _ = make_training(model, X, y, density=0.4)
    spread = state.params["weights"]["layer1.weight"]["mean"]
    count, share = spread.size, single.layout.shares["layer1.weight"]
    assert share == single.layout.patterns["layer1.weight"].density
    # the means are drawn from the prior of active weights
    assert abs(float((spread**2).mean()) * share - 1) < 4 * math.sqrt(2 / count)


@pytest.mark.slow
def test_minibatches_are_unbiased():
    X, y = regression(200)
    training, state, data = make_training(bdl.BNN(hidden=(10,)), X, y)

    @jax.jit
    def likelihood(key, rows):
        return training.objective.terms(state.params, state.index, rows, key, data)[0].likelihood

    keys = jax.random.split(jax.random.key(0), 1000)
    rows = jax.vmap(lambda key: training.draw_rows(key, 16))(keys)
    batches = np.asarray(jax.lax.map(lambda z: likelihood(*z), (keys, rows)), np.float64)
    whole = np.asarray(jax.lax.map(lambda key: likelihood(key, None), keys), np.float64)
    error = math.hypot(batches.std(), whole.std()) / math.sqrt(1000)
    assert abs(batches.mean() - whole.mean()) < 4 * error


@pytest.mark.slow
def test_the_exact_posterior_of_a_linear_model_is_found():
    rng = np.random.default_rng(0)
    # orthogonal columns: the posterior is mean-field
    X = np.linalg.qr(rng.normal(size=(40, 4)) - 0.0)[0] * np.sqrt(40)
    y = X @ np.array([1.0, -0.5, 0.0, 0.3]) + 0.5 * rng.normal(size=40)
    model = bdl.BNN(
        hidden=(), likelihood=bdl.Normal(scale=0.5), scaling="standard", standardize=False
    )
    engine = SSVI(density=1.0, steps=4000, biases="normal", learning_rate=0.02)
    post = bdl.fit(model, X, y, engine=engine, progress=False)
    design = np.column_stack([X, np.ones(40)])
    covariance = np.linalg.inv(np.eye(5) + design.T @ design / 0.25)
    exact = covariance @ design.T @ y / 0.25
    mean = np.r_[post.raw.params["layer0.weight/mean"].ravel(), post.raw.params["layer0.bias/loc"]]
    sd = np.r_[post.raw.params["layer0.weight/scale"].ravel(), post.raw.params["layer0.bias/scale"]]
    precision = np.linalg.inv(covariance)
    best_sd = 1 / np.sqrt(np.diag(precision))  # of the best independent normals
    kl = (np.log(best_sd / sd) + sd**2 / (2 * best_sd**2) - 0.5).sum() + (
        mean - exact
    ) @ precision @ (mean - exact) / 2
    assert kl < 0.02
    evidence = stats.multivariate_normal(
        np.zeros(40), 0.25 * np.eye(40) + design @ design.T
    ).logpdf(y)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    weights = np.asarray(post.raw.log_weights(jax.random.key(0), 2000), np.float64)
    assert abs(weights.mean() - (evidence - gap - kl)) < 4 * weights.std() / np.sqrt(2000)


@pytest.mark.parametrize(
    "prior", [dist.Laplace(0.0, 0.7), dist.StudentT(4.0, 0.0, 1.3), dist.Normal(0.0, 0.4)]
)
@pytest.mark.quick_cases(1)
def test_kl_of_other_priors_is_right_in_the_mean(prior):
    mean, sd, scale = 0.3, 0.2, 1.5

    def integrand(w):
        density = stats.norm.pdf(w, mean, sd)
        return density * (
            stats.norm.logpdf(w, mean, sd) - float(prior.log_prob(w / scale)) + math.log(scale)
        )

    expected = integrate.quad(integrand, mean - 8 * sd, mean + 8 * sd, limit=200)[0]
    found = np.asarray(
        kl_of_entries(
            jnp.full(20_000, mean), jnp.full(20_000, sd), Prior(prior, scale), jax.random.key(0)
        ),
        float,
    )
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found)) + 1e-4


@pytest.mark.parametrize(
    "prior",
    [
        bdl.priors.LayerHierarchical(),
        *(
            pytest.param(p, marks=pytest.mark.slow)
            for p in (bdl.priors.Hierarchical(), bdl.priors.Laplace())
        ),
    ],
    ids=lambda prior: type(prior).__name__,
)
@pytest.mark.slow
def test_priors_with_scales_of_their_own(prior):
    X, y = regression()
    post = bdl.fit(
        bdl.BNN(hidden=(10,), prior=prior),
        X,
        y,
        engine=SSVI(steps=300, density=0.5),
        progress=False,
    )
    sites = post.sample(3)
    for latent, seen in post.problem.structure.weights.items():
        assert latent in sites
        if seen.endswith(".weight"):
            assert (sites[seen] != 0).mean() <= bdl.sparse.report(post).layers[seen][
                "density"
            ] + 1e-6
    compressed = {k: v[0] for k, v in latent_draws(post).items()}
    values = post.raw.decompression(compressed)
    net = post.model.net
    leaves = net.weight_arrays(X.shape[1], 1)
    f = net.apply({leaf.name: values[leaf.name] for leaf in leaves}, post.problem.args[0], NUMPYRO)
    found = post._predictive(compressed, jax.random.key(0), post.problem.args[0]).distribution
    np.testing.assert_allclose(found.mean, f[:, 0], rtol=2e-5, atol=2e-5)
