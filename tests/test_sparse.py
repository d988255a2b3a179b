"""Sparse subspace VI: budgets kept exactly, kernels against matrices, growth against autodiff, q against exact posteriors."""

import dataclasses
import functools
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from scipy import integrate, special, stats

import bayesdl as bdl
from bayesdl.bnn.equinox_network import EquinoxNetwork, multiplying
from bayesdl.language import NUMPYRO
from inference.keys import named
from inference.problem import ProblemError
from inference.progress import Silent
from inference.structure import AbstractProduct
from inference.vi.sparse import accounts, portable, saving
from inference.vi.sparse.budget import GLOBAL, patterns
from inference.vi.sparse.engine import SSVI
from inference.vi.sparse.family import Prior, kl_of_entries, scale_of
from inference.vi.sparse.kernels import KERNELS, fitting
from inference.vi.sparse.layout import Layout
from inference.vi.sparse.pattern import BudgetError, Pattern
from inference.vi.sparse.products import SparseProduct
from inference.vi.sparse.rewire import largest
from inference.vi.sparse.scores import evidence_gain, score

STRUCTURES = ("unstructured", "fan_in", "block:4", "neurons")
PATTERNS = {
    "unstructured": Pattern((9, 14), (1, 1), False, 30),
    "fan_in": Pattern((9, 14), (1, 1), True, 3),
    "blocks": Pattern((8, 12), (4, 4), True, 2),
    "padded blocks": Pattern((9, 14), (4, 4), True, 2),
    "neurons": Pattern((9, 14), (1, 14), False, 4),
    "dense": Pattern((9, 14), (9, 14), False, 1),
}


def regression(rows=60, columns=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    return X, np.sin(X[:, 0]) + 0.5 * X[:, 1] + 0.1 * rng.normal(size=rows)


def training_of(model, X, y, key=0, **settings):
    """A run's functions, its start and its data."""
    problem = model.problem(model.frame(X, y), X, y)
    training = SSVI(**{"density": 0.3, "batch_size": 16} | settings).training(problem, jax.random.key(key))
    state = jax.jit(training.start)(named(training.key, "start"))
    return training, state, jax.tree.map(jnp.asarray, (problem.args, dict(problem.kwargs)))


def moments_of(state):
    leaves = state.params["weights"]
    return {n: leaf["mean"] for n, leaf in leaves.items()}, {n: scale_of(leaf["raw"]) for n, leaf in leaves.items()}


# budgets


def thousand_steps(model, X, y, **settings):
    """The index of each store after every one of 1,000 steps, each followed by an exchange."""
    training, state, data = training_of(model, X, y, every=1, steps=2000, **settings)

    def one(state, i):
        state, _ = training.step(i, state, data)
        state, _ = training.exchange(state, i, jnp.asarray(training.engine.rate), data)
        return state, state.index

    _, found = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(1000)))(state)
    return training.layout, jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("case", [0, 1, 2, *(pytest.param(i, marks=pytest.mark.slow) for i in (3, 4, 5))])
def test_budgets_are_kept_after_every_step(case):
    rng = np.random.default_rng(case)
    structure = (*STRUCTURES, "global", "block:16")[case]
    density = (
        float(rng.uniform(0.3, 0.5)) if structure.startswith("block") else float(np.exp(rng.uniform(*np.log([0.06, 0.5]))))
    )
    widths = tuple(int(w) for w in rng.integers(40, 90, 2))
    settings = {"allocation": "global"} if structure == "global" else {"structure": structure}
    X, y = regression(columns=int(rng.integers(33, 50)))
    layout, found = thousand_steps(bdl.BNN(hidden=widths), X, y, density=density, **settings)
    changed = 0
    for store, pattern in layout.patterns.items():
        index = found[store].astype(np.int64)
        assert index.shape == (1000, *pattern.index_shape)
        assert index.min() >= 0
        assert index.max() < pattern.candidates
        assert (np.diff(index, axis=2) > 0).all()  # sorted and unique
        changed += (np.diff(index, axis=0) != 0).sum()
    assert changed > 0
    assert sum(p.size for p in layout.patterns.values()) <= density * sum(map(math.prod, layout.shapes.values()))


@pytest.mark.parametrize("density", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("structure", ["unstructured", "fan_in", "block:16", "block:32", "neurons"])
@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_budgets_are_below_the_density(density, structure, allocation):
    shapes = {"a": (1024, 784), "b": (1024, 1024), "c": (10, 1024)}
    total = sum(map(math.prod, shapes.values()))
    dense = ("c",) if density >= 0.02 else ()
    too_few = {("block:16", 0.005), ("block:32", 0.005), ("block:16", 0.02), ("block:32", 0.02)}
    if (structure, density) in too_few:
        with pytest.raises(BudgetError, match="the least is"):
            patterns(shapes, density, allocation, structure, dense)
        return
    found = patterns(shapes, density, allocation, structure, dense)
    active = sum(p.size for p in found.values())
    unit = max(p.size // p.count for name, p in found.items() if not p.is_dense)
    assert density * total - unit < active <= density * total
    assert found["c"].is_dense or not dense


def test_erk_gives_small_layers_more():
    shapes = {"a": (100, 200), "b": (20, 30), "c": (5, 5)}
    found = patterns(shapes, 0.1, "erk", "unstructured", ())
    assert found["c"].is_dense
    expected = (20 + 30) / (20 * 30) / ((100 + 200) / (100 * 200))
    assert found["b"].density / found["a"].density == pytest.approx(expected, rel=0.02)


# kernels


@pytest.mark.parametrize("name", PATTERNS)
def test_kernels_are_products_with_the_scattered_matrix(name):
    pattern = PATTERNS[name]
    key = jax.random.key(0)
    index = pattern.draw(key)
    mean, variance = jax.random.normal(key, pattern.values_shape), jax.random.uniform(named(key, "v"), pattern.values_shape)
    h = jax.random.normal(named(key, "h"), (pattern.shape[1], 5))
    inside = pattern.inside(index)

    def loss(multiply, h, mean, variance):
        m, v = multiply(h, jnp.where(inside, mean, 0.0), jnp.where(inside, variance, 0.0))
        return jnp.sum(jnp.sin(m)) + jnp.sum(jnp.sqrt(v + 1.0))

    def by_matrices(h, mean, variance):
        (a, b), columns = pattern.tile, pattern.grid[1]
        where = jnp.zeros(pattern.padded), jnp.zeros(pattern.padded)
        for place, number in enumerate(np.asarray(pattern.numbers(index))):  # tile by tile
            group, k = divmod(place, pattern.count)
            row, column = divmod(int(number), columns)
            at = (slice(row * a, row * a + a), slice(column * b, column * b + b))
            where = tuple(w.at[at].set(v[group, k]) for w, v in zip(where, (mean, variance), strict=True))
        m, v = (w[: pattern.shape[0], : pattern.shape[1]] for w in where)
        return m @ h, v @ (h * h)

    expected = jax.value_and_grad(functools.partial(loss, by_matrices), argnums=(0, 1, 2))(h, mean, variance)
    for kernel in {*fitting(pattern), "transient"}:

        def multiply(h, mean, variance, kernel=kernel):
            return KERNELS[kernel](pattern, h, index, mean, variance)

        found = jax.value_and_grad(functools.partial(loss, multiply), argnums=(0, 1, 2))(h, mean, variance)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), found, expected)
        alone, none = KERNELS[kernel](pattern, h, index, mean, None)
        assert none is None
        np.testing.assert_allclose(alone, by_matrices(h, jnp.where(inside, mean, 0.0), variance)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("structure", ["fan_in", "block:4", "neurons"])
def test_kernels_agree_in_loss_and_gradient(structure):
    X, y = regression()
    kernel = structure.partition(":")[0].replace("block", "blocks")
    found = []
    for name in (kernel, "transient"):
        training, state, data = training_of(bdl.BNN(hidden=(12, 12)), X, y, structure=structure, kernel=name, density=0.6)

        def loss(params, training=training, state=state, data=data):
            terms, _ = training.objective.terms(params, state.index, jnp.arange(16), jax.random.key(3), data)
            return training.objective.value(terms)

        found.append(jax.jit(jax.value_and_grad(loss))(state.params))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4), *found)


