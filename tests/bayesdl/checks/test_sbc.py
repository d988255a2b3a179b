"""Simulation-based calibration: right samplers pass, broken ones do not, and the test of
uniformity has its level.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy.stats import multinomial
from toys import rows, sparse_program, sparse_rows

import bayesdl as bdl
from bayesdl import plots
from bayesdl.checks.calibration import band, judge, leaves_band, smallest_tail, uniformity
from inference.core.problem import Problem
from inference.mcmc.batched import choose_pieces
from inference.mcmc.hmc import AbstractHamiltonian
from inference.mcmc.runner.layout import CHAIN_METHODS

SETTINGS = {"num_warmup": 300, "num_samples": 60, "thinning": 5}


def normal(y=None):
    """Mean and log scale of normal data."""
    mu, log_scale = (
        numpyro.sample("mu", dist.Normal(0, 1)),
        numpyro.sample("log_scale", dist.Normal(0, 0.5)),
    )
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
@pytest.mark.slow
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

        return NUTS(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}).kernel(
            Problem(squared)
        )


@pytest.mark.slow
def test_a_broken_sampler_is_caught():
    with pytest.warns(UserWarning, match="NOT calibrated"):
        result = bdl.sbc(normal, np.zeros(6), engine=Broken(**SETTINGS), progress=False)
    assert not result.ok
    assert min(result.p_values.values()) < 0.001


@pytest.mark.slow
def test_draws_that_depend_on_each_other_are_not_believed():
    engine = bdl.HMC(300, 60, num_steps=1, trajectory_length=0.05)
    with pytest.warns(UserWarning, match="cannot be believed"):
        assert not bdl.sbc(
            normal, np.zeros(6), engine=engine, num_simulations=20, progress=False
        ).ok


def test_the_test_of_uniformity_has_its_level():
    """Over 200 sets of uniform ranks about a tenth of the p-values are below 0.1 (binomial, z <
    4); skewed ranks are caught.
    """
    rng = np.random.default_rng(0)
    p = np.array([uniformity(rng.integers(0, 61, size=80), 60, rng) for _ in range(200)])
    assert abs(np.mean(p < 0.1) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 200)
    assert uniformity(rng.integers(0, 45, size=80), 60, rng) < 0.01


def test_p_values_are_exact():
    """Against a sum over all ways in which five numbers can fall into five cells."""
    ways = [way for way in itertools.product(range(6), repeat=5) if sum(way) == 5]
    probability = multinomial.pmf(ways, 5, np.full(5, 0.2))
    tails = np.array([smallest_tail(np.repeat((np.arange(5) + 0.5) / 5, way)) for way in ways])
    for tail in np.unique(tails.round(12)):
        expected = probability[tails <= tail * (1 + 1e-9)].sum()
        assert leaves_band(*band(tail, 5)) == pytest.approx(expected, rel=1e-12)


def simulated(quantities, simulations=40, draws=40, sd=1.0):
    """Truths and independent draws of a posterior that is the prior, its sd wrong by a factor."""
    rng = np.random.default_rng(0)
    names = [f"z[{k}]" for k in range(quantities)]
    true = {name: rng.normal(size=(simulations, 1)) for name in names}
    return true, {name: sd * rng.normal(size=(simulations, draws)) for name in names}, rng


def test_a_broken_sampler_is_caught_by_many_quantities():
    """The limit is 0.01 / 40 for each, and p-values have no floor."""
    assert judge(*simulated(40, 20, 20)).ok
    broken = judge(*simulated(40, 20, 20, sd=0.3))
    assert not broken.ok
    assert broken.verdict.startswith("NOT calibrated")
    assert (
        min(broken.p_values.values()) < 1 / 2001
    )  # the least that 2000 simulations of uniform ranks could give


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_simulations_that_are_not_finite_have_their_own_verdict(value):
    true, found, rng = simulated(2)
    true["z[0]"][3] = found["z[1]"][3, 0] = value
    bad = judge(true, found, rng)
    assert not bad.ok
    assert (
        "1 of 40 simulations, or their log density, are NaN" in bad.verdict
        and "chains" not in bad.verdict
    )
    assert len(bad.ranks["z[0]"]) == 39
    found["z[1]"][5:7, 0] = value
    assert "2 of 40 chains" in judge(true, found, rng).verdict
    found["z[1]"][:] = value
    nothing = judge(true, found, rng)
    assert not nothing.ok and "39 of 40 chains" in nothing.verdict


def test_too_few_draws_and_ties_are_no_false_alarm():
    few = judge(*simulated(1, draws=3))
    assert not few.ok and "raise num_samples" in few.verdict
    true, found, rng = simulated(1)
    tied = judge({"constant": 0 * true["z[0]"]}, {"constant": 0 * found["z[0]"]}, rng)
    assert tied.ok, tied


def test_divergences_are_told():
    assert "25 % of the draws diverged" in repr(judge(*simulated(1), divergences=0.25))


def test_chains_with_a_bad_start_are_started_again():
    """U(-2, 2) is outside the support seven times out of eight; "parallel" has more data sets than
    devices.
    """

    def positive(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1).expand([3]).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.log(mu), 1).to_event(1), obs=y)

    engine = bdl.HMC(5, 4, num_steps=2, chain_method="parallel")
    observed = {"y": np.zeros((9, 3), np.float32)}
    problem = Problem(positive, kwargs={"y": np.zeros(3)})
    draws, diverging = engine.infer_many(problem, observed, key=jax.random.key(0))
    assert draws["mu"].shape == (9, 4, 3) and diverging.shape == (9, 4)
    assert (draws["mu"] > 0).all()


@pytest.mark.parametrize("method", CHAIN_METHODS)
@pytest.mark.quick_cases(2)
def test_a_piece_is_as_many_data_sets_on_each_device(method):
    for total in (1, 7, 20, 200):
        layout, size = choose_pieces(method, total, cheap_steps=False)
        assert layout.num_devices == (1 if method == "sequential" else jax.device_count())
        assert size % layout.num_devices == 0 and size < total + layout.num_devices


def test_refused():
    def with_factor(y=None):
        numpyro.factor("pull", numpyro.sample("mu", dist.Normal(0, 1)))
        numpyro.sample("y", dist.Normal(0, 1), obs=y)

    def improper(y=None):
        mu = numpyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    with pytest.raises(ValueError, match="factor 'pull' leaves the prior unnormalised"):
        bdl.sbc(with_factor, y=0.0, engine=bdl.NUTS(chain_method="parallel"))
    with pytest.raises(ValueError, match="improper prior"):
        bdl.sbc(improper, y=0.0)
    with pytest.raises(ValueError, match="Nothing is observed"):
        bdl.sbc(normal)
    with pytest.raises(bdl.UnsupportedError, match="needs an engine of Markov chains"):
        bdl.sbc(normal, np.zeros(6), engine=bdl.VI())
    with pytest.raises(ValueError, match="at least 20"):
        bdl.sbc(normal, np.zeros(6), num_simulations=5)
