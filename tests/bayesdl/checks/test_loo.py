"""Leave-one-out cross-validation and comparisons: against closed forms and refits."""

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
    fit,
    mean_draws,
    mean_program,
    pose,
    pose_linear,
)
from scipy import special, stats

import bayesdl as bdl
from bayesdl.checks import densities
from bayesdl.checks.loo import estimate_loo
from bayesdl.warnings import TrustWarning

pytestmark = pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's


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

    @pytest.mark.slow
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
    @pytest.mark.quick_cases(1)
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

    @pytest.mark.slow
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
        a, b = linear.loo(), estimate_loo(blind)
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