def test_scattered_and_gathered_are_inverse():
    for pattern in PATTERNS.values():
        index = pattern.draw(jax.random.key(1))
        values = jnp.where(pattern.inside(index), jax.random.normal(jax.random.key(2), pattern.values_shape), 0.0)
        np.testing.assert_array_equal(pattern.gathered(index, pattern.scattered(index, values)), values)


# the objective


def test_density_one_is_dense_mean_field_vi_step_for_step():
    X, y = regression()
    training, state, data = training_of(bdl.BNN(hidden=(7, 5), activation="relu"), X, y, density=1.0, steps=50)
    (inputs, targets), _ = data
    total, optimizer = len(inputs), optax.adam(optax.cosine_decay_schedule(0.01, 50))
    names = ["layer0", "layer1", "layer2"]
    w = {n: {k: v[0, 0] for k, v in state.params["weights"][f"{n}.weight"].items()} for n in names}
    mine = {"w": w, "b": {n: state.params["points"][f"{n}.bias"] for n in names}, "s": state.params["normals"]["sigma"]}

    def loss(params, rows, key):
        h, kl = inputs[rows].T, 0.0
        for n in names:
            mu, sd = params["w"][n]["mean"], jax.nn.softplus(params["w"][n]["raw"])
            m, v = mu @ h, sd**2 @ h**2
            eps = jax.random.normal(named(named(key, "weights"), f"{n}.weight"), m.shape)
            h = (m + jnp.sqrt(v + 1e-12) * eps) / math.sqrt(h.shape[0]) + params["b"][n][:, None]
            h = jax.nn.relu(h) if n != "layer2" else h
            kl += (-jnp.log(sd) + (sd**2 + mu**2) / 2 - 0.5).sum()
            kl -= jax.scipy.stats.norm.logpdf(params["b"][n]).sum()
        loc, sd = params["s"]["loc"], jax.nn.softplus(params["s"]["raw"])
        u = loc + sd * jax.random.normal(named(named(key, "sites"), "sigma"), ())
        sigma = jnp.exp(u)
        log_prior = jnp.log(2.0) + jax.scipy.stats.norm.logpdf(sigma) + u
        kl += -(0.5 * math.log(2 * math.pi * math.e) + jnp.log(sd)) - log_prior
        likelihood = jax.scipy.stats.norm.logpdf(targets[rows], h[0], sigma).sum() * total / len(rows)
        return -(likelihood - kl) / total

    opt_state = optimizer.init(mine)
    step, gradients = jax.jit(training.step), jax.jit(jax.value_and_grad(loss))
    for i in range(25):
        key = jax.random.fold_in(named(training.key, "steps"), i)
        rows = jax.random.randint(named(key, "rows"), (16,), 0, total)
        value, gradient = gradients(mine, rows, named(key, "draws"))
        state, terms = step(i, state, data)
        np.testing.assert_allclose(-training.objective.value(terms) / total, value, rtol=1e-5)
        updates, opt_state = optimizer.update(gradient, opt_state, mine)
        mine = optax.apply_updates(mine, updates)
    for n in names:
        found = state.params["weights"][f"{n}.weight"]
        for part in ("mean", "raw"):
            np.testing.assert_allclose(found[part][0, 0], mine["w"][n][part], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.params["points"][f"{n}.bias"], mine["b"][n], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.params["normals"]["sigma"]["loc"], mine["s"]["loc"], rtol=1e-5, atol=1e-6)


def test_doubling_the_data_halves_the_share_of_kl():
    X, y = regression()
    one = training_of(bdl.BNN(hidden=(10,), standardize=False), X, y)
    two = training_of(bdl.BNN(hidden=(10,), standardize=False), np.tile(X, (2, 1)), np.tile(y, 2))
    state = one[1]
    rows, key = jnp.arange(16), jax.random.key(0)
    (terms, _), (doubled, _) = (
        training.objective.terms(state.params, state.index, rows, key, data) for training, _, data in (one, two)
    )
    assert float(doubled.likelihood) == pytest.approx(2 * float(terms.likelihood), rel=1e-5)
    assert float(doubled.divergence) == pytest.approx(float(terms.divergence), rel=1e-6)
    assert (two[0].total, one[0].total) == (120, 60)  # by which the loss is divided


