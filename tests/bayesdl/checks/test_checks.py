"""Predictive checks, leave-one-out, prior draws and power scaling, against closed forms; what they
refuse.

Where an exact posterior is known, its independent draws are put in the place of a sampler's.
"""

import dataclasses
import re

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy import integrate, special, stats

import bayesdl as bdl
from bayesdl.checks import densities
from bayesdl.checks.convergence import disagreement, site_statistics
from bayesdl.checks.loo import estimated
from bayesdl.model.program import as_model
from bayesdl.warnings import TrustWarning
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive, Draws

pytestmark = pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
Y = 100 + 20 * (X @ [1.0, -0.5] + 0.3 * rng.normal(size=40))
Z = (X - X.mean(0)) / X.std(0)
DESIGN = np.c_[np.ones(40), Z / np.sqrt(2)]  # of the coefficients (bias, weights) with NTK scaling
NOISE = 6.0
NOTHING = Problem(lambda: None)
LINEAR = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=NOISE))


def fit(model, *data, engine=bdl.Laplace(), **named):
    return bdl.fit(model, *data, engine=engine, progress=False, **named)


def pose(model, *data, draws=None, **named):
    """A posterior with these draws, arrays (chain, draw, ...) by site, or with arbitrary positive
    ones.
    """
    spec = as_model(model)
    schema = spec.learn_schema(*data, **named)
    problem = spec.problem(schema, *data, **named)
    some = np.random.default_rng(9)
    draws = draws or {
        site: np.exp(0.3 * some.normal(size=(2, 50, *shape)))
        for site, shape in problem.latents.items()
    }
    dtype = np.float64 if spec.double_precision else np.float32
    raw = Draws({site: np.asarray(values, dtype) for site, values in draws.items()}, {})
    return bdl.Posterior(spec, schema, problem, bdl.NUTS(), raw, 0)


def pose_linear(model, X, y, coefficients):
    """With draws of (bias, weights), shape (chain, draw, 1 + columns)."""
    return pose(
        model,
        X,
        y,
        draws={"layer0.bias": coefficients[..., :1], "layer0.weight": coefficients[..., None, 1:]},
    )


def exact_linear_posterior():
    """Mean and covariance of the coefficients of LINEAR given (X, Y), in standardised units."""
    precision = np.eye(3) + DESIGN.T @ DESIGN * (Y.std() / NOISE) ** 2
    y = (Y - Y.mean()) / Y.std()
    return np.linalg.solve(precision, DESIGN.T @ y * (Y.std() / NOISE) ** 2), np.linalg.inv(
        precision
    )


@pytest.fixture(scope="module")
def linear():
    """20 chains of 500 independent draws from the exact posterior."""
    mean, covariance = exact_linear_posterior()
    draws = np.random.default_rng(1).multivariate_normal(mean, covariance, (20, 500))
    return pose_linear(LINEAR, X, Y, draws)


@pytest.fixture(scope="module")
def closed_form():
    """A Gaussian process at its best hyperparameters: a predictor without draws."""
    return fit(bdl.GP(), X, Y, engine=bdl.ExactGP())


def mean_program(n, m0, t0, y=None):
    """y_i ~ N(mu, 1), mu ~ N(m0, t0^2)."""
    mu = numpyro.sample("mu", dist.Normal(m0, t0))
    with numpyro.plate("rows", n):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def mean_posterior(y, m0, t0):
    precision = len(y) + t0**-2
    return (y.sum() + m0 / t0**2) / precision, precision**-0.5


def mean_draws(y, m0, t0, shape=(4, 1000), seed=0):
    """Independent draws from the exact posterior of `mean_program`."""
    mean, sd = mean_posterior(y, m0, t0)
    return pose(
        mean_program,
        len(y),
        m0,
        t0,
        y=y,
        draws={"mu": np.random.default_rng(seed).normal(mean, sd, shape)},
    )


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

    def test_refuses_a_predictor_that_knows_rows_one_by_one(self, closed_form):
        class RowByRow(AbstractPredictive):
            traceable = False

            def __call__(self, latents, key, *args, **kwargs):
                raise AssertionError("a check predicted")

        raw = dataclasses.replace(closed_form.raw, predict=RowByRow())
        one_by_one = dataclasses.replace(closed_form, raw=raw)
        with pytest.raises(ValueError, match=r"rows one by one.*bdl.ExactGP"):
            one_by_one.check_predictive()


