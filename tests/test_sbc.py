"""Simulation-based calibration: right samplers pass, broken ones do not, and the test of uniformity has its level."""

import dataclasses

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from toys import rows, sparse_program, sparse_rows

import bayesdl as bdl
from bayesdl import plots
from bayesdl.checks.calibration import uniformity
from inference.mcmc.hmc import AbstractHamiltonian
from inference.problem import Problem

SETTINGS = {"num_warmup": 300, "num_samples": 60, "thinning": 5}


def normal(y=None):
    """Mean and log scale of normal data."""
    mu, log_scale = numpyro.sample("mu", dist.Normal(0, 1)), numpyro.sample("log_scale", dist.Normal(0, 0.5))
    with numpyro.plate("rows", 6):
        numpyro.sample("y", dist.Normal(mu, np.e**log_scale), obs=y)


@pytest.mark.parametrize(
    "case",
    [
        "normal",
        pytest.param("network", marks=pytest.mark.slow),
        pytest.param("sparse", marks=pytest.mark.slow),
    ],
)
def test_nuts_is_calibrated(case):
    engine = bdl.NUTS(**SETTINGS)
    if case == "normal":
        result = bdl.sbc(normal, np.zeros(6), engine=engine, progress=False)
    elif case == "network":
        result = bdl.sbc(bdl.BNN(hidden=(4,)), *rows(), engine=engine, progress=False)
    else:
        X, y = sparse_rows()
        result = bdl.sbc(sparse_program, X, y=y, engine=engine, progress=False)
    assert result.ok, result
    assert "log density" in result.ranks
    assert plots.calibration_ranks(result).get_ylabel()


@dataclasses.dataclass(frozen=True)
class Broken(AbstractHamiltonian):
    """NUTS on p(z | y)^2: too narrow, and every other diagnosis is happy."""

    def kernel(self, problem):
        from inference.mcmc.hmc import NUTS

        def squared(*args, **kwargs):
            with numpyro.handlers.scale(scale=2.0):
                problem.program(*args, **kwargs)

        return NUTS(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}).kernel(Problem(squared))


def test_a_broken_sampler_is_caught():
    with pytest.warns(UserWarning, match="NOT calibrated"):
        result = bdl.sbc(normal, np.zeros(6), engine=Broken(**SETTINGS), progress=False)
    assert not result.ok
    assert min(result.p_values.values()) < 0.001


def test_draws_that_depend_on_each_other_are_not_believed():
    engine = bdl.HMC(300, 60, num_steps=1, trajectory_length=0.05)
    with pytest.warns(UserWarning, match="cannot be believed"):
        assert not bdl.sbc(normal, np.zeros(6), engine=engine, num_simulations=20, progress=False).ok


def test_the_test_of_uniformity_has_its_level():
    """Over 200 sets of uniform ranks about a tenth of the p-values are below 0.1 (binomial, z < 4); skewed ranks are caught."""
    rng = np.random.default_rng(0)
    p = np.array([uniformity(rng.integers(0, 61, size=80), 60, rng) for _ in range(200)])
    assert abs(np.mean(p < 0.1) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 200)
    assert uniformity(rng.integers(0, 45, size=80), 60, rng) < 0.01


def test_refused():
    with pytest.raises(bdl.UnsupportedError, match="needs an engine of Markov chains"):
        bdl.sbc(normal, np.zeros(6), engine=bdl.VI())
    with pytest.raises(ValueError, match="at least 20"):
        bdl.sbc(normal, np.zeros(6), num_simulations=5)
