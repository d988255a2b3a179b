"""Sparse subspace VI of Equinox modules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sparse_toys import make_training, mean_gradient, moments_of

import bayesdl as bdl
from bayesdl.bnn.equinox_network import EquinoxNetwork, with_product
from inference.core.keys import named_key
from inference.core.structure import AbstractProduct
from inference.sparse.engine import SSVI
from inference.sparse.patterns.layout import Layout
from inference.sparse.products.sparse_product import SparseProduct


def sequence_network():
    """Embed the first column, convolve the others, normalise, and end with a linear layer."""
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
    return Net(
        eqx.nn.Embedding(5, 6, key=keys[0]),
        convolution,
        eqx.nn.LayerNorm(22),
        eqx.nn.Linear(22, 1, key=keys[2]),
    )


def sequences():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 5, 80), rng.normal(size=(80, 8))]).astype(float)
    return X, np.array([0.0, 1, -1, 2, 0])[X[:, 0].astype(int)] + X[:, 1:4].mean(
        1
    ) + 0.1 * rng.normal(size=80)


def module_model():
    prior = bdl.priors.Gaussian(fan_in=True)
    return bdl.BNN(network=sequence_network(), prior=prior, standardize=False)


class Same(AbstractProduct):
    """The plain product, through the layers that are known."""

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
        layers = [
            eqx.nn.Conv2d(2, 3, (3, 2), dilation=2, padding="SAME", key=keys[0]),
            eqx.nn.Lambda(jnp.ravel),
        ]
        module = eqx.nn.Sequential([*layers, eqx.nn.Linear(3 * 5 * 6, "scalar", key=keys[1])])
        x = jax.random.normal(jax.random.key(2), (2, 5, 6))
    np.testing.assert_allclose(with_product(module, Same())(x), module(x), rtol=1e-5, atol=1e-6)
    assert EquinoxNetwork(module).multiplies


@pytest.mark.slow
def test_gradients_of_modules_are_those_of_autodiff():
    X, y = sequences()
    training, state, data = make_training(module_model(), X, y, density=0.6)
    mean, sd = moments_of(state)
    key = jax.random.key(5)
    gradients, _ = training.gradient_factors(state, key, data)
    names = list(training.layout.shapes)
    assert names == ["embedding.weight", "convolution.weight", "linear.weight"]

    def likelihood(values, key):
        whole = {
            n: p if p.is_dense else dataclasses.replace(p, count=p.candidates)
            for n, p in training.layout.patterns.items()
        }
        layout = Layout(
            training.layout.shapes, whole, training.layout.kernels, training.layout.shares
        )
        index = {n: jnp.arange(p.candidates, dtype=jnp.int32)[None] for n, p in whole.items()}
        product = SparseProduct(
            layout, index, values, sds, named_key(named_key(key, "draws"), "weights"), "local"
        )
        others, _ = training.objective.draw_sites(
            state.params["normals"], named_key(named_key(key, "draws"), "sites")
        )
        rows = training.draw_rows(key, 16)
        return (
            training.sites.joint(state.params["points"] | others, product, rows, *data).likelihood
            / training.total
        )

    def complete(values):
        matrices = training.layout.matrices(state.index, values)
        return {n: m.reshape(1, -1, *training.layout.patterns[n].tile) for n, m in matrices.items()}

    sds = complete(sd)
    dense = mean_gradient(likelihood, complete(mean), key)
    for name in names:
        found = np.asarray(gradients[name].outputs @ gradients[name].inputs.T).ravel()
        np.testing.assert_allclose(found, np.asarray(dense[name]).ravel(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["local", "flipout"])
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
    for module, reason in (
        (Twice(eqx.nn.Linear(9, 9, key=key)), "used twice"),
        (Mapped(eqx.nn.Linear(1, 4, key=key)), "vmap"),
    ):
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