@pytest.mark.parametrize("estimator", ["local", "flipout", "weights"])
def test_elbo_of_a_linear_model_is_the_closed_form(estimator):
    X, y = regression()
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.5), standardize=False)
    training, state, data = training_of(model, X, y, density=0.6, estimator=estimator)
    mean, sd = (np.asarray(training.layout.matrices(state.index, v)["layer0.weight"])[0] for v in moments_of(state))
    active, width = sd > 0, X.shape[1]
    prior = math.sqrt(1 / training.layout.density("layer0.weight"))
    fit, spread = X @ mean / math.sqrt(width), X**2 @ sd**2 / width
    likelihood = stats.norm.logpdf(y, fit, 0.5).sum() - (spread / (2 * 0.25)).sum()
    kl = (np.log(prior / sd[active]) + (sd[active] ** 2 + mean[active] ** 2) / (2 * prior**2) - 0.5).sum()
    kl -= stats.norm.logpdf(0.0)  # of the bias, a point

    @jax.jit
    def terms(key):
        return jnp.stack(training.objective.terms(state.params, state.index, None, key, data)[0])

    found = np.asarray(jax.lax.map(terms, jax.random.split(jax.random.key(1), 2000)), np.float64)
    error = found.std(0) / np.sqrt(len(found))
    assert abs(found[:, 0].mean() - likelihood) < 4 * error[0]
    np.testing.assert_allclose(found[:, 1], kl, rtol=1e-4)


def test_estimators_agree_where_weights_are_shared_by_places():
    """A convolution uses its weights at all places of a row, so that noise of its own for each place would be another q."""
    X, y = images(12)
    model = bdl.BNN(network=bdl.ConvNet(image=(8, 8), channels=(4, 4)), likelihood=bdl.Categorical(), standardize=False)
    found = {}
    for estimator in ("local", "flipout", "weights"):
        training, state, data = training_of(model, X, y, density=0.5, estimator=estimator, initial_scale=0.5)

        @jax.jit
        def likelihoods(key, training=training, state=state, data=data):
            def one(key):
                return training.objective.terms(state.params, state.index, None, key, data)[0].likelihood

            return jax.lax.map(one, jax.random.split(key, 4000))

        found[estimator] = np.asarray(likelihoods(jax.random.key(1)), np.float64)
    for estimator in ("local", "flipout"):
        one, other = found[estimator], found["weights"]
        assert abs(one.mean() - other.mean()) < 4 * math.hypot(one.std(), other.std()) / math.sqrt(4000)


def test_priors_are_wider_by_the_share_of_inputs():
    X, y = regression(columns=20)
    model = bdl.BNN(hidden=(20, 20), standardize=False)
    units, *_ = training_of(model, X, y, structure="neurons", density=0.4)
    counts = [units.layout.patterns[f"layer{i}.weight"].count for i in range(2)]
    live = {"layer0.weight": 1.0, "layer1.weight": counts[0] / 20, "layer2.weight": counts[1] / 20}
    assert units.layout.shares == pytest.approx(live)
    single, state, _ = training_of(model, X, y, density=0.4)
    spread = state.params["weights"]["layer1.weight"]["mean"]
    count, share = spread.size, single.layout.shares["layer1.weight"]
    assert share == single.layout.patterns["layer1.weight"].density
    assert abs(float((spread**2).mean()) * share - 1) < 4 * math.sqrt(2 / count)  # drawn from the prior of active weights


def test_minibatches_are_unbiased():
    X, y = regression(200)
    training, state, data = training_of(bdl.BNN(hidden=(10,)), X, y)

    @jax.jit
    def likelihood(key, rows):
        return training.objective.terms(state.params, state.index, rows, key, data)[0].likelihood

    keys = jax.random.split(jax.random.key(0), 1000)
    rows = jax.vmap(lambda key: training.rows(key, 16))(keys)
    batches = np.asarray(jax.lax.map(lambda z: likelihood(*z), (keys, rows)), np.float64)
    whole = np.asarray(jax.lax.map(lambda key: likelihood(key, None), keys), np.float64)
    error = math.hypot(batches.std(), whole.std()) / math.sqrt(1000)
    assert abs(batches.mean() - whole.mean()) < 4 * error


def test_the_exact_posterior_of_a_linear_model_is_found():
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.normal(size=(40, 4)) - 0.0)[0] * np.sqrt(40)  # orthogonal: the posterior is mean-field
    y = X @ np.array([1.0, -0.5, 0.0, 0.3]) + 0.5 * rng.normal(size=40)
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.5), scaling="standard", standardize=False)
    engine = SSVI(density=1.0, steps=4000, biases="normal", learning_rate=0.02)
    post = bdl.fit(model, X, y, engine=engine, progress=False)
    design = np.column_stack([X, np.ones(40)])
    covariance = np.linalg.inv(np.eye(5) + design.T @ design / 0.25)
    exact = covariance @ design.T @ y / 0.25
    mean = np.r_[post.raw.params["layer0.weight/mean"].ravel(), post.raw.params["layer0.bias/loc"]]
    sd = np.r_[post.raw.params["layer0.weight/scale"].ravel(), post.raw.params["layer0.bias/scale"]]
    precision = np.linalg.inv(covariance)
    best_sd = 1 / np.sqrt(np.diag(precision))  # of the best independent normals
    kl = (np.log(best_sd / sd) + sd**2 / (2 * best_sd**2) - 0.5).sum() + (mean - exact) @ precision @ (mean - exact) / 2
    assert kl < 0.02
    evidence = stats.multivariate_normal(np.zeros(40), 0.25 * np.eye(40) + design @ design.T).logpdf(y)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    weights = np.asarray(post.raw.log_weights(jax.random.key(0), 2000), np.float64)
    assert abs(weights.mean() - (evidence - gap - kl)) < 4 * weights.std() / np.sqrt(2000)


@pytest.mark.parametrize("law", [dist.Laplace(0.0, 0.7), dist.StudentT(4.0, 0.0, 1.3), dist.Normal(0.0, 0.4)])
def test_kl_of_other_priors_is_right_in_the_mean(law):
    mean, sd, scale = 0.3, 0.2, 1.5

    def integrand(w):
        density = stats.norm.pdf(w, mean, sd)
        return density * (stats.norm.logpdf(w, mean, sd) - float(law.log_prob(w / scale)) + math.log(scale))

    expected = integrate.quad(integrand, mean - 8 * sd, mean + 8 * sd, limit=200)[0]
    found = np.asarray(kl_of_entries(jnp.full(20_000, mean), jnp.full(20_000, sd), Prior(law, scale), jax.random.key(0)), float)
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found)) + 1e-4


