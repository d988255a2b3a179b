"""Exported sparse networks: files by NumPy and torch."""

import functools
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from sparse_toys import fitted, images, regression

import bayesdl as bdl
from bayesdl.model.language import NUMPYRO
from inference.sparse.engine import SSVI
from inference.sparse.products import portable


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
        for leaf in post.model.net.weight_arrays(
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


@pytest.mark.slow
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
@pytest.mark.quick_cases(1)
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
