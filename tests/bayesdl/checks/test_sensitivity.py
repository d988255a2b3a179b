"""Power-scaling sensitivity: against the exact power-scaled posterior."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from checks_toys import (
    X,
    Y,
    distance,
    fit,
    mean_draws,
    mean_posterior,
    mean_program,
    pose,
)
from scipy import stats

import bayesdl as bdl

pytestmark = pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's


class TestSensitivity:
    def test_log_prior_is_scipys_on_the_space_of_the_site(self):
        def program(y=None):
            tau = numpyro.sample("tau", dist.HalfNormal(2.0))
            theta = numpyro.sample("theta", dist.Normal(0, tau).expand([3]).to_event(1))
            numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

        g = np.random.default_rng(0)
        tau, theta = np.exp(g.normal(size=(2, 30))), g.normal(size=(2, 30, 3))
        post = pose(program, y=np.ones(3), draws={"tau": tau, "theta": theta})
        tree = post.to_datatree(log_prior=True)
        np.testing.assert_allclose(
            tree["log_prior"]["tau"], stats.halfnorm.logpdf(tau, scale=2.0), atol=1e-4
        )
        expected = stats.norm.logpdf(theta, 0, tau[..., None]).sum(-1)
        np.testing.assert_allclose(tree["log_prior"]["theta"], expected, rtol=1e-4, atol=1e-4)

    def test_derivative_of_the_posterior_mean(self):
        """d E[mu | y] / da at a = 1 is Cov(mu, log p(mu)) = -(m - m0) v / t0^2 for the prior,
        minus that for the data.
        """
        y = np.random.default_rng(0).normal(2.0, 1.0, 6)
        post = mean_draws(y, 0.0, 0.7, (50, 1000))
        m, s = mean_posterior(y, 0.0, 0.7)
        tree = post.to_datatree(log_prior=True, log_likelihood=True)
        slope = -(m - 0.0) * s**2 / 0.7**2
        terms = {1: tree["log_prior"]["mu"].values, -1: tree["log_likelihood"]["y"].values.sum(-1)}
        assert np.sum(y - m) * s**2 == pytest.approx(
            -slope
        )  # at the posterior mean both pull alike
        mu = post.samples["mu"] - m
        for sign, values in terms.items():
            products = mu * (values - values.mean())
            assert abs(products.mean() - sign * slope) < 4 * products.std() / np.sqrt(products.size)

    def test_is_the_distance_of_exact_posteriors(self):
        """The distance between the exact posteriors for a = 1 and a = 0.99, 1.01 on the range of
        the draws, 12 runs, z < 4.
        """
        y = np.random.default_rng(0).normal(2.0, 1.0, 6)
        runs, exact = [], []
        for seed in range(12):
            post = mean_draws(y, 0.0, 0.7, seed=seed)
            runs.append(post.sensitivity().table.loc["mu", ["prior", "likelihood"]].to_numpy(float))
            exact.append(
                [
                    power_scaled_distance(y, 0.0, 0.7, scaled, post.samples["mu"])
                    for scaled in (0, 1)
                ]
            )
        gap = np.array(runs) - exact
        assert np.all(np.abs(gap.mean(0)) < 4 * gap.std(0, ddof=1) / np.sqrt(12))

    def test_flags_a_prior_in_conflict_with_the_data(self):
        y = np.random.default_rng(0).normal(3.0, 1.0, 20)
        conflict, vague, weak = (
            mean_draws(y[:n], m0, t0).sensitivity()
            for n, m0, t0 in ((20, 0.0, 0.5), (20, 0.0, 20.0), (1, 3.0, 0.1))
        )
        assert not conflict.ok
        assert "conflict" in conflict.table.loc["mu", "diagnosis"]
        assert "mu: prior and data both move it" in repr(conflict)
        assert vague.ok
        assert "No parameter is sensitive to the prior" in vague._repr_html_()
        assert "weak likelihood" in weak.table.loc["mu", "diagnosis"]
        assert "the prior decides" in weak.verdict[0]

    def test_sites_and_priors_can_be_chosen(self):
        def program(y=None):
            tau = numpyro.sample("tau", dist.HalfNormal(2.0))
            with numpyro.plate("rows", 6):
                theta = numpyro.sample("theta", dist.Normal(0, tau))
                numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

        post = pose(program, y=np.arange(6.0))
        both, top = post.sensitivity("tau"), post.sensitivity("tau", priors=["tau"])
        assert both.table.index.tolist() == ["tau"]
        assert both.table.loc["tau", "prior"] != top.table.loc["tau", "prior"]
        assert both.table.loc["tau", "likelihood"] == top.table.loc["tau", "likelihood"]
        with pytest.raises(
            ValueError, match=r"No prior 'sigma': expected some of \['tau', 'theta'\]"
        ):
            post.sensitivity(priors="sigma")
        with pytest.raises(ValueError, match="No site 'sigma'"):
            post.sensitivity("sigma")

    @pytest.mark.slow
    def test_of_a_network_function_values_stand_in_for_weights(self):
        post = pose(bdl.BNN(hidden=(2,)), X, Y)
        assert post.sensitivity().table.index.tolist() == [
            "sigma",
            "E[y | x][0]",
            "E[y | x][1]",
            "E[y | x][2]",
        ]

    def test_refuses_what_has_no_draws_or_no_data(self):
        def nothing(n):
            numpyro.sample("a", dist.Normal(0, 1))

        with pytest.raises(ValueError, match="power scaling reweights"):
            fit(mean_program, 3, 0.0, 1.0, y=np.ones(3)).sensitivity()
        with pytest.raises(ValueError, match="observes nothing"):
            pose(nothing, 3).sensitivity()

    def test_says_that_factors_are_left_alone(self):
        def program(y=None):
            mu = numpyro.sample("mu", dist.Normal(0, 1))
            numpyro.factor("pull", -(mu**2))
            numpyro.sample("y", dist.Normal(mu, 1.0).expand([4]), obs=y)

        assert "factor 'pull'" in pose(program, y=np.ones(4)).sensitivity().verdict[-1]


def power_scaled_distance(y, m0, t0, scaled, draws):
    """The mean over a = 0.99, 1.01 of the cumulative Jensen-Shannon distance to the posterior
    scaled by a, per log2 a.
    """
    low, high = float(draws.min()), float(draws.max())
    base = stats.norm(*mean_posterior(y, m0, t0))
    slopes = []
    for a in (0.99, 1.01):
        data, prior = (len(y), a / t0**2) if scaled == 0 else (a * len(y), 1 / t0**2)
        other = stats.norm((data * y.mean() + prior * m0) / (data + prior), (data + prior) ** -0.5)
        pairs = ((base.cdf, other.cdf), (base.sf, other.sf))  # of mu and of -mu
        slopes.append(max(distance(p, q, low, high) for p, q in pairs) / abs(np.log2(a)))
    return np.mean(slopes)
