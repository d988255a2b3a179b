"""The average of several models: weights, predictions, files, and what it refuses."""

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_iris, load_wine

import bayesdl as bdl
from bayesdl.average.members import LINEAR_LOGITS

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 2))
Y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.2 * rng.normal(size=30)
NEW = rng.normal(size=(5, 2))


@pytest.fixture(scope="module")
def post():
    return bdl.fit(bdl.Table(hidden=(4,)), X, Y, progress=False)


def weighted(post, **weights):
    """Return the same fit with other weights."""
    return dataclasses.replace(post, raw=dataclasses.replace(post.raw, weights=weights))


@pytest.mark.slow
def test_an_average_is_one_of_its_members(post):
    weights, targets, found = post.raw.weights, Y[:5], post.predict(NEW)
    assert sum(weights.values()) == pytest.approx(1) and set(weights) == {"process", "network"}
    assert f"network {weights['network']:.2f}" in repr(post)
    alone = [
        weighted(post, process=1.0, network=0.0).predict(NEW),
        weighted(post, process=0.0, network=1.0).predict(NEW),
    ]
    half = weighted(post, process=0.5, network=0.5).predict(NEW)
    logs = [p.log_prob(targets) + np.log(0.5) for p in alone]
    np.testing.assert_allclose(half.log_prob(targets), logsumexp(logs, axis=0), rtol=1e-6)
    np.testing.assert_allclose(half.mean, (alone[0].mean + alone[1].mean) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.std**2, found.aleatoric**2 + found.epistemic**2, rtol=1e-6)
    low, high = half.interval(0.9)
    np.testing.assert_allclose(half.cdf(high) - half.cdf(low), 0.9, atol=1e-6)
    assert half.sample(3).shape == (3, 5)
    values = {name: float(v) for name, v in post.raw.results[0].params.items() if np.ndim(v) == 0}
    scale = post.schema.target.scale[0]
    kernel = bdl.kernels.Linear(variance=values["kernel.0.variance"]) + bdl.kernels.RBF(
        variance=values["kernel.1.variance"],
        lengthscale=tuple(post.raw.results[0].params["kernel.1.lengthscale"].tolist()),
        ard=True,
    )
    fixed = bdl.GP(kernel=kernel, likelihood=bdl.Normal(scale=values["sigma"] * scale))
    one = bdl.fit(fixed, X, Y, engine=bdl.ExactGP(), progress=False).predict(NEW)
    np.testing.assert_allclose(alone[0].mean, one.mean, rtol=1e-5)
    np.testing.assert_allclose(alone[0].std, one.std, rtol=1e-5)


@pytest.mark.slow
def test_it_says_its_weights_and_is_saved(post, tmp_path):
    weights = post.raw.weights
    assert post.summary().index.tolist() == [f"weight of {name}" for name in weights]
    assert any("average, weighted by densities" in line for line in post.diagnose().verdict)
    loaded = bdl.load(post.save(tmp_path / "table.bdl"))
    np.testing.assert_array_equal(loaded.predict(NEW).mean, post.predict(NEW).mean)
    assert loaded.raw.weights == weights
    with pytest.raises(bdl.UnsupportedError, match=r"Engines that can: Stacking\."):
        post.refit(bdl.Laplace())


@pytest.mark.slow
def test_classes_have_a_linear_model_and_a_network():
    labels = np.where(X[:, 0] + 0.3 * rng.normal(size=30) > 0, "up", "down")
    post = bdl.fit(bdl.Table(bdl.Bernoulli(), hidden=(4,)), X, labels, progress=False)
    found = post.predict(NEW)
    assert set(post.raw.weights) == {"linear", "network"}
    np.testing.assert_allclose(found.probs.sum(1), 1, rtol=1e-6)
    assert np.all(found.epistemic >= 0) and np.all(found.aleatoric > 0)
    shares = np.exp(found.log_prob(["up"] * 5))
    np.testing.assert_allclose(shares, found.probs[:, 1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("read", [load_iris, load_wine])
def test_the_linear_member_of_classes_has_weights_of_the_right_size(read):
    """Rows that are left out are more probable than with the scale of networks."""
    inputs, labels = read(return_X_y=True)

    def left_out(scale):
        prior = bdl.priors.Gaussian(scale)
        model = bdl.BNN(hidden=(), likelihood=bdl.Categorical(), prior=prior)
        post = bdl.fit(model, inputs, labels, engine=bdl.Laplace(), progress=False)
        return np.mean(post.engine.left_out(post.problem, post.raw))

    assert left_out(LINEAR_LOGITS) > left_out(3.0) + 0.02


def test_what_it_cannot_average():
    with pytest.raises(bdl.DataError, match="Table takes one target column, y has 2"):
        bdl.fit(bdl.Table(), X, np.c_[Y, Y], progress=False)
    with pytest.raises(ValueError, match="expected a likelihood"):
        bdl.Table(likelihood="normal")
    with pytest.raises(bdl.ModelError, match="give weights as counts"):
        bdl.fit(bdl.Table(), X, Y, weights=np.linspace(0.5, 1.5, 30), progress=False)


def test_rows_of_large_tables_are_held_out():
    many = rng.normal(size=(3100, 2))
    model = bdl.Table(hidden=(4,))
    schema = model.learn_schema(many, many[:, 0])
    structure = model.problem(schema, many, many[:, 0]).structure
    held = structure.held_out[1]
    assert len(held) == 310
    rows = [len(member.problem.args[1]) for member in structure.members]
    assert rows == [2000, 2790]
    for member in structure.members:
        assert not np.isin(member.problem.args[1], held).any()