class TestLeaveOneOut:
    def exact(self):
        """Log p(y_i | y_-i) of LINEAR in the units of Y, from the marginal law N(0, D D' + s^2 I)
        of standardised targets.
        """
        covariance = DESIGN @ DESIGN.T + (NOISE / Y.std()) ** 2 * np.eye(40)
        y, terms = (Y - Y.mean()) / Y.std(), []
        for i in range(40):
            rest = np.arange(40) != i
            gain = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, i])
            sd = np.sqrt(covariance[i, i] - gain @ covariance[rest, i])
            terms.append(stats.norm.logpdf(y[i], gain @ y[rest], sd) - np.log(Y.std()))
        return np.array(terms)

    def test_agrees_with_exact_leave_one_out(self, linear):
        """Row by row and in sum, by Monte Carlo: the error comes from 20 independent chains, z <
        4.
        """
        result, exact = linear.loo(), self.exact()
        coefficients = np.concatenate(
            [linear.samples["layer0.bias"], linear.samples["layer0.weight"][:, :, 0]], axis=-1
        )
        chains = [pose_linear(LINEAR, X, Y, coefficients[[c]]).loo().pointwise for c in range(20)]
        error = np.std(chains, axis=0, ddof=1) / np.sqrt(20)
        assert result.ok
        assert np.max(np.abs(result.pointwise - exact) / error) < 4
        assert abs(result.elpd - exact.sum()) < 4 * np.std(
            np.sum(chains, axis=1), ddof=1
        ) / np.sqrt(20)
        assert result.elpd == pytest.approx(result.pointwise.sum())
        assert result.se == pytest.approx(np.sqrt(40 * result.pointwise.var()))
        assert result.p == pytest.approx(linear.predict().log_prob(Y).sum() - result.elpd, abs=1e-3)
        assert "can be trusted" in repr(result)
        assert f"{result.elpd:.2f}" in result._repr_html_()

    def test_blocks_of_rows_change_nothing(self, linear, monkeypatch):
        whole = linear.loo()
        monkeypatch.setattr(densities, "BLOCK", 15)
        parts = linear.loo()
        np.testing.assert_allclose(
            parts.pointwise, whole.pointwise, atol=2e-3
        )  # the tail's length may differ by a draw
        np.testing.assert_allclose(
            densities.pointwise(linear)["y"],
            linear.to_datatree(log_likelihood=True)["log_likelihood"]["y"],
            rtol=1e-6,
        )
        assert parts.pareto_k.shape == (40,)

    def test_log_likelihood_is_scipys_in_the_users_units(self, linear):
        f = Y.mean() + Y.std() * (
            linear.samples["layer0.bias"]
            + np.einsum("cdj,nj->cdn", linear.samples["layer0.weight"][:, :, 0], DESIGN[:, 1:])
        )
        values = linear.to_datatree(log_likelihood=True)["log_likelihood"]["y"].values
        np.testing.assert_allclose(values, stats.norm.logpdf(Y, f, NOISE), atol=2e-4)

    @pytest.mark.parametrize("kind", ["two targets", "counts", "labels"])
    def test_log_likelihood_of_other_targets(self, kind):
        likelihood, y = {
            "two targets": (bdl.Normal(scale=(6.0, 0.5)), np.c_[Y, Y / 50]),
            "counts": (bdl.Poisson(), np.round(Y / 20).astype(int)),
            "labels": (bdl.Bernoulli(), np.where(Y > 100, "yes", "no")),
        }[kind]
        post = pose(bdl.BNN(hidden=(), likelihood=likelihood), X, y)
        tree = post.to_datatree(log_likelihood=True)
        s = post.samples
        f = s["layer0.bias"][0][:, None] + np.einsum(
            "dkj,nj->dnk", s["layer0.weight"][0], DESIGN[:, 1:]
        )
        if kind == "two targets":
            expected = stats.norm.logpdf(y, y.mean(0) + y.std(0) * f, [6.0, 0.5]).sum(-1)
        elif kind == "counts":
            expected = stats.poisson.logpmf(y, np.exp(f[..., 0]))
        else:
            expected = special.log_expit(f[..., 0] * np.where(y == "yes", 1, -1))
        np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0], expected, atol=2e-4)
        np.testing.assert_array_equal(
            tree["observed_data"]["y"], (y == "yes") if kind == "labels" else y
        )

    def test_of_a_gaussian_process(self):
        """Per draw log p(y_i | y_-i, hyperparameters) by brute force."""
        post = pose(bdl.GP(), X[:15], Y[:15])
        values = post.to_datatree(log_likelihood=True)["log_likelihood"]["y"].values
        y, z = (Y[:15] - Y[:15].mean()) / Y[:15].std(), (X[:15] - X[:15].mean(0)) / X[:15].std(0)
        s = {name: draws[1, 7] for name, draws in post.samples.items()}
        scaled = z / s["kernel.lengthscale"]
        C = s["kernel.variance"] * np.exp(-0.5 * ((scaled[:, None] - scaled) ** 2).sum(-1)) + s[
            "sigma"
        ] ** 2 * np.eye(15)
        for i in range(15):
            rest = np.arange(15) != i
            gain = np.linalg.solve(C[np.ix_(rest, rest)], C[rest, i])
            law = stats.norm(gain @ y[rest], np.sqrt(C[i, i] - gain @ C[rest, i]))
            assert values[1, 7, i] == pytest.approx(
                law.logpdf(y[i]) - np.log(Y[:15].std()), abs=1e-5
            )
        joint = densities.log_likelihood(post)["y"]
        assert joint[1, 7] == pytest.approx(
            stats.multivariate_normal(np.zeros(15), C).logpdf(y), abs=1e-4
        )

    def test_rows_of_a_program(self):
        """One event of independent entries counts as rows; one event of another kind has none to
        leave out.
        """

        def event(y=None):
            mu = numpyro.sample("mu", dist.Normal(0, 10))
            numpyro.sample("y", dist.Normal(mu, 1).expand([8]).to_event(1), obs=y)

        def dirichlet(y=None):
            a = numpyro.sample("a", dist.HalfNormal(1))
            numpyro.sample("y", dist.Dirichlet(a * np.ones(3)), obs=y)

        y = np.arange(8.0) / 4
        post = pose(event, y=y, draws={"mu": np.random.default_rng(0).normal(1, 0.3, (2, 200))})
        plated = pose(mean_program, 8, 0.0, 10.0, y=y, draws=post.samples)
        np.testing.assert_allclose(post.loo().pointwise, plated.loo().pointwise, rtol=1e-6)
        with pytest.raises(ValueError, match=r"at least two rows.*numpyro.plate"):
            pose(dirichlet, y=np.array([0.2, 0.3, 0.5])).loo()

    def test_warns_of_an_influential_row(self):
        y = np.r_[np.random.default_rng(0).normal(size=9), 25.0]
        with pytest.warns(TrustWarning, match=r"1 of 10 rows have Pareto k above 0.70 \(rows 9;"):
            result = mean_draws(y, 0.0, 10.0).loo()
        assert not result.ok
        assert result.pareto_k[9] > result.threshold == pytest.approx(0.7)

    def test_refuses_draws_of_another_posterior(self):
        post = pose(mean_program, 3, 0.0, 1.0, y=np.zeros(3))
        heated = dataclasses.replace(
            post, raw=dataclasses.replace(post.raw, info={"temperature": 0.1})
        )
        broken = pose(
            mean_program,
            3,
            0.0,
            1.0,
            y=np.zeros(3),
            draws={"mu": np.where(np.arange(50) == 7, np.nan, np.ones((2, 50)))},
        )
        for check in (bdl.Posterior.loo, bdl.Posterior.sensitivity):
            with pytest.raises(
                ValueError, match=r"temperature=0.1 was asked for.* fit with temperature=1"
            ):
                check(heated)
            with pytest.raises(ValueError, match="Site 'mu' has draws that are NaN or infinite"):
                check(broken)

    def test_refuses_what_has_no_draws(self, closed_form):
        with pytest.raises(
            ValueError, match=r"is an approximation: leave-one-out reweights.*bdl.NUTS\(\)"
        ):
            fit(mean_program, 3, 0.0, 1.0, y=np.ones(3)).loo()
        with pytest.raises(ValueError, match=r"no draws of parameters.*hyperparameters='sample'"):
            closed_form.loo()
        with pytest.raises(ValueError, match="closed form"):
            closed_form.to_datatree(log_likelihood=True)


