"""Posterior and prior predictive checks: against closed forms."""

import dataclasses

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from checks_toys import (
    DESIGN,
    LINEAR,
    NOISE,
    X,
    Y,
    Z,
    fit,
    mean_draws,
    mean_posterior,
    mean_program,
    pose,
    pose_linear,
    rng,
)
from numpyro.distributions import constraints
from scipy import stats

import bayesdl as bdl
from inference.core.result import AbstractPredictive

pytestmark = pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's


class TestPredictiveCheck:
    def test_of_a_conjugate_model(self):
        """T(y_rep), T the mean of n rows, is N(m, v + 1/n): mean, interval and p agree by Monte
        Carlo, z < 4.
        """
        y = np.random.default_rng(2).normal(1.0, 1.0, 12)
        m, s = mean_posterior(y, 0.0, 0.5)
        check = mean_draws(y, 0.0, 0.5).check_predictive(["mean"], num_samples=4000)
        law, row = stats.norm(m, np.hypot(s, 12**-0.5)), check.table.loc["mean"]
        assert row["observed"] == pytest.approx(y.mean(), rel=1e-6)
        assert abs(row["mean"] - m) < 4 * law.std() / np.sqrt(4000)
        for level, column in ((0.05, "5%"), (0.95, "95%"), (law.cdf(y.mean()), None)):
            error = np.sqrt(level * (1 - level) / 4000)
            assert abs((law.cdf(row[column]) if column else 1 - row["p"]) - level) < 4 * error
        assert row["p two-sided"] == pytest.approx(2 * min(row["p"], 1 - row["p"]))

    def test_a_replicated_data_set_follows_one_draw(self):
        """With little noise all 2500 rows, computed in chunks of 1024, lie on the plane of one
        posterior draw.
        """
        X = np.random.default_rng(3).normal(size=(2500, 2))
        y = X @ [3.0, 1.0] + 1e-3 * np.random.default_rng(4).normal(size=2500)
        draws = np.random.default_rng(5).normal(size=(2, 30, 3))
        post = pose_linear(
            bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=1e-3 * y.std())), X, y, draws
        )
        design = np.c_[np.ones(2500), (X - X.mean(0)) / X.std(0) / np.sqrt(2)]
        for replicated in (
            post.check_predictive(num_samples=60).replicated,
            post.predict().replicates(),
        ):
            found, residual, *_ = np.linalg.lstsq(
                design, (replicated.T - y.mean()) / y.std(), rcond=None
            )
            np.testing.assert_allclose(np.sqrt(residual / 2500), 1e-3, rtol=0.1)
            distance = np.abs(found.T[:, None] - draws.reshape(-1, 3)).max(-1)
            assert np.all(distance.min(1) < 5e-4)
            assert len(set(distance.argmin(1))) == 60
        np.testing.assert_array_equal(
            distance.argmin(1), np.arange(60)
        )  # replicates come in the order of the draws

    @pytest.mark.slow
    def test_of_a_gaussian_process_rows_vary_together(self):
        """T the mean of all rows has variance 1'(S + sigma^2 I)1 / n^2, S the posterior covariance
        of f; z < 4.
        """
        x, y = np.linspace(-1, 1, 25), np.sin(3 * np.linspace(-1, 1, 25))
        sigma = 0.5 * y.std()
        model = bdl.GP(bdl.kernels.RBF(lengthscale=0.5, variance=1.0), bdl.Normal(sigma))
        post = fit(model, x[:, None], y, engine=bdl.ExactGP())
        check = post.check_predictive({"mean": np.mean}, num_samples=2000)
        z = x / x.std()
        K = np.exp(-0.5 * ((z[:, None] - z) / 0.5) ** 2)
        S = K + 0.25 * np.eye(25)
        mean = (K @ np.linalg.solve(S, y / y.std())).mean() * y.std()
        variance = (K - K @ np.linalg.solve(S, K) + 0.25 * np.eye(25)).sum() / 25**2 * y.var()
        row = check.table.loc["mean"]
        assert abs(row["mean"] - mean) < 4 * np.sqrt(variance / 2000)
        law = stats.norm(mean, np.sqrt(variance))
        for level in (0.05, 0.95):
            assert abs(law.cdf(row[f"{100 * level:.0f}%"]) - level) < 4 * np.sqrt(
                0.05 * 0.95 / 2000
            )

    @pytest.mark.slow
    def test_finds_too_many_zeros(self):
        x = rng.normal(size=(200, 1))
        y = rng.poisson(np.exp(1.5 + 0.2 * x[:, 0])) * rng.integers(0, 2, 200)
        check = fit(bdl.BNN(hidden=(), likelihood=bdl.Poisson()), x, y).check_predictive(
            num_samples=500
        )
        assert check.table.index.tolist() == [
            "mean",
            "sd",
            "min",
            "max",
            "5%",
            "50%",
            "95%",
            "share of zeros",
        ]
        assert check.table.loc["share of zeros", "observed"] == np.mean(y == 0)
        assert not check.ok
        assert any(
            "share of zeros" in line and "above" in line and "none of 500" in line
            for line in check.verdict
        )
        assert "share of zeros" in repr(check)
        assert "<li>" in check._repr_html_()

    @pytest.mark.slow
    def test_of_a_right_model_is_fine(self, linear):
        assert linear.check_predictive(["mean", "sd"]).ok
        assert "No statistic is extreme" in repr(linear.check_predictive(["mean", "sd"]))
        check = linear.check_predictive()
        for name, function in {"mean": np.mean, "sd": np.std, "min": np.min, "max": np.max}.items():
            assert check.table.loc[name, "observed"] == pytest.approx(function(Y))
        for level in (5, 50, 95):
            assert check.table.loc[f"{level}%", "observed"] == pytest.approx(
                np.quantile(Y, level / 100)
            )

    def test_of_classes(self):
        labels = np.array(["ant", "bee", "cat"])[np.digitize(Y, [90, 110])]
        post = pose(bdl.BNN(hidden=(), likelihood=bdl.Categorical()), X, labels)
        check = post.check_predictive()
        assert check.table.index.tolist() == ["share of ant", "share of bee", "share of cat"]
        assert check.table.loc["share of bee", "observed"] == np.mean(labels == "bee")
        runs = post.check_predictive({"runs": lambda y: (y[1:] != y[:-1]).sum()})
        assert runs.table.loc["runs", "observed"] == (labels[1:] != labels[:-1]).sum()
        with pytest.raises(
            ValueError, match=r"No statistic 'mean' of class targets: expected some of share of ant"
        ):
            post.check_predictive("mean")

    def test_of_two_targets_and_of_a_program(self):
        import pandas as pd

        post = pose(bdl.BNN(hidden=()), X, pd.DataFrame({"a": Y, "b": -Y}))
        table = post.check_predictive(["min", np.max], num_samples=50).table
        assert table.index.tolist() == ["min of a", "min of b", "max"]
        assert table["observed"].tolist() == pytest.approx([Y.min(), -Y.max(), Y.max()])
        y = np.arange(6.0)
        assert pose(mean_program, 6, 0.0, 5.0, y=y).check_predictive("90%").table[
            "observed"
        ].tolist() == [4.5]

    def test_refuses_bad_input(self, linear):
        for statistics in ("median", ["mean", "105%"], [3], []):
            with pytest.raises(ValueError, match="expected"):
                linear.check_predictive(statistics)
        with pytest.raises(
            ValueError, match=r"'range' gave .* expected a function that gives one number"
        ):
            linear.check_predictive({"range": lambda y: y[:2]})
        with pytest.raises(ValueError, match="expected a whole number"):
            linear.check_predictive(num_samples=0)

    @pytest.mark.slow
    def test_refuses_a_predictor_that_knows_rows_one_by_one(self, closed_form):
        class RowByRow(AbstractPredictive):
            traceable = False

            def __call__(self, latents, key, *args, **kwargs):
                raise AssertionError("a check predicted")

        raw = dataclasses.replace(closed_form.raw, predict=RowByRow())
        one_by_one = dataclasses.replace(closed_form, raw=raw)
        with pytest.raises(ValueError, match=r"rows one by one.*bdl.ExactGP"):
            one_by_one.check_predictive()


