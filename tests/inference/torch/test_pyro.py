"""NUTS by Pyro: posteriors are NumPyro's."""

import jax
import numpy as np
import pytest
from arviz_stats.base import array_stats
from torch_toys import torch, wave

import bayesdl as bdl
from bayesdl import priors
from inference.core.problem import ProblemError
from inference.torch import install

pytest.importorskip("pyro")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_means(model, X, y, ours, theirs):
    """Means of f at the training rows agree within 4 Monte Carlo standard errors of both runs."""
    posts = [bdl.fit(model, X, y, engine=engine, progress=False) for engine in (ours, theirs)]
    means, errors = [], []
    for post in posts:
        values = post.function_values().astype(float)
        means.append(values.mean((0, 1)))
        errors.append(array_stats.mcse(values, chain_axis=0, draw_axis=1))
    assert np.all(np.abs(means[0] - means[1]) < 4 * np.hypot(*errors))
    assert (
        np.median(np.hypot(*errors)) < 0.1
    )  # in units of the standardised target: otherwise the check says nothing
    assert not posts[1].raw.stats["diverging"].sum() > 5
    return posts


@pytest.mark.slow
def test_linear_posterior_is_numpyros():
    model = bdl.BNN(hidden=(), prior=priors.Hierarchical())
    posts = assert_same_means(model, *wave(15), bdl.NUTS(500, 1000, 2), bdl.PyroNUTS(150, 200, 2))
    assert posts[0].samples.keys() == posts[1].samples.keys()  # deterministic sites too
    for name, value in posts[1].samples.items():
        assert value.shape[2:] == posts[0].samples[name].shape[2:]
        assert value.dtype == np.float32


@pytest.mark.slow
def test_network_posterior_is_numpyros():
    model = bdl.BNN(hidden=(2,), likelihood=bdl.Normal(0.5))
    assert_same_means(model, *wave(12), bdl.NUTS(500, 2000, 2), bdl.PyroNUTS(150, 200, 2))


def test_pyro_leaves_no_trace_and_repeats_itself():
    pyro = install.load("pyro")
    X, y = wave(8)
    pyro.get_param_store().clear()
    pyro.param("mine", torch.ones(2))
    state = torch.get_rng_state()
    fits = [
        bdl.fit(
            bdl.BNN(hidden=()), X, y, engine=bdl.PyroNUTS(10, 10, 2, compiled=c), progress=False
        )
        for c in (True, True, False)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert list(pyro.get_param_store()) == ["mine"]
    pyro.get_param_store().clear()
    first, second, interpreted = (fit.samples["layer0.weight"] for fit in fits)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(
        first, interpreted, rtol=1e-3
    )  # rounding, which trajectories amplify
    assert not np.array_equal(first[0], first[1])


def test_pyro_says_where_there_is_no_start():
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(1.0))
    X, y = wave(8)
    problem = model.problem(model.learn_schema(X, y), X, y)
    problem.args[1][0] = np.inf
    with pytest.raises(ProblemError, match="No starting point"):
        bdl.PyroNUTS(10, 10, 1).infer(problem, key=jax.random.key(0))