class TestCompare:
    def test_ranks_by_elpd(self, linear):
        blind = pose_linear(LINEAR, X, Y, 0.1 * np.random.default_rng(0).normal(size=(4, 500, 3)))
        with pytest.warns(TrustWarning, match="blind: "):
            table = bdl.compare({"blind": blind, "linear": linear.loo()})
        assert table.index.tolist() == ["linear", "blind"]
        a, b = linear.loo(), estimated(blind)
        assert table.loc["linear", "elpd"] == a.elpd
        assert table.loc["blind", "elpd_diff"] == pytest.approx(a.elpd - b.elpd)
        difference = a.pointwise - b.pointwise
        assert table.loc["blind", "dse"] == pytest.approx(np.sqrt(40 * difference.var()))
        assert table["weight"].sum() == pytest.approx(1)

    def test_refuses_what_cannot_be_compared(self, linear):
        other = pose_linear(LINEAR, X, 2 * Y, np.random.default_rng(0).normal(size=(2, 50, 3)))
        with pytest.raises(bdl.DataError, match=r"'a' and 'b' .* different targets"):
            bdl.compare({"a": linear, "b": other})
        with pytest.raises(ValueError, match="at least two"):
            bdl.compare({"a": linear})
        with pytest.raises(ValueError, match="'b' is a str"):
            bdl.compare({"a": linear, "b": "linear"})
        with pytest.raises(ValueError, match="expected 'stacking'"):
            bdl.compare({"a": linear, "b": linear}, method="best")


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


