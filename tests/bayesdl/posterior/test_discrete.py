"""Predictions, leave-one-out and probabilities of programs with discrete sites."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp
from numpyro.contrib.control_flow import scan

import bayesdl as bdl
from bayesdl.checks import densities

pytest.importorskip("funsor")

RNG = np.random.default_rng(0)
X = np.where(RNG.random(30) < 0.3, RNG.normal(-2, 1, 30), RNG.normal(2, 1, 30))
P = jnp.array([[0.9, 0.1], [0.3, 0.7]])


def mixture(y=None, n=30):
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("rows", n):
        z = numpyro.sample("z", dist.Categorical(w))
        numpyro.sample("y", dist.Normal(mu[z], 1), obs=y)


@pytest.fixture(scope="module", autouse=True)
def broadcasting():
    """NumPyro's Dirichlet broadcasts ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def post(broadcasting):
    engine = bdl.NUTS(num_warmup=40, num_samples=40, num_chains=1, start="prior")
    return bdl.fit(mixture, y=X, engine=engine, progress=False)


@pytest.fixture
def by_hand(post):
    mu, w = (post.samples[name][0].astype(np.float64) for name in ("mu", "w"))

    def terms(y):
        value = np.asarray(y)[None, :, None]
        return -0.5 * (value - mu[:, None]) ** 2 - 0.5 * np.log(2 * np.pi) + np.log(w[:, None])

    return terms


def test_predictions_are_mixtures_over_values(post, by_hand):
    pred, new = post.predict(n=3), np.array([-1.0, 0.5, 2.0])
    expected = logsumexp(logsumexp(by_hand(new), 2), 0) - np.log(40)
    np.testing.assert_allclose(pred.log_prob(new), expected, rtol=1e-5)
    mean = (post.samples["mu"] * post.samples["w"]).sum(-1).mean()
    np.testing.assert_allclose(pred.mean, mean, rtol=1e-5)
    drawn = post.predict(n=4).sample(4000)
    error = drawn.std(0) / np.sqrt(40)
    assert np.all(np.abs(drawn.mean(0) - mean) < 4 * error)


@pytest.mark.slow
def test_leave_one_out_uses_the_summed_likelihood(post, by_hand):
    found = densities.pointwise(post)["y"][0]
    np.testing.assert_allclose(found, logsumexp(by_hand(X), 2), atol=1e-5)


def test_responsibilities_are_those_of_bayes_rule(post, by_hand):
    found = post.discrete()
    expected = jax.nn.softmax(by_hand(X), 2).mean(0)
    np.testing.assert_allclose(found.probabilities["z"], expected, atol=1e-5)
    assert found.samples["z"].shape == (1, 40, 30)
    share = found.samples["z"].mean((0, 1))
    assert np.all(np.abs(share - expected[:, 1]) < 4.5 * np.sqrt(0.25 / 40))
    assert found.to_pandas().shape == (30, 2) and "Bayes' rule" in repr(found)


@pytest.mark.slow
def test_states_of_a_chain_are_smoothed_and_drawn():
    y = np.concatenate([RNG.normal(-2, 1, 6), RNG.normal(2, 1, 6)])

    def chain(y=None):
        low = numpyro.sample("low", dist.Normal(-2, 1))
        mu = jnp.stack([low, numpyro.sample("high", dist.Normal(2, 1))])

        def step(s, y):
            s = numpyro.sample("s", dist.Categorical(P[s]))
            numpyro.sample("y", dist.Normal(mu[s], 1), obs=y)
            return s, None

        scan(step, 0, y, length=12)

    post = bdl.fit(chain, y=y, engine=bdl.Laplace(), progress=False)
    found = post.discrete()
    late = found.probabilities["s"][:, 1]
    share = found.samples["s"].mean((0, 1))
    assert np.all(np.abs(share - late) < 4.5 * np.sqrt(late * (1 - late) / 1000) + 1e-3)
    mean = post.predict().mean
    assert mean[:5].max() < 0 < mean[7:].min()