@pytest.mark.parametrize(
    "prior",
    [
        bdl.priors.LayerHierarchical(),
        *(pytest.param(p, marks=pytest.mark.slow) for p in (bdl.priors.Hierarchical(), bdl.priors.Laplace())),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_priors_with_scales_of_their_own(prior):
    X, y = regression()
    post = bdl.fit(bdl.BNN(hidden=(10,), prior=prior), X, y, engine=SSVI(steps=300, density=0.5), progress=False)
    sites = post.sample(3)
    for latent, seen in post.problem.structure.weights.items():
        assert latent in sites
        if seen.endswith(".weight"):
            assert (sites[seen] != 0).mean() <= bdl.sparse.report(post).layers[seen]["density"] + 1e-6
    packed = {k: v[0] for k, v in post.latent_draws.items()}
    values = post.raw.unpacking(packed)
    net = post.model.net
    leaves = net.leaves(X.shape[1], 1)
    f = net.apply({leaf.name: values[leaf.name] for leaf in leaves}, post.problem.args[0], NUMPYRO)
    law = post.law(packed, jax.random.key(0), post.problem.args[0]).law
    np.testing.assert_allclose(law.mean, f[:, 0], rtol=2e-5, atol=2e-5)


# what is removed, and what is added


def test_snr_orders_weights_as_the_papers_criterion():
    rng = np.random.default_rng(0)
    r = np.exp(rng.uniform(np.log(0.1), np.log(1000), 1_000_000))
    sd = np.exp(rng.normal(size=r.size))
    mean = r * sd * rng.choice([-1, 1], r.size)
    first = mean * special.erf(mean / (sd * np.sqrt(2))) + sd * np.sqrt(2 / np.pi) * np.exp(-(r**2) / 2)
    with np.errstate(divide="ignore"):
        paper = first / np.sqrt(sd**2 + mean**2 - first**2)
    with jax.enable_x64(True):
        ours = np.asarray(score("snr", jnp.asarray(mean), jnp.asarray(sd), None, jax.random.key(0)))
        folded = np.asarray(score("mean_abs", jnp.asarray(mean), jnp.asarray(sd), None, jax.random.key(0)))
    order = np.argsort(ours)
    below = ours[order] < 5  # above, theirs loses all digits of E|t|^2 - (E|t|)^2 to rounding, in double precision too
    assert (np.diff(paper[order][below]) > -1e-9).all()
    np.testing.assert_allclose(folded, first, rtol=1e-10)
    lowest = set(order[:200_000].tolist())
    assert lowest == set(np.argsort(paper)[:200_000].tolist())


def test_evidence_gain_is_the_change_of_the_log_evidence():
    rng = np.random.default_rng(1)
    x, noise, prior = rng.normal(size=30), 0.7, 1.4
    y = 0.2 * x + noise * rng.normal(size=30)
    precision = 1 / prior**2 + x @ x / noise**2
    mean, sd = x @ y / noise**2 / precision, 1 / np.sqrt(precision)
    with_weight = stats.multivariate_normal(np.zeros(30), noise**2 * np.eye(30) + prior**2 * np.outer(x, x)).logpdf(y)
    without = stats.norm.logpdf(y, 0, noise).sum()
    assert float(evidence_gain(mean, sd, prior)) == pytest.approx(without - with_weight, rel=1e-5)


def mean_gradient(function, values, key):
    """Over the four minibatches of an exchange."""
    keys = jax.random.split(key, 4)
    return jax.jit(jax.grad(lambda v: jnp.mean(jnp.stack([function(v, key) for key in keys]))))(values)


@pytest.mark.parametrize("structure", [*STRUCTURES, "global"])
def test_what_grows_has_the_largest_gradients_by_autodiff(structure):
    X, y = regression()
    settings = {"allocation": "global"} if structure == "global" else {"structure": structure}
    training, state, data = training_of(
        bdl.BNN(hidden=(24, 20)), X, y, density=0.7 if structure == "block:4" else 0.5, **settings
    )
    layout, key = training.layout, jax.random.fold_in(named(training.key, "exchanges"), 7)
    gradients, priors = training.gradients(state, key, data)
    mean, sd = moments_of(state)

    class Shifted(SparseProduct):
        """With a dense matrix added to the means."""

        def columns(self, name, h, rows):
            return super().columns(name, h, rows) + shifts[name] @ h

    shifts = {}

    def likelihood(given, key):
        shifts.update(given)
        product = Shifted(layout, state.index, mean, sd, named(named(key, "draws"), "weights"), "local")
        values, _ = training.objective.drawn(state.params["normals"], named(named(key, "draws"), "sites"))
        rows = training.rows(key, 16)
        return training.sites.joint(state.params["points"] | values, product, rows, *data).likelihood / training.total

    zeros = {name: jnp.zeros(layout.flat_shape(name)) for name in layout.shapes}
    dense = mean_gradient(likelihood, zeros, key)
    exchanged = 0
    for store, pattern in layout.patterns.items():
        most = largest(pattern, 0.3)
        if not most:
            continue
        made = training.plan(store, most, state, gradients, priors, jnp.asarray(0.3), jax.random.key(0))
        added = 0
        if structure == "global":
            assert store in (GLOBAL, "layer2.weight")
            parts = [np.abs(dense[name]).ravel() * float(priors[name].sd) for name, _ in layout.members(store)]
            scores = np.concatenate(parts)[None]
        else:
            padded = np.zeros(pattern.padded)
            padded[: pattern.shape[0], : pattern.shape[1]] = np.abs(dense[store])
            (rows, columns), (a, b) = pattern.grid, pattern.tile
            scores = padded.reshape(rows, a, columns, b).sum((1, 3)).reshape(pattern.groups, pattern.candidates)
        np.put_along_axis(scores, np.asarray(state.index[store]), -1.0, axis=1)
        for group in range(pattern.groups):
            new = sorted(set(np.asarray(made.index)[group].tolist()) - set(np.asarray(state.index[store])[group].tolist()))
            added += len(new)
            best = np.argsort(-scores[group])[: len(new)]
            np.testing.assert_allclose(sorted(scores[group][new]), sorted(scores[group][best]), rtol=1e-4)
        assert added == np.asarray(made.fresh).sum()
        exchanged += added
    assert exchanged > 0


def test_new_weights_begin_at_the_initial_scale_and_the_optimiser_moves_along():
    X, y = regression()
    training, state, data = training_of(bdl.BNN(hidden=(20, 20)), X, y, initial_scale=0.037, density=0.4)
    step, exchange = jax.jit(training.step), jax.jit(training.exchange)
    for i in range(5):
        state, _ = step(i, state, data)
    after, share = exchange(state, 5, 0.3, data)
    assert 0.1 < float(share) < 0.35
    name = "layer1.weight"
    before_index, index = np.asarray(state.index[name])[0], np.asarray(after.index[name])[0]
    kept = np.isin(index, before_index)
    places = np.searchsorted(before_index, index[kept])
    moved = {"mean": after.params["weights"][name]["mean"], "raw": after.params["weights"][name]["raw"]}
    for part, value in moved.items():
        old = np.asarray(state.params["weights"][name][part])[0, :, 0, 0]
        np.testing.assert_array_equal(np.asarray(value)[0, kept, 0, 0], old[places])
    assert (np.asarray(moved["mean"])[0, ~kept] == 0).all()
    np.testing.assert_allclose(scale_of(np.asarray(moved["raw"])[0, ~kept]), 0.037, rtol=1e-5)
    for part in ("mu", "nu"):
        old, new = (getattr(s.optimizer[0], part)["weights"][name]["mean"] for s in (state, after))
        np.testing.assert_array_equal(np.asarray(new)[0, kept, 0, 0], np.asarray(old)[0, places, 0, 0])
        assert (np.asarray(new)[0, ~kept] == 0).all()
    assert kept.sum() < len(kept)


@pytest.mark.parametrize(
    "optimizer", [optax.chain(optax.clip(1.0), optax.lion(1e-3)), pytest.param(optax.sgd(1e-3), marks=pytest.mark.slow)]
)
def test_any_optimiser_works(optimizer):
    X, y = regression()
    post = bdl.fit(bdl.BNN(hidden=(10,)), X, y, engine=SSVI(steps=250, density=0.4, optimizer=optimizer), progress=False)
    assert np.isfinite(post.raw.losses).all()


def test_optimisers_whose_state_cannot_move_are_refused():
    X, y = regression()
    with pytest.raises(ProblemError, match="cannot move with them"):
        bdl.fit(bdl.BNN(hidden=(10,)), X, y, engine=SSVI(density=0.4, optimizer=optax.adafactor(1e-2)), progress=False)


def test_evidence_removes_only_where_it_gains():
    X, y = regression()
    training, state, data = training_of(bdl.BNN(hidden=(20,), standardize=False), X, y, removal="evidence", density=0.4)
    name = "layer0.weight"
    leaf = state.params["weights"][name]
    sure = jax.tree.map(jnp.zeros_like, leaf) | {
        "mean": 3 * jnp.ones_like(leaf["mean"]),
        "raw": -4 + jnp.zeros_like(leaf["raw"]),
    }
    weak = jnp.arange(leaf["mean"].size) < 5
    sure["mean"] = jnp.where(weak[None, :, None, None], 0.0, sure["mean"])
    state = state._replace(params=state.params | {"weights": state.params["weights"] | {name: sure}})
    after, _ = jax.jit(training.exchange)(state, 0, 0.9, data)
    gone = np.setdiff1d(np.asarray(state.index[name]), np.asarray(after.index[name]))
    assert set(gone.tolist()) <= set(np.asarray(state.index[name])[0, :5].tolist())
    assert len(gone) > 0


# fits


@functools.cache
def fitted(structure="unstructured"):
    X, y = regression(200)
    engine = SSVI(steps=600, density=0.4, structure=structure)
    return bdl.fit(bdl.BNN(hidden=(24, 24)), X, y, engine=engine, progress=False)


def test_fits_are_saved_and_loaded(tmp_path):
    post = fitted()
    again = bdl.load(post.save(tmp_path / "a.bdl"))
    np.testing.assert_array_equal(again.predict().mean, post.predict().mean)
    assert repr(bdl.sparse.report(again)) == repr(bdl.sparse.report(post))


def test_the_report_counts_what_is_there():
    post = fitted("fan_in")
    report = bdl.sparse.report(post)
    masks = bdl.sparse.masks(post)
    for name, mask in masks.items():
        assert mask.sum() == report.layers[name]["active"]
    assert report.active == sum(mask.sum() for mask in masks.values())
    assert report.density <= 0.4
    assert (masks["layer0.weight"].sum(1) == masks["layer0.weight"].sum(1)[0]).all()  # of every unit
    assert report.bytes_stored == sum(np.asarray(v).nbytes for v in post.raw.params.values())
    assert "exchanges" in repr(report)


def test_rebudget_keeps_the_best():
    post = fitted()
    small = bdl.sparse.rebudget(post, 0.2)
    report = bdl.sparse.report(small)
    assert report.density <= 0.2
    for name, mask in bdl.sparse.masks(small).items():
        assert not (mask & ~bdl.sparse.masks(post)[name]).any()
    snr = np.abs(post.raw.params["layer1.weight/mean"]) / post.raw.params["layer1.weight/scale"]
    kept = np.isin(post.raw.params["layer1.weight/index"], small.raw.params["layer1.weight/index"])
    assert snr[kept].min() >= snr[~kept].max()
    assert small.predict().mean.shape == (200,)
    assert small.raw.unpacking.layout.shares == post.raw.unpacking.layout.shares  # the model stays the same
    by_evidence = bdl.sparse.report(bdl.sparse.rebudget(post))
    assert by_evidence.active < bdl.sparse.report(post).active
    with pytest.raises(BudgetError, match="between 0 and"):
        bdl.sparse.rebudget(post, 0.5)


def test_rebudget_by_evidence_needs_normal_priors():
    X, y = regression()
    model = bdl.BNN(hidden=(), prior=bdl.priors.Laplace())
    post = bdl.fit(model, X, y, engine=SSVI(density=0.6, steps=50), progress=False)
    with pytest.raises(BudgetError, match="is Laplace, not normal"):
        bdl.sparse.rebudget(post)


def test_rebudget_by_evidence_needs_single_weights():
    with pytest.raises(BudgetError, match="give a density"):
        bdl.sparse.rebudget(fitted("fan_in"))


def test_the_guide_gives_numpyro_the_same_posterior():
    from numpyro.infer import Predictive

    post = fitted()
    drawn = Predictive(bdl.sparse.guide(post), num_samples=500)(jax.random.key(0), *post.problem.args)
    weights = np.asarray(drawn["layer1.weight"])
    mask = bdl.sparse.masks(post)["layer1.weight"]
    assert (weights[:, ~mask] == 0).all()
    mean = post.raw.unpacking.layout.matrices(
        post.raw.unpacking.index, {n: post.raw.params[f"{n}/mean"] for n in post.raw.unpacking.layout.patterns}
    )["layer1.weight"]
    z = (weights.mean(0) - mean)[mask] / (weights.std(0)[mask] / np.sqrt(500))
    assert np.abs(z).max() < 5
    sigma = np.log(np.asarray(drawn["sigma"]))
    assert abs(sigma.mean() - post.raw.params["sigma/loc"]) < 4 * sigma.std() / np.sqrt(500)


class Killed(Exception):
    pass


class KillAfter(Silent):
    def __init__(self, steps):
        self.left = steps

    def advance(self, steps, **facts):
        self.left -= steps
        if self.left <= 0:
            raise Killed


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    X, y = regression(200)
    call = functools.partial(bdl.fit, bdl.BNN(hidden=(12, 12)), X, y, engine=SSVI(steps=550, density=0.4, every=50))
    whole = call(progress=False)
    with pytest.raises(Killed):
        call(progress=KillAfter(300), checkpoint=tmp_path / "run", every=100)
    resumed = call(progress=False, checkpoint=tmp_path / "run", every=100)
    finished = call(progress=False, checkpoint=tmp_path / "run", every=100)
    for other in (resumed, finished):
        for name, value in whole.raw.arrays().items():
            np.testing.assert_array_equal(other.raw.arrays()[name], value)
        assert other.raw.info["exchanges"] == whole.raw.info["exchanges"]
    with pytest.raises(bdl.CheckpointError, match="optimizer from None to"):
        other = SSVI(steps=550, density=0.4, every=50, optimizer=optax.adam(1e-6))
        bdl.fit(bdl.BNN(hidden=(12, 12)), X, y, engine=other, checkpoint=tmp_path / "run", progress=False)
    with pytest.raises(bdl.CheckpointError, match="density"):
        bdl.fit(
            bdl.BNN(hidden=(12, 12)),
            X,
            y,
            engine=SSVI(steps=550, density=0.3, every=50),
            checkpoint=tmp_path / "run",
            progress=False,
        )


@pytest.mark.slow
def test_costs_of_a_large_network():
    """784-1024-1024-10 at 5 %, batches of 128, beside dense mean-field VI."""
    rng = np.random.default_rng(0)
    X, y = rng.random((256, 784), dtype=np.float32), rng.integers(0, 10, 256)
    model = bdl.BNN(hidden=(1024, 1024), activation="relu", likelihood=bdl.Categorical(), standardize=False)
    found = {}
    cases = {
        "dense": {"density": 1.0},
        "unstructured": {},
        "fan_in": {"structure": "fan_in"},
        "block:16": {"structure": "block:16"},
    }
    for name, settings in cases.items():
        given = {"density": 0.05, "batch_size": 128} | settings
        training, state, data = training_of(model, X, y, **given)
        run = saving.Run(training, None)
        run.compiled("step", training.step, 0, state, data)
        work = accounts.operations(training.layout, training.places(state, data), 100, 3, 0.3 if name != "dense" else 0.0)
        stored = accounts.bytes_of((state.params, state.index))
        found[name] = stored, stored + accounts.bytes_of(state.optimizer), run.temporary["step"], work
    dense = found.pop("dense")
    for name, (stored, persistent, temporary, work) in found.items():
        assert stored <= 1.6 * 0.05 * dense[0]
        assert persistent <= 1.25 * 0.05 * dense[1]
        assert temporary <= 1.5 * dense[2]
        ratio = (work["step"] + work["exchanges_per_step"]) / work["dense"]
        assert ratio <= 0.06 if name != "unstructured" else 0.99 < ratio < 1.02  # transient: honestly about 1


# files


def images(rows=120):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:rows] / 16, y[:rows]


@functools.cache
def convolutional():
    X, y = images()
    net = bdl.ConvNet(image=(8, 8), channels=(4,), residual=True)
    model = bdl.BNN(network=net, likelihood=bdl.Categorical(), standardize=False)
    return bdl.fit(model, X, y, engine=SSVI(steps=200, density=0.3), progress=False)


@pytest.mark.parametrize("kind", ["perceptron", "fan_in", "convolutional"])
def test_files_predict_the_same_by_numpy_and_torch(kind, tmp_path):
    import torch

    post = {"perceptron": fitted, "fan_in": functools.partial(fitted, "fan_in"), "convolutional": convolutional}[kind]()
    X = (regression(200)[0] if kind != "convolutional" else images()[0]).astype(np.float32)
    path = bdl.sparse.export(post, tmp_path / "net.sparse")
    network = portable.load(path)
    weights = network.draw(np.random.default_rng(0))
    matrices = {layer: network.matrix(layer, weights[layer]) for layer in network.layers}
    leaves = {leaf.name: leaf for leaf in post.model.net.leaves(X.shape[1], network.about["layers"][network.layers[-1]][0])}
    values = {n: (matrices[n] if n in matrices else post.raw.params[f"{n}/point"]).reshape(leaves[n].shape) for n in leaves}
    expected = post.model.net.apply(values, jnp.asarray(post.frame.columns.read(X), jnp.float32), NUMPYRO)
    np.testing.assert_allclose(network.outputs(X, weights), expected, rtol=1e-5, atol=1e-5)
    given = {name: torch.as_tensor(value) for name, value in weights.items()}
    np.testing.assert_allclose(bdl.sparse.to_torch(post)(torch.as_tensor(X), given), expected, rtol=1e-5, atol=1e-5)

    report = bdl.sparse.report(post)
    extras = sum(network.arrays[n].nbytes for n in network.arrays if not n.endswith(("/mean", "/sd", "/columns")))
    assert network.num_active == report.active
    assert path.stat().st_size <= 10 * report.active + extras + 4096
    half = bdl.sparse.export(post, tmp_path / "half.sparse", bfloat16=True)
    assert half.stat().st_size <= 6.5 * report.active + extras + 4096
    means = portable.load(half).arrays[f"{network.layers[0]}/mean"]
    np.testing.assert_allclose(means, network.arrays[f"{network.layers[0]}/mean"], rtol=2**-8)


def test_files_give_the_predictions_of_the_fit(tmp_path):
    post, X = fitted(), regression(200)[0]
    found = portable.load(bdl.sparse.export(post, tmp_path / "net.sparse")).predict(X, num_samples=2000)
    pred, draws = post.predict(X), post.raw.num_draws
    spread = np.sqrt(pred.epistemic)
    assert (np.abs(found["mean"] - pred.mean) < 5 * spread * np.sqrt(1 / draws + 1 / 2000)).all()
    np.testing.assert_allclose(found["std"], pred.std, rtol=0.3)


def test_files_are_read_without_jax(tmp_path):
    path = bdl.sparse.export(convolutional(), tmp_path / "net.sparse")
    np.save(tmp_path / "X.npy", images(5)[0])
    code = (
        "import sys, numpy as np\nfrom inference.vi.sparse.portable import load\n"
        f"found = load({str(path)!r}).predict(np.load({str(tmp_path / 'X.npy')!r}), num_samples=3)\n"
        "assert 'jax' not in sys.modules and 'safetensors' not in sys.modules\nprint(found['probabilities'].sum(1).tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(json.loads(out), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns[::-1], "not sorted"),
        (lambda columns: np.repeat(columns[:1], len(columns)), "not unique"),
        (lambda columns: columns + 60_000, "out of range"),
        (lambda columns: columns[:-1], "not the same"),
    ],
)
def test_files_with_a_wrong_index_are_refused(change, message, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = bdl.sparse.export(fitted(), tmp_path / "net.sparse")
    with safe_open(path, "numpy") as file:
        arrays, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    arrays["layer1.weight/columns"] = np.ascontiguousarray(change(arrays["layer1.weight/columns"]))
    facts = json.loads(about["about"])
    about = {"about": json.dumps(facts | {"sha256": portable.hash_of(arrays, facts)})}
    save_file(arrays, tmp_path / "bad.sparse", about)
    with pytest.raises(portable.FileError, match=message):
        portable.load(tmp_path / "bad.sparse")


def test_files_and_inputs_that_do_not_fit_are_refused(tmp_path):
    path = bdl.sparse.export(fitted(), tmp_path / "net.sparse")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(portable.FileError, match="do not match their hash"):
        portable.load(tmp_path / "flipped")
    with pytest.raises(portable.FileError, match=r"read it by bayesdl\.load"):
        portable.load(fitted().save(tmp_path / "a.bdl"))
    network, X = portable.load(path), regression(200)[0]
    for wrong in (X[0], X[:, 1:], X[:0], np.where(X > 1, np.nan, X), X.astype(str)[:, :1]):
        with pytest.raises(portable.InputError, match="X "):
            network.predict(wrong)
    with pytest.raises(portable.InputError, match="num_samples=0"):
        network.predict(X, num_samples=0)
    with pytest.raises(bdl.BundleError, match="Cannot write"):
        bdl.sparse.export(fitted(), tmp_path / "nowhere" / "net.sparse")


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(portable.FileError, match="not a sparse network"):
        portable.load(tmp_path / "x")


# bad input


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([[0, 1, 2], [3, 2, 4]], "not sorted"),
        ([[0, 1, 2], [3, 3, 4]], "not unique"),
        ([[0, 1, 2], [3, 4, 9]], "out of range: got 9, expected 0..6"),
        ([[0, 1], [3, 4]], "expected whole numbers of shape"),
    ],
)
def test_wrong_indices_are_refused(index, message):
    with pytest.raises(BudgetError, match=message):
        Pattern((2, 7), (1, 1), True, 3).check(np.array(index), "layer0.weight")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.01, "dense_output": True}, "leaves nothing but the dense layers"),
        ({"density": 0.02, "structure": "fan_in"}, "which leaves it empty: .* the least is"),
        ({"kernel": "blocks"}, "kernel='blocks' cannot multiply"),
    ],
)
def test_budgets_that_do_not_fit_are_refused(settings, message):
    X, y = regression()
    with pytest.raises(BudgetError, match=message):
        bdl.fit(bdl.BNN(hidden=(30, 30)), X, y, engine=SSVI(**settings), progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"density": 0.0},
        {"density": 1.5},
        {"structure": "block:0"},
        {"structure": "blocks"},
        {"removal": "smallest"},
        {"allocation": "global", "structure": "fan_in"},
        {"beta": 0.0},
        {"optimizer": 3},
        {"steps": 0},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SSVI(**settings)


