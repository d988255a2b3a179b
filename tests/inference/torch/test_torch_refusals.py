"""Fits by torch: saved, shown and refused."""

import jax
import numpy as np
import pytest
from torch_toys import torch, wave

import bayesdl as bdl
from bayesdl import priors
from bayesdl.gp import kernels
from bayesdl.model.program import as_model
from inference.core.progress import AbstractProgress
from inference.torch import gpytorch_gp, install

pytest.importorskip("pyro")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


FITS = {
    "exact": (bdl.GP(kernels.RBF() + kernels.Linear(1.0)), bdl.GPyTorchGP(num_restarts=1)),
    "svgp": (
        bdl.GP(kernels.Matern52(ard=True)),
        bdl.GPyTorchGP("svgp", num_inducing=10, num_steps=30, batch_size=8),
    ),
    "pyro": (bdl.BNN(hidden=(), prior=priors.Horseshoe()), bdl.PyroNUTS(10, 10, 2)),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.quick_cases(1)
def test_bundles_predict_the_same_numbers(name, tmp_path):
    model, engine = FITS[name]
    X, y = wave(25)
    state = torch.get_rng_state()
    post, again = (bdl.fit(model, X, y, engine=engine, progress=False, seed=5) for _ in range(2))
    back = bdl.load(post.save(tmp_path / "fit.bdl"))
    X_new = np.linspace(-2, 2, 9)[:, None]
    for other in (back, again):
        np.testing.assert_array_equal(post.predict(X_new).mean, other.predict(X_new).mean)
        np.testing.assert_array_equal(post.predict(X_new).std, other.predict(X_new).std)
    np.testing.assert_array_equal(
        post.predict(X_new).log_prob(X_new[:, 0]), back.predict(X_new).log_prob(X_new[:, 0])
    )
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
def test_progress_adds_up():
    class Counter(AbstractProgress):
        def start(self, total, label):
            self.total, self.done = total, 0

        def advance(self, steps, **facts):
            self.done += steps

        def note(self, message):
            pass

        def close(self):
            pass

    X, y = wave(10)
    for engine, model in (
        (bdl.PyroNUTS(7, 16, 2), bdl.BNN(hidden=())),
        (bdl.GPyTorchGP("svgp", num_steps=73), bdl.GP()),
    ):
        counter = Counter()
        engine.infer(
            model.problem(model.learn_schema(X, y), X, y), key=jax.random.key(0), progress=counter
        )
        assert counter.done == counter.total


def reason(model, engine):
    X, y = wave(10)
    spec = as_model(model)
    return engine.supports(spec.problem(spec.learn_schema(X, y), X, y))


def test_engines_refuse_what_they_cannot_run(monkeypatch):
    import equinox as eqx
    import tinygp

    network = eqx.nn.MLP(1, 1, 4, 1, key=jax.random.key(0))
    assert "bdl.GP" in reason(bdl.BNN(), bdl.GPyTorchGP())
    assert "TinyGP cannot be written in GPyTorch" in reason(
        bdl.GP(tinygp.kernels.Matern52()), bdl.GPyTorchGP()
    )
    assert "bdl.BNN" in reason(bdl.GP(), bdl.PyroNUTS())
    assert "without network=" in reason(bdl.BNN(network=network), bdl.PyroNUTS())
    monkeypatch.setattr(gpytorch_gp, "MAX_ROWS", 5)
    assert "method='svgp'" in reason(bdl.GP(), bdl.GPyTorchGP())
    assert reason(bdl.GP(), bdl.GPyTorchGP("svgp")) is None


def test_missing_torch_says_what_to_install(monkeypatch):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    for model, engine in ((bdl.GP(), bdl.GPyTorchGP()), (bdl.BNN(), bdl.PyroNUTS())):
        assert 'pip install "bayesdl[torch]"' in reason(model, engine)
    monkeypatch.undo()
    with pytest.raises(ImportError, match=r"no_such_module cannot be imported .*bayesdl\[torch\]"):
        install.load("no_such_module")


@pytest.mark.parametrize(
    "make",
    [
        lambda: bdl.GPyTorchGP("sparse"),
        lambda: bdl.GPyTorchGP(num_steps=0),
        lambda: bdl.GPyTorchGP(num_inducing=True),
        lambda: bdl.GPyTorchGP(num_restarts=True),
        lambda: bdl.GPyTorchGP(learning_rate=-1.0),
        lambda: bdl.PyroNUTS(num_samples=0),
        lambda: bdl.PyroNUTS(num_chains=True),
        lambda: bdl.PyroNUTS(target_accept=1.0),
        lambda: bdl.PyroNUTS(max_tree_depth=0),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
