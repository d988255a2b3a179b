"""Masks, factors and several observed sites of programs: in checks, scores and predictions.

Oracles are the same model without the hidden rows, closed forms, and NumPyro's log likelihood.
"""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import log_likelihood
from scipy.stats import norm

import bayesdl as bdl
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.core import latent_draws

# chains are short: whether they are long enough is no matter here
pytestmark = pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning")

ENGINE = bdl.NUTS(num_warmup=150, num_samples=200, num_chains=2)
RNG = np.random.default_rng(0)
Y = RNG.normal(1, 1, size=12)
HIDDEN = np.array([3, 7])
GAPS = np.where(np.isin(np.arange(12), HIDDEN), np.nan, Y)


def fit(program, *args, engine=ENGINE, **kwargs):
    return bdl.fit(program, *args, engine=engine, progress=False, **kwargs)


def normal(y=None, n=12):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", n):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def by_handler(y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    seen = True if y is None else ~jnp.isnan(y)
    filled = None if y is None else jnp.where(seen, y, -100.0)
    with numpyro.plate("rows", 12), handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(mu, 1), obs=filled)


def by_distribution(y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    seen = jnp.ones(12, bool) if y is None else ~jnp.isnan(y)
    filled = None if y is None else jnp.where(seen, y, -100.0)
    numpyro.sample("y", dist.Normal(mu, 1).expand([12]).mask(seen).to_event(1), obs=filled)


def by_observation(seen, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", 12):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y, obs_mask=seen)


@pytest.fixture(scope="module", params=[by_handler, by_distribution, by_observation])
def masked(request):
    if request.param is by_observation:
        seen = ~np.isnan(GAPS)
        return fit(by_observation, seen, y=np.where(seen, Y, -100.0))
    return fit(request.param, y=GAPS)


def exact_elpd(y):
    """log p(y_i | y_-i) of a normal mean with prior N(0, 3^2) and unit noise."""
    n = len(y)
    precision = n - 1 + 1 / 9
    mean = (y.sum() - y) / precision
    return norm.logpdf(y, mean, np.sqrt(1 + 1 / precision))


class TestMasks:
    @pytest.mark.quick_cases(1)
    def test_loo_is_that_of_the_rows_that_are_seen(self, masked):
        found = masked.loo()
        assert found.ok
        assert len(found.pointwise) == 10
        np.testing.assert_allclose(found.pointwise, exact_elpd(Y[~np.isnan(GAPS)]), atol=0.15)
        assert "2 rows that a mask hides are left out." in found.verdict
        assert np.abs(found.observed).max() < 10

    @pytest.mark.quick_cases(1)
    def test_check_predictive_does_not_judge_what_fills_them(self, masked):
        found = masked.check_predictive()
        assert found.ok
        assert found.table.loc["min", "observed"] == pytest.approx(np.nanmin(GAPS), rel=1e-5)
        assert found.replicated.shape[1:] == (10,)
        assert "2 rows that a mask hides are left out." in found.verdict

    @pytest.mark.quick_cases(1)
    def test_chains_agree(self, masked):
        table = masked.diagnose().table
        assert table["rhat"].max() < 1.1

    @pytest.mark.quick_cases(1)
    def test_the_datatree_has_gaps(self, masked):
        tree = masked.to_datatree(log_likelihood=True)
        (values,) = tree["observed_data"].data_vars.values()
        np.testing.assert_allclose(values, GAPS, rtol=1e-6)
        (terms,) = tree["log_likelihood"].data_vars.values()
        assert terms.shape == (2, 200, 10)

    @pytest.mark.quick_cases(1)
    def test_arviz_compares_what_to_arviz_gives(self, masked):
        az = pytest.importorskip("arviz")
        post = masked.to_arviz(log_likelihood=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = az.compare({"one": post, "same": post})
        assert table.iloc[0, 1] == pytest.approx(masked.loo().elpd, abs=0.1)

    @pytest.mark.quick_cases(1)
    def test_predictions_are_of_all_rows(self, masked):
        prediction = masked.predict()
        assert prediction.mean.shape == (12,)
        assert np.all(np.isfinite(prediction.log_prob(Y)))

    def test_scores_leave_them_out(self):
        post = fit(by_handler, y=GAPS, engine=bdl.Laplace())
        found = post.score(y=GAPS)
        kept = ~np.isnan(GAPS)
        prediction = post.predict()
        rmse = np.sqrt(np.mean((prediction.mean - Y)[kept] ** 2))
        assert found["rmse"] == pytest.approx(rmse, rel=1e-5)
        assert found["nll"] == pytest.approx(-prediction.log_prob(Y)[kept].mean(), rel=1e-5)
        assert found.notes == ("2 rows that a mask hides are left out.",)
        assert "left out" in repr(found)

    def test_targets_that_are_nan_without_a_mask_are_refused_by_row(self):
        post = fit(normal, y=Y, engine=bdl.Laplace())
        with pytest.raises(DataError, match=r"that are NaN: rows 3, 7; .* hide them"):
            post.score(y=GAPS)

    def test_targets_of_another_shape_are_refused_with_both(self):
        post = fit(normal, y=Y, engine=bdl.Laplace())
        with pytest.raises(DataError, match=r"5 observed values .* distribution of shape \(12,\)"):
            post.score(y=Y[:5])


def pair(a=None, b=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", 10):
        numpyro.sample("a", dist.Normal(mu, 1), obs=a)
        numpyro.sample("b", dist.Poisson(jnp.exp(0.1 * mu)), obs=b)


def apart(a=None, b=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", 10):
        numpyro.sample("a", dist.Normal(mu, 1), obs=a)
    with numpyro.plate("others", 4):
        numpyro.sample("b", dist.Normal(mu, 2), obs=b)


def walk(steps, y=None):
    """An unrolled loop: an observed site for each step."""
    rho, last = numpyro.sample("rho", dist.Uniform(-1, 1)), 0.0
    for t in range(steps):
        value = None if y is None else y[t]
        last = numpyro.sample(f"y_{t}", dist.Normal(rho * last, 1.0), obs=value)


A, B = RNG.normal(1, 1, size=10), RNG.poisson(1, size=10)


@pytest.fixture(scope="module")
def both():
    return fit(pair, a=A, b=B)


@pytest.fixture(scope="module")
def walked():
    return fit(walk, 6, y=Y[:6])


class TestSeveralSites:
    def test_no_site_is_asked_for(self, both):
        both.diagnose()
        both.summary()
        assert "mu" in both._repr_html_()
        assert {"a", "b"} <= set(
            both.to_datatree(posterior_predictive=True)["posterior_predictive"]
        )

    def test_predictions_and_scores_are_of_the_site(self, both):
        np.testing.assert_allclose(
            both.predict(site="a").mean, both.samples["mu"].mean(), atol=1e-4
        )
        assert both.predict(site="b").target.kind == "count"
        assert both.score(a=A, b=B, site="b")["nll"] == pytest.approx(
            -both.predict(site="b").log_prob(B).mean(), rel=1e-5
        )
        with pytest.raises(ModelError, match=r"post\.predict\(site=\.\.\.\)"):
            both.predict()
        with pytest.raises(ModelError, match=r"No observed site 'z': expected one of \['a', 'b'\]"):
            both.predict(site="z")

    def test_sites_in_one_plate_are_one_row(self, both):
        terms = log_likelihood(pair, latent_draws(both), a=A, b=B)
        found = both.loo()
        assert len(found.pointwise) == 10
        lppd = np.log(np.mean(np.exp(np.asarray(terms["a"] + terms["b"])), axis=0))
        assert found.elpd + found.p == pytest.approx(lppd.sum(), abs=1e-3)
        one = both.loo(site="a")
        lppd = np.log(np.mean(np.exp(np.asarray(terms["a"])), axis=0))
        assert one.elpd + one.p == pytest.approx(lppd.sum(), abs=1e-3)
        assert any("'a' and 'b' have the same rows" in line for line in found.verdict)
        assert any("Site 'b' is not part of elpd" in line for line in one.verdict)

    def test_sites_in_other_plates_have_rows_of_their_own(self):
        b = RNG.normal(1, 2, size=4)
        found = fit(apart, a=A, b=b).loo()
        assert len(found.pointwise) == 14
        assert any("10 of 'a', 4 of 'b'" in line for line in found.verdict)

    def test_each_site_is_checked_by_its_own_statistics(self, both):
        found = both.check_predictive()
        assert {"mean of a", "share of zeros of b"} <= set(found.table.index)
        assert found.table.loc["mean of b", "observed"] == pytest.approx(B.mean())
        assert both.check_predictive(site="b").table.loc["mean", "observed"] == B.mean()

    @pytest.mark.slow
    def test_scalar_sites_of_a_loop(self, walked):
        found = walked.loo()
        assert len(found.pointwise) == 6
        terms = log_likelihood(walk, latent_draws(walked), 6, y=Y[:6])
        lppd = sum(np.log(np.mean(np.exp(np.asarray(one)))) for one in terms.values())
        assert found.elpd + found.p == pytest.approx(lppd, abs=1e-3)
        assert walked.to_datatree(log_likelihood=True)["log_likelihood/y_3"].shape == (2, 200)
        check = walked.check_predictive()
        assert check.table.loc["mean", "observed"] == pytest.approx(Y[:6].mean(), rel=1e-5)
        walked.diagnose()

    @pytest.mark.slow
    def test_models_with_several_sites_are_compared(self, both):
        table = bdl.compare({"one": both, "same": both})
        assert table["elpd"].iloc[0] == pytest.approx(both.loo().elpd)

    def test_an_argument_of_that_name_is_the_programs(self):
        def on_site(site, y=None):
            mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
            with numpyro.plate("rows", len(site)):
                numpyro.sample("y", dist.Normal(mu[site], 1), obs=y)

        site = np.repeat([0, 1], 6)
        post = fit(on_site, site=site, y=Y + 5 * site, engine=bdl.Laplace())
        mean = post.predict(site=np.array([0, 1, 1])).mean
        assert mean.shape == (3,)
        assert mean[1] == mean[2] > mean[0] + 3


def survival(kind):
    def program(times, censored):
        rate = numpyro.sample("rate", dist.Gamma(2, 2))
        with numpyro.plate("seen", len(times)):
            numpyro.sample("t", dist.Exponential(rate), obs=times)
        if kind == "rows":
            with numpyro.plate("censored", len(censored)):
                numpyro.factor("cens", -rate * censored)
        else:
            numpyro.factor("cens", -rate * censored.sum())

    return program


class TestFactors:
    TIMES, CENSORED = RNG.exponential(1, size=8), np.array([1.0, 2.0, 0.5])

    def test_those_of_rows_are_rows(self):
        """The posterior is Gamma(a, b), and p(row | others) a ratio of its normalisers."""
        found = fit(survival("rows"), self.TIMES, self.CENSORED).loo()
        assert len(found.pointwise) == 11
        total = self.TIMES.sum() + self.CENSORED.sum()
        rest = 2 + total - self.TIMES
        events = np.log(9) + 9 * np.log(rest) - 10 * np.log(2 + total)
        survived = 10 * (np.log(2 + total - self.CENSORED) - np.log(2 + total))
        np.testing.assert_allclose(found.pointwise, np.r_[events, survived], atol=0.1)
        assert any("The factor 'cens' is taken as terms of rows" in line for line in found.verdict)

    def test_others_are_left_out_by_name(self):
        post = fit(survival("total"), self.TIMES, self.CENSORED)
        found = post.loo()
        assert len(found.pointwise) == 8
        assert "The factor 'cens' is not part of elpd." in found.verdict
        check = post.check_predictive()
        assert "The factor 'cens' is not part of replicated data sets." in check.verdict

    def test_a_program_of_factors_only(self, tmp_path):
        def only():
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.factor("data", -0.5 * (z - 1) ** 2)

        post = fit(only)
        for verb in (post.loo, post.check_predictive):
            with pytest.raises(ModelError, match=r"only has the factors 'data'"):
                verb()
        assert post.diagnose().table.index.tolist() == ["z"]
        assert post.summary().index.tolist() == ["z"]
        post.save(tmp_path / "only.bdl")


def weighted(weight, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", 12), handlers.scale(scale=weight):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def test_rows_with_weights_are_refused_by_leave_one_out():
    post = fit(weighted, np.linspace(0.5, 2, 12), y=Y)
    with pytest.raises(ValueError, match=r"site 'y' have weights .* of 0.5 to 2.*post\.score"):
        post.loo()
    with pytest.raises(ValueError, match="weights"):
        post.to_datatree(log_likelihood=True)
    once = fit(weighted, np.ones(12), y=Y)
    assert len(once.loo().pareto_k) == 12