def test_models_without_layers_are_refused():
    def program(x, y=None):
        import numpyro

        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(x)) as rows:
            numpyro.sample("y", dist.Normal(w * x[rows], 1.0), obs=None if y is None else y[rows])

    with pytest.raises(bdl.UnsupportedError, match="layers of a network"):
        bdl.fit(program, np.ones(5), y=np.ones(5), engine=SSVI(), progress=False)
    X, y = regression()
    with pytest.raises(bdl.UnsupportedError, match="other latent variables for each weight"):
        bdl.fit(bdl.BNN(prior=bdl.priors.Horseshoe()), X, y, engine=SSVI(), progress=False)
    with pytest.raises(bdl.UnsupportedError, match="needs normal priors"):
        bdl.fit(bdl.BNN(prior=bdl.priors.Laplace()), X, y, engine=SSVI(removal="evidence"), progress=False)


def test_padding_is_said():
    X, y = regression(columns=30)
    post = bdl.fit(bdl.BNN(hidden=(30, 30)), X, y, engine=SSVI(structure="block:8", density=0.6, steps=100), progress=False)
    notes = bdl.sparse.report(post).notes
    assert any("(30, 30), is padded to (32, 32)" in note for note in notes)
    assert all(mask.shape == (30, mask.shape[1]) or mask.shape[0] == 1 for mask in bdl.sparse.masks(post).values())