def assert_moments(draws, mean, covariance):
    """Mean and covariance of draws (draw, row) agree with a normal law's by Monte Carlo, each |z|
    < 4.
    """
    n = len(draws)
    centred = draws - mean
    assert np.max(np.abs(centred.mean(0)) / np.sqrt(np.diag(covariance) / n)) < 4
    error = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / n)
    assert np.max(np.abs(centred.T @ centred / n - covariance) / error) < 4


class TestPriorPredictive:
    def test_of_a_linear_model(self):
        """f ~ N(m, s^2 D D') in the units of Y, y adds the noise: mean and covariance of all rows,
        z < 4.
        """
        prior = bdl.prior_predictive(LINEAR, X, Y, num_samples=4000)
        covariance = Y.var() * DESIGN @ DESIGN.T
        assert_moments(prior.function, Y.mean(), covariance)
        assert_moments(prior.y, Y.mean(), covariance + NOISE**2 * np.eye(40))
        assert_moments(prior.y - prior.function, 0.0, NOISE**2 * np.eye(40))
        assert prior.table.loc["mean", "mean"] == pytest.approx(prior.y.mean())
        assert repr(prior).startswith("4000 data sets of y drawn from the prior")
        assert "<table" in prior._repr_html_()

    def test_of_a_gaussian_process(self):
        model = bdl.GP(bdl.kernels.RBF(lengthscale=1.0, variance=1.5), bdl.Normal(NOISE))
        prior = bdl.prior_predictive(model, X, Y, num_samples=2000, seed=1)
        covariance = 1.5 * Y.var() * np.exp(-0.5 * ((Z[:, None] - Z) ** 2).sum(-1))
        assert_moments(prior.function, Y.mean(), covariance)
        assert_moments(prior.y - prior.function, 0.0, NOISE**2 * np.eye(40))

    def test_of_a_program(self):
        """The same with and without the observations; y is normal with variance t0^2 + 1, rows
        share mu.
        """
        given = bdl.prior_predictive(mean_program, 5, 3.0, 2.0, y=np.zeros(5), num_samples=3000)
        prior = bdl.prior_predictive(mean_program, 5, 3.0, 2.0, num_samples=3000)
        np.testing.assert_array_equal(prior.y, given.y)
        assert_moments(prior.y, 3.0, 4.0 + np.eye(5))
        assert np.ptp(prior.function, axis=1).max() == 0
        assert prior.x is None
        other = bdl.prior_predictive(mean_program, 5, 3.0, 2.0, num_samples=3000, seed=1)
        assert not np.array_equal(other.y, prior.y)

    @pytest.mark.slow
    def test_of_classes_and_counts(self):
        labels = np.where(Y > 100, "yes", "no")
        prior = bdl.prior_predictive(
            bdl.BNN(hidden=(), likelihood=bdl.Bernoulli()), X, labels, num_samples=500
        )
        assert set(np.unique(prior.y)) == {"yes", "no"}
        np.testing.assert_allclose(prior.function.sum(-1), 1, atol=1e-6)
        z = ((prior.y == "yes") - prior.function[..., 1]) / np.sqrt(prior.function.prod(-1).mean())
        assert abs(z.mean()) * np.sqrt(z.size) < 4
        counts = bdl.prior_predictive(
            bdl.BNN(hidden=(), likelihood=bdl.Poisson()), X, labels == "yes", num_samples=500
        )
        assert np.all(counts.y == np.round(counts.y))
        z = (counts.y - counts.function) / np.sqrt(counts.function)
        assert abs(z.mean()) * np.sqrt(z.size) < 4

    def test_of_a_law_without_a_mean(self):
        def program(n, y=None):
            with numpyro.plate("rows", n):
                numpyro.sample("y", dist.Levy(0.0, 1.0) if n < 0 else NoMean(), obs=y)

        assert bdl.prior_predictive(program, 4, num_samples=10).function is None

    def test_refuses_bad_input(self):
        def improper(y=None):
            mu = numpyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
            numpyro.sample("y", dist.Normal(mu, 1), obs=y)

        def factor(y=None):
            numpyro.factor("extra", numpyro.sample("mu", dist.Normal(0, 1)))
            numpyro.sample("y", dist.Normal(0, 1), obs=y)

        def unclear(n):
            numpyro.sample("a", dist.Normal(0, 1))
            numpyro.sample("b", dist.Normal(0, 1))

        with pytest.raises(bdl.ModelError, match="'mu' has an improper prior"):
            bdl.prior_predictive(improper, y=1.0)
        with pytest.raises(bdl.ModelError, match="factor 'extra'"):
            bdl.prior_predictive(factor, y=1.0)
        with pytest.raises(bdl.ModelError, match=r"site=\.\.\."):
            bdl.prior_predictive(unclear, 3)
        for model in (LINEAR, bdl.GP()):
            with pytest.raises(bdl.DataError, match=r"prior_predictive\(model, X, y\)"):
                bdl.prior_predictive(model, X)
        with pytest.raises(ValueError, match="at least 1"):
            bdl.prior_predictive(LINEAR, X, Y, num_samples=0)
        assert bdl.prior_predictive(bdl.Program(unclear, site="b"), 3, num_samples=7).y.shape == (
            7,
        )


class NoMean(dist.Distribution):
    """A law that can be drawn from and has no mean."""

    support = constraints.real

    def sample(self, key, sample_shape=()):
        return dist.Cauchy(0.0, 1.0).sample(key, (*sample_shape, *self.batch_shape))

    def log_prob(self, value):
        return dist.Cauchy(0.0, 1.0).log_prob(value)