def distance(p, q, low, high):
    """Nguyen and Vreeken 2015: the root of the symmetrised divergence of cumulative distributions
    over its bound.
    """

    def integral(f):
        return integrate.quad(f, low, high, limit=200, epsabs=1e-13)[0]

    def divergence(x):
        half = (p(x) + q(x)) / 2
        return special.xlogy(p(x), p(x) / half) / np.log(2) + special.xlogy(
            q(x), q(x) / half
        ) / np.log(2)

    return np.sqrt(integral(divergence) / (integral(p) + integral(q)))


class TestPictures:
    @pytest.fixture(autouse=True)
    def closed(self):
        plt = pytest.importorskip("matplotlib.pyplot")
        yield
        plt.close("all")

    def test_of_a_predictive_check(self, linear):
        check = linear.check_predictive(num_samples=60)
        ax = check.plot()
        assert len(ax.lines) == 52
        observed = ax.lines[-1]
        assert observed.get_label() == "observed"
        assert np.trapezoid(observed.get_ydata(), observed.get_xdata()) == pytest.approx(
            1, abs=0.05
        )
        assert ax.get_xlabel() == "y"

    def test_of_shares(self):
        import matplotlib.pyplot as plt

        labels = np.where(Y > 100, "yes", "no")
        check = pose(bdl.BNN(hidden=(), likelihood=bdl.Bernoulli()), X, labels).check_predictive(
            num_samples=40
        )
        _, ax = plt.subplots()
        assert bdl.plots.predictive_check(check, ax) is ax
        np.testing.assert_allclose(
            ax.lines[-1].get_ydata(), [np.mean(labels == "no"), np.mean(labels == "yes")]
        )
        coefficients = np.array([1.5, 0, 0]) + 0.1 * rng.normal(size=(2, 50, 3))
        counts = pose_linear(
            bdl.BNN(hidden=(), likelihood=bdl.Poisson()), X, np.round(Y / 20), coefficients
        )
        counts = counts.check_predictive(num_samples=40).plot()
        assert counts.lines[-1].get_ydata().sum() == pytest.approx(1)

    @pytest.mark.slow
    def test_of_a_prior(self):
        x = np.linspace(-2, 3, 30)
        prior = bdl.prior_predictive(bdl.GP(), x[:, None], np.sin(x), num_samples=200)
        ax = prior.plot()
        np.testing.assert_allclose(ax.lines[0].get_xdata(), x, atol=1e-9)
        np.testing.assert_array_equal(ax.lines[3].get_ydata(), prior.function[3])
        band = np.unique(ax.collections[0].get_paths()[0].vertices[:, 1])
        np.testing.assert_allclose(band, np.unique(np.quantile(prior.y, [0.05, 0.95], axis=0)))
        two = bdl.prior_predictive(LINEAR, X, np.c_[Y, Y], num_samples=60).plot(X[:, 0])
        assert len(two) == 2
        assert len(bdl.prior_predictive(LINEAR, X, Y, num_samples=60).plot().lines) == 51