def test_functions_of_sparse_refuse_other_fits():
    post = fitted()
    post = dataclasses.replace(post, raw=dataclasses.replace(post.raw, unpacking=None))
    with pytest.raises(TypeError, match=r"fit by bdl\.SSVI"):
        bdl.sparse.report(post)


def test_the_loss_of_a_needed_weight_warns():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 12))
    X[:, 1] += 0.5 * X[:, 0]
    y = 2 * X[:, 0] - 1.5 * X[:, 1] + X[:, 2] + 0.7 * rng.normal(size=200)
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(0.7), standardize=False)
    settings = {"density": 0.25, "steps": 2000, "every": 50, "learning_rate": 0.05}
    with pytest.warns(UserWarning, match="needed may have been exchanged"):
        bdl.fit(model, X, y, engine=SSVI(**settings), progress=False)
    post = bdl.fit(model, X, y, engine=SSVI(**settings, removal="evidence"), progress=False)
    assert np.flatnonzero(bdl.sparse.masks(post)["layer0.weight"][0]).tolist() == [0, 1, 2]


def test_beta_is_shown():
    X, y = regression()
    post = bdl.fit(bdl.BNN(hidden=(10,)), X, y, engine=SSVI(steps=200, density=0.5, beta=0.1), progress=False)
    assert "beta=0.1" in repr(bdl.sparse.report(post))
    assert post.raw.info["objective"] == "tempered_elbo(beta=0.1)"  # which `diagnose` tells


