"""Pictures of checks, and the verdict of a diagnosis."""

import dataclasses
import re

import numpy as np
import pytest
from checks_toys import (
    LINEAR,
    X,
    Y,
    pose,
    pose_linear,
    rng,
)

import bayesdl as bdl
from bayesdl.checks.convergence import disagreement, site_statistics
from inference.core.problem import Problem
from inference.core.result import Draws

pytestmark = pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's


NOTHING = Problem(lambda: None)


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