class TestDiagnosis:
    @pytest.mark.parametrize(
        "engine",
        [
            bdl.NUTS(),
            bdl.HMC(),
            bdl.MCLMC(adjusted=True),
            bdl.MCLMC(),
            bdl.SGLD(),
            bdl.SGHMC(),
            bdl.CyclicalSGMCMC(),
        ],
        ids=repr,
    )
    def test_cures_of_divergences_are_settings_of_the_engine(self, engine):
        draws = Draws({}, {"diverging": np.zeros((2, 50))}, {"stochastic": False})
        (finding,) = engine.findings(NOTHING, draws, {"divergences": 3.0})
        assert "3 of 100 draws diverged" in finding.what
        named = {"target_accept", "num_warmup", "step_size", "adjusted"} & set(
            re.findall(r"\w+", finding.cure)
        )
        assert named and named <= {field.name for field in dataclasses.fields(engine)}
        adapted_to = isinstance(engine, bdl.MCLMC) and not engine.adjusted
        assert not (adapted_to and "target_accept" in named)

    def test_cures_of_noise_have_an_effect(self):
        """Where warm-up shortened the steps, a step_size above what it left changes nothing; nor
        does asking for what is on.
        """
        facts = {"momentum temperature": 1.5, "step size shortened to": 0.25}
        engine, draws = bdl.SGHMC(step_size=0.04, control_variates=True), Draws({}, {})
        finding = str(*engine.findings(NOTHING, draws, facts))
        assert "lower step_size below 0.01 " in finding and "raise batch_size" in finding
        assert "control_variates" not in finding
        facts = {"momentum temperature": 1.5}
        finding = str(*bdl.SGHMC(batch_size=None).findings(NOTHING, draws, facts))
        assert finding.endswith("; lower step_size.")

    def test_chains_in_different_modes_are_not_told_to_run_longer_only(self):
        (network,), (other,) = (
            disagreement({"rhat (worst)": 1.5, "ess (smallest)": 1000.0}, 4, has_modes=modes)
            for modes in (True, False)
        )
        assert "different modes" in network.cure and "post.score" in network.cure
        assert "modes" not in other.cure

    def test_constants_have_no_statistics(self):
        """The mean of 0.1 over draws is not 0.1 to the bit."""
        assert np.isnan(site_statistics(np.full((4, 101, 2), 0.1))).all()