# Equinox modules


def sequence_network():
    """An embedding of the first column, a convolution over the others, a normalisation and a linear layer."""
    import equinox as eqx

    class Net(eqx.Module):
        embedding: eqx.nn.Embedding
        convolution: eqx.nn.Conv1d
        norm: eqx.nn.LayerNorm
        linear: eqx.nn.Linear

        def __call__(self, x):
            h = jax.nn.relu(self.convolution(x[None, 1:])).reshape(-1)
            return self.linear(self.norm(jnp.concatenate([self.embedding(x[0].astype(int)), h])))

    keys = jax.random.split(jax.random.key(0), 3)
    convolution = eqx.nn.Conv1d(1, 4, 3, stride=2, padding=1, key=keys[1])
    return Net(eqx.nn.Embedding(5, 6, key=keys[0]), convolution, eqx.nn.LayerNorm(22), eqx.nn.Linear(22, 1, key=keys[2]))


def sequences():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 5, 80), rng.normal(size=(80, 8))]).astype(float)
    return X, np.array([0.0, 1, -1, 2, 0])[X[:, 0].astype(int)] + X[:, 1:4].mean(1) + 0.1 * rng.normal(size=80)


def module_model():
    prior = bdl.priors.Gaussian(fan_in=True)
    return bdl.BNN(network=sequence_network(), prior=prior, standardize=False)


