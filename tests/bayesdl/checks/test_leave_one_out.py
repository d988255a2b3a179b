"""Leave-one-out where draws, rows or chains are out of the ordinary: never a number that is not one
with the words "can be trusted"."""

import dataclasses
import sys
import types

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import bayesdl as bdl
from bayesdl.checks.convergence import disagreeing_chains
from bayesdl.checks.loo import estimate_loo
from bayesdl.interop.arviz import psis_loo
from bayesdl.interop.pareto import smoothed_weights
from bayesdl.warnings import TrustWarning, distrust

ENGINE = bdl.NUTS(num_warmup=150, num_samples=150, num_chains=2)


def normal(y=None, n=8):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", n):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def harmonic(block):
    """-log mean(1 / p) per row: importance sampling without smoothing."""
    flat = block.reshape(-1, block.shape[-1])
    return np.log(len(flat)) - logsumexp(-flat, axis=0)


class TestSmoothedWeights:
    def test_equal_draws_of_a_stuck_chain(self):
        """ArviZ before 1.0 gives -20.16 here, arviz-stats 0.8 NaN."""
        rng = np.random.default_rng(0)
        block = rng.normal(size=(2, 400, 20)) * 0.1 - 1
        block[1] = block[1, :1]
        found = psis_loo([block], 1.0)
        assert found.elpd == pytest.approx(-20.1615, abs=2e-3)
        np.testing.assert_allclose(found.elpd_i.values, harmonic(block), atol=1e-3)
        assert not np.isnan(found.pareto_k.values).any()

    def test_a_constant_row_has_its_own_value(self):
        block = np.random.default_rng(1).normal(size=(2, 100, 3))
        block[..., 1] = -2.5
        found = psis_loo([block], 0.9)
        assert found.elpd_i.values[1] == pytest.approx(-2.5)
        assert found.pareto_k.values[1] == -np.inf
        # the other rows are as arviz-stats has them
        others = psis_loo([block[..., [0, 2]]], 0.9)
        np.testing.assert_array_equal(found.elpd_i.values[[0, 2]], others.elpd_i.values)

    def test_a_row_of_few_values_has_bounded_weights(self):
        block = np.random.default_rng(2).choice([-1.0, -2.0, -5.0], size=(4, 500, 3))
        found = psis_loo([block], 1.0)
        np.testing.assert_allclose(found.elpd_i.values, harmonic(block))
        assert (found.pareto_k.values == -np.inf).all()

    @pytest.mark.parametrize("draws", [3, 10, 24, 400])
    def test_never_nan(self, draws):
        rng = np.random.default_rng(draws)
        for scale in (1e-9, 1e-3, 1.0, 30.0, 1000.0, 1e30):
            weights, k = smoothed_weights(scale * rng.normal(size=(5, draws)))
            assert not np.isnan(k).any()
            np.testing.assert_allclose(logsumexp(weights, axis=-1), 0, atol=1e-8)

    def test_densities_that_are_not_finite(self):
        block = np.random.default_rng(3).normal(size=(2, 50, 4))
        block[0, 3, 0], block[0, 3, 1], block[1, 2, 2] = np.nan, -np.inf, np.inf
        found = psis_loo([block], 1.0)
        assert np.isnan(found.elpd_i.values[0])
        assert found.elpd_i.values[1] == -np.inf
        assert np.isfinite(found.elpd_i.values[2:]).all()


@pytest.fixture(scope="module")
def post():
    y = np.random.default_rng(0).normal(size=8)
    return bdl.fit(normal, y=y, engine=ENGINE, progress=False)


class TestVerdict:
    def with_draws(self, post, **sites):
        return dataclasses.replace(post, raw=dataclasses.replace(post.raw, samples=sites))

    def test_a_stuck_chain_is_named_first(self, post):
        mu = post.samples["mu"].copy()
        mu[1] = 2.0
        found = estimate_loo(self.with_draws(post, mu=mu))
        assert not found.ok
        assert found.verdict[0].startswith("Chain 1 of 2 is stuck, site 'mu'")
        assert not any("can be trusted" in line for line in found.verdict[1:])

    def test_chains_in_different_places(self, post):
        mu = post.samples["mu"] + np.array([0.0, 3.0])[:, None]
        found = disagreeing_chains(self.with_draws(post, mu=mu))
        assert len(found) == 1
        assert str(found[0]).startswith("R-hat of site 'mu' is")

    def test_rows_that_are_impossible_at_some_draws(self):
        def uniform(y=None):
            top = numpyro.sample("top", dist.Uniform(0, 20))
            with numpyro.plate("rows", 4):
                numpyro.sample("y", dist.Uniform(0, top), obs=y)

        y = np.array([1.0, 2.0, 3.0, 4.0])
        post = bdl.fit(uniform, y=y, engine=ENGINE, progress=False)
        top = post.samples["top"].copy()
        top[0, 5] = 3.5
        with pytest.warns(TrustWarning, match="1 of 4 rows has .* NaN or infinite .*rows 3"):
            found = self.with_draws(post, top=top).loo()
        assert not found.ok
        assert found.elpd == -np.inf

    def test_a_row_of_known_density(self):
        def known(y=None):
            mu = numpyro.sample("mu", dist.Normal(0, 1))
            weight = jnp.array([0.0, 1.0, 1.0, 1.0])
            with numpyro.plate("rows", 4):
                numpyro.sample("y", dist.Normal(mu * weight, 1), obs=y)

        y = np.array([0.3, 0.1, -0.2, 0.4])
        found = bdl.fit(known, y=y, engine=ENGINE, progress=False).loo()
        assert found.ok
        assert found.pointwise[0] == pytest.approx(norm.logpdf(0.3), abs=1e-5)
        assert found.pareto_k[0] == -np.inf


class TestNotebook:
    """A shell that keeps what is to be called when a cell ends, as IPython's does."""

    @pytest.fixture
    def cell_ends(self, monkeypatch):
        waiting = []
        events = types.SimpleNamespace(
            register=lambda _, function: waiting.append(function),
            unregister=lambda _, function: waiting.remove(function),
        )
        shell = types.SimpleNamespace(events=events)
        module = types.SimpleNamespace(get_ipython=lambda: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        return lambda shown: [f(types.SimpleNamespace(result=shown)) for f in list(waiting)]

    def test_a_result_that_is_shown_says_its_verdict_itself(self, cell_ends):
        result = object()
        distrust(result, "It is wrong.", stacklevel=1)
        cell_ends(result)
        cell_ends(None)

    def test_a_result_that_is_kept_warns_when_the_cell_ends(self, cell_ends):
        distrust(object(), "It is wrong.", stacklevel=1)
        with pytest.warns(TrustWarning, match="It is wrong"):
            cell_ends(None)
