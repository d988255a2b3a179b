"""Last layers against laplace-torch.

`laplace_torch.npz` holds posteriors of laplace-torch 0.3 for two trained networks.
`make_laplace_torch.py` beside it wrote them, in an environment of its own.
"""

import dataclasses
import pathlib

import numpy as np
import pytest

import bayesdl as bdl

GOLDEN = pathlib.Path(__file__).with_name("laplace_torch.npz")
DRAWS = 100_000


def predicted(kind, likelihood):
    """Return what laplace-torch says, and the prediction of many draws of the same network."""
    torch = pytest.importorskip("torch")
    golden = np.load(GOLDEN)
    weights = {
        name.removeprefix(f"{kind}/net/"): torch.tensor(golden[name])
        for name in golden
        if name.startswith(f"{kind}/net/")
    }
    hidden, outputs = weights["0.weight"].shape[0], len(weights["2.bias"])
    net = torch.nn.Sequential(
        torch.nn.Linear(2, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, outputs)
    )
    net = net.double()
    net.load_state_dict(weights)
    model = bdl.LastLayer(net.eval(), likelihood, scale=float(golden["scale"]))
    post = bdl.fit(
        model, golden["X"], golden[f"{kind}/y"], engine=bdl.Laplace(), progress=False, seed=0
    )
    post = dataclasses.replace(post, raw=dataclasses.replace(post.raw, num_draws=DRAWS))
    return golden, post.predict(golden["new"])


def test_probabilities_are_those_of_laplace_torch():
    golden, found = predicted("classification", bdl.Categorical())
    np.testing.assert_allclose(found.probs, golden["classification/probs"], rtol=0, atol=1e-3)


def test_means_and_doubts_are_those_of_laplace_torch():
    sigma = float(np.load(GOLDEN)["sigma"])
    golden, found = predicted("regression", bdl.Normal(scale=sigma))
    size = np.sqrt(golden["regression/variance"][:, 0, 0])
    error = np.abs(found.mean - golden["regression/mean"][:, 0])
    np.testing.assert_array_less(error, 5 * size / DRAWS**0.5)
    np.testing.assert_allclose(found.epistemic, size, rtol=5 / np.sqrt(2 * DRAWS))
    np.testing.assert_allclose(found.aleatoric, sigma, rtol=1e-4)