class Same(AbstractProduct):
    """The product itself, through the layers that are known."""

    def __call__(self, name, h, weight):
        return h @ weight.T

    def lookup(self, name, number, weight):
        return weight[number]


@pytest.mark.parametrize("make", ["sequence", "image"])
def test_known_layers_of_a_module_compute_the_same(make):
    import equinox as eqx

    module, x = sequence_network(), jnp.asarray(sequences()[0][0], jnp.float32)
    if make == "image":
        keys = jax.random.split(jax.random.key(1), 2)
        layers = [eqx.nn.Conv2d(2, 3, (3, 2), dilation=2, padding="SAME", key=keys[0]), eqx.nn.Lambda(jnp.ravel)]
        module = eqx.nn.Sequential([*layers, eqx.nn.Linear(3 * 5 * 6, "scalar", key=keys[1])])
        x = jax.random.normal(jax.random.key(2), (2, 5, 6))
    np.testing.assert_allclose(multiplying(module, Same())(x), module(x), rtol=1e-5, atol=1e-6)
    assert EquinoxNetwork(module).multiplies


def test_gradients_of_modules_are_those_of_autodiff():
    X, y = sequences()
    training, state, data = training_of(module_model(), X, y, density=0.6)
    mean, sd = moments_of(state)
    key = jax.random.key(5)
    gradients, _ = training.gradients(state, key, data)
    names = list(training.layout.shapes)
    assert names == ["embedding.weight", "convolution.weight", "linear.weight"]

    def likelihood(values, key):
        whole = {
            n: p if p.is_dense else dataclasses.replace(p, count=p.candidates) for n, p in training.layout.patterns.items()
        }
        layout = Layout(training.layout.shapes, whole, training.layout.kernels)
        index = {n: jnp.arange(p.candidates, dtype=jnp.int32)[None] for n, p in whole.items()}
        product = SparseProduct(layout, index, values, sds, named(named(key, "draws"), "weights"), "local")
        others, _ = training.objective.drawn(state.params["normals"], named(named(key, "draws"), "sites"))
        rows = training.rows(key, 16)
        return training.sites.joint(state.params["points"] | others, product, rows, *data).likelihood / training.total

    def complete(values):
        matrices = training.layout.matrices(state.index, values)
        return {n: m.reshape(1, -1, *training.layout.patterns[n].tile) for n, m in matrices.items()}

    sds = complete(sd)
    dense = mean_gradient(likelihood, complete(mean), key)
    for name in names:
        found = np.asarray(gradients[name].outputs @ gradients[name].inputs.T).ravel()
        np.testing.assert_allclose(found, np.asarray(dense[name]).ravel(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("estimator", ["local", pytest.param("flipout", marks=pytest.mark.slow)])
def test_modules_are_fitted(estimator):
    X, y = sequences()
    engine = SSVI(density=0.5, steps=1500, estimator=estimator)
    post = bdl.fit(module_model(), X, y, engine=engine, progress=False)
    assert bdl.sparse.report(post).density <= 0.5
    assert np.corrcoef(post.predict(X).mean, y)[0, 1] > 0.9


def test_layers_that_cannot_be_followed_are_refused():
    import equinox as eqx

    class Twice(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return self.layer(self.layer(x))[:1]

    class Mapped(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return jax.vmap(self.layer)(x[:, None]).sum()[None]

    (X, y), key = sequences(), jax.random.key(0)
    for module, reason in ((Twice(eqx.nn.Linear(9, 9, key=key)), "used twice"), (Mapped(eqx.nn.Linear(1, 4, key=key)), "vmap")):
        with pytest.raises(bdl.UnsupportedError, match=reason):
            bdl.fit(bdl.BNN(network=module), X, y, engine=SSVI(), progress=False)


def test_modules_with_other_layers_are_refused():
    import equinox as eqx

    X, y = sequences()
    module = eqx.nn.GRUCell(9, 3, key=jax.random.key(0))

    class Net(eqx.Module):
        cell: eqx.nn.GRUCell

        def __call__(self, x):
            return self.cell(x, jnp.zeros(3))[:1]

    with pytest.raises(bdl.UnsupportedError, match="where it multiplies by weights"):
        bdl.fit(bdl.BNN(network=Net(module)), X, y, engine=SSVI(), progress=False)
