"""Sparse subspace VI: exported files by NumPy and torch, bad input, Equinox modules."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from sparse_toys import fitted, images, make_training, mean_gradient, moments_of, regression

import bayesdl as bdl
from bayesdl.bnn.equinox_network import EquinoxNetwork, with_product
from bayesdl.model.language import NUMPYRO
from inference.core.keys import named_key
from inference.core.structure import AbstractProduct
from inference.sparse.engine import SSVI
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products import portable
from inference.sparse.products.sparse_product import SparseProduct

# files


@functools.cache
def convolutional():
    X, y = images()
    net = bdl.ConvNet(image=(8, 8), channels=(4,), residual=True)
    model = bdl.BNN(network=net, likelihood=bdl.Categorical(), standardize=False)
    return bdl.fit(model, X, y, engine=SSVI(steps=200, density=0.3), progress=False)


@pytest.mark.parametrize("kind", ["perceptron", "fan_in", "convolutional"])
@pytest.mark.slow
def test_files_predict_the_same_by_numpy_and_torch(kind, tmp_path):
    import torch

    post = {
        "perceptron": fitted,
        "fan_in": functools.partial(fitted, "fan_in"),
        "convolutional": convolutional,
    }[kind]()
    X = (regression(200)[0] if kind != "convolutional" else images()[0]).astype(np.float32)
    path = bdl.sparse.export(post, tmp_path / "net.sparse")
    network = portable.load(path)
    weights = network.draw(np.random.default_rng(0))
    matrices = {layer: network.matrix(layer, weights[layer]) for layer in network.layers}
    leaves = {
        leaf.name: leaf
        for leaf in post.model.net.leaves(
            X.shape[1], network.about["layers"][network.layers[-1]][0]
        )
    }
    values = {
        n: (matrices[n] if n in matrices else post.raw.params[f"{n}/point"]).reshape(
            leaves[n].shape
        )
        for n in leaves
    }
    expected = post.model.net.apply(
        values, jnp.asarray(post.schema.columns.read(X), jnp.float32), NUMPYRO
    )
    np.testing.assert_allclose(network.outputs(X, weights), expected, rtol=1e-5, atol=1e-5)
    given = {name: torch.as_tensor(value) for name, value in weights.items()}
    np.testing.assert_allclose(
        bdl.sparse.to_torch(post)(torch.as_tensor(X), given), expected, rtol=1e-5, atol=1e-5
    )

    report = bdl.sparse.report(post)
    extras = sum(
        network.arrays[n].nbytes
        for n in network.arrays
        if not n.endswith(("/mean", "/sd", "/columns"))
    )
    assert network.num_active == report.active
    assert path.stat().st_size <= 10 * report.active + extras + 4096
    half = bdl.sparse.export(post, tmp_path / "half.sparse", bfloat16=True)
    assert half.stat().st_size <= 6.5 * report.active + extras + 4096
    means = portable.load(half).arrays[f"{network.layers[0]}/mean"]
    np.testing.assert_allclose(means, network.arrays[f"{network.layers[0]}/mean"], rtol=2**-8)


@pytest.mark.slow
def test_files_give_the_predictions_of_the_fit(tmp_path):
    post, X = fitted(), regression(200)[0]
    found = portable.load(bdl.sparse.export(post, tmp_path / "net.sparse")).predict(
        X, num_samples=2000
    )
    pred, draws = post.predict(X), post.raw.num_draws
    spread = np.sqrt(pred.epistemic)
    assert (np.abs(found["mean"] - pred.mean) < 5 * spread * np.sqrt(1 / draws + 1 / 2000)).all()
    np.testing.assert_allclose(found["std"], pred.std, rtol=0.3)


def test_files_are_read_without_jax(tmp_path):
    path = bdl.sparse.export(convolutional(), tmp_path / "net.sparse")
    np.save(tmp_path / "X.npy", images(5)[0])
    code = (
        "import sys, numpy as np\nfrom inference.sparse.products.portable import load\n"
        f"X = np.load({str(tmp_path / 'X.npy')!r})\n"
        f"found = load({str(path)!r}).predict(X, num_samples=3)\n"
        "assert 'jax' not in sys.modules and 'safetensors' not in sys.modules\n"
        "print(found['probabilities'].sum(1).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    np.testing.assert_allclose(json.loads(out), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns[[1, 0, *range(2, len(columns))]], "not sorted"),
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
    about = {"about": json.dumps(facts | {"sha256": portable.content_hash(arrays, facts)})}
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
        Pattern((2, 7), (1, 1), True, 3).check_index(np.array(index), "layer0.weight")


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
        bdl.fit(
            bdl.BNN(prior=bdl.priors.Laplace()),
            X,
            y,
            engine=SSVI(removal="evidence"),
            progress=False,
        )


@pytest.mark.slow
def test_padding_is_said():
    X, y = regression(columns=30)
    post = bdl.fit(
        bdl.BNN(hidden=(30, 30)),
        X,
        y,
        engine=SSVI(structure="block:8", density=0.6, steps=100),
        progress=False,
    )
    notes = bdl.sparse.report(post).notes
    assert any("(30, 30), is padded to (32, 32)" in note for note in notes)
    assert all(
        mask.shape == (30, mask.shape[1]) or mask.shape[0] == 1
        for mask in bdl.sparse.masks(post).values()
    )


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


@pytest.mark.slow
def test_beta_is_shown():
    X, y = regression()
    post = bdl.fit(
        bdl.BNN(hidden=(10,)), X, y, engine=SSVI(steps=200, density=0.5, beta=0.1), progress=False
    )
    assert "beta=0.1" in repr(bdl.sparse.report(post))
    assert post.raw.info["objective"] == "tempered_elbo(beta=0.1)"  # which `diagnose` tells


# Equinox modules


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
