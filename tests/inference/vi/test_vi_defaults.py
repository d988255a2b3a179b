"""Variational inference with its default settings finds the answer, or says that it did not."""

import warnings

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl
from inference.vi.findings import rise_finding

rng = np.random.default_rng(0)
Y = rng.normal(2, 1, size=500)
# the exact posterior of mu ~ N(0, 10), y ~ N(mu, 1)
PRECISION = len(Y) + 1 / 100
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5
# 1000 draws of q; and the noise of its location, which the last 400 steps average
ERROR = SD * np.sqrt(1 / 1000 + 1 / 400)


def known_scale(y):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def tiny_scale(y):
    """The prior expects a scale ten thousand times smaller than it is."""
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    tau = numpyro.sample("tau", dist.HalfCauchy(1e-4))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mu, tau), obs=y)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 21))]
)
def test_a_normal_mean_is_exact_whatever_the_seed(seed):
    post = bdl.fit(known_scale, Y, engine=bdl.VI(), seed=seed, progress=False)
    mu = post.samples["mu"]
    assert abs(mu.mean() - MEAN) < 3 * ERROR
    assert abs(mu.std() / SD - 1) < 0.15


@pytest.mark.slow
def test_a_prior_far_from_the_data_does_not_stop_the_search():
    post = bdl.fit(tiny_scale, Y, engine=bdl.VI(), seed=0, progress=False)
    assert abs(post.samples["mu"].mean() - Y.mean()) < 5 * ERROR
    np.testing.assert_allclose(post.samples["tau"].mean(), Y.std(), rtol=0.05)


def test_a_fit_that_still_rises_says_so():
    with pytest.warns(UserWarning, match=r"VI is not done. The objective still rose.*raise steps"):
        engine = bdl.VI(steps=2000, learning_rate=0.001)
        post = bdl.fit(known_scale, Y + 1000, engine=engine, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diagnosis = post.diagnose()
    assert not diagnosis.ok
    assert any("still rose" in line for line in diagnosis.verdict)


def test_one_step_is_a_fit_that_is_not_done():
    with pytest.warns(UserWarning, match="1 steps are too few"):
        bdl.fit(known_scale, Y, engine=bdl.VI(steps=1), progress=False)


def test_a_level_objective_is_no_finding():
    noise = np.random.default_rng(1).normal(size=10_000)
    assert rise_finding(noise, 10_000, 1) is None
    assert rise_finding(noise + np.linspace(0, 100, 10_000), 10_000, 1) is not None
    # a fit of many dimensions trembles less and less
    assert rise_finding(noise + np.linspace(0, 10, 10_000), 10_000, 500) is None
