"""Samplers with minibatches, and MCLMC: against closed forms, and what they report."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from sgmcmc_toys import UNBIASED, against_exact, regression, simulated
from toys import entries, tensor_program

import bayesdl as bdl
from inference.core.problem import ProblemError
from inference.mcmc.sgmcmc import AbstractSGMCMC

SLOWER = ("SGLD, all rows", "MCLMC, adjusted", "SGHMC, control variates")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOWER else []) for n in UNBIASED]
)
def test_no_bias_that_monte_carlo_can_see(name):
    """Gradients without noise, or nearly: positions of a normal posterior have no bias (z < 4)."""
    post, mean_z, sd_z, _, _ = against_exact(UNBIASED[name], *simulated())
    assert np.abs(mean_z).max() < 4
    assert np.abs(sd_z).max() < 4
    assert not post.raw.stats["diverging"].any()


@pytest.mark.parametrize(
    "engine",
    [
        bdl.SGHMC(1500, 1000, 4, 30),
        pytest.param(bdl.SGLD(2000, 1000, 4, 60, step_size=0.15), marks=pytest.mark.slow),
    ],
    ids=["SGHMC", "SGLD"],
)
def test_minibatches_of_32_rows(engine):
    """Minibatches get the sd within ten per cent.

    Friction along fresh noise keeps the momentum thermal.
    """
    post, mean_z, _, ratio, _ = against_exact(engine, *simulated())
    assert np.abs(mean_z).max() < 4
    assert ratio.min() > 0.9 and ratio.max() < 1.1
    temperature = post.raw.stats["noise_temperature"]
    assert abs(temperature.mean() - 1) < 0.05 + 4 * np.sqrt(
        2 / temperature.size
    )  # order h^2, and Var[(p'e)^2] = 2


@pytest.mark.slow
def test_without_the_friction_the_momentum_is_too_hot_and_diagnose_says_so(monkeypatch):
    """The oracle's oracle: what the test above would see if gradient noise were left alone."""
    from inference.mcmc.langevin import LangevinSampler

    damp = LangevinSampler.damp
    monkeypatch.setattr(
        LangevinSampler, "damp", lambda self, p, *rest: (*damp(self, p, *rest)[:2], p)
    )
    post, _, _, ratio, _ = against_exact(bdl.SGHMC(1500, 1000, 4, 30, batch_size=8), *simulated())
    assert ratio.max() > 1.1
    with pytest.warns(UserWarning, match="too hot where gradient noise acts"):
        assert not post.diagnose().ok


@pytest.mark.slow
def test_cycles_keep_draws_of_their_second_part():
    engine = bdl.CyclicalSGMCMC(1000, 400, 4, 20, num_cycles=4, control_variates=True)
    assert [int(engine.steps_before(j)) for j in (-1, 0, 1, 100, 101)] == [
        999,
        1000,
        1000 + 2020,
        5000,
        5000 + 2020,
    ]
    step_sizes = [float(engine.schedule(jnp.asarray(1000 + i))[0]) for i in (0, 1999, 3999)]
    np.testing.assert_allclose(step_sizes, [0.03, 0.015, 0.0], atol=2e-5)
    assert float(engine.schedule(jnp.asarray(1000))[1]) == 0.0
    assert float(engine.schedule(jnp.asarray(3000))[1]) == 1.0
    _, _, _, ratio, shift = against_exact(engine, *simulated())
    assert (
        ratio.min() > 0.8 and ratio.max() < 1.2
    )  # few independent cycles: each is one effective draw for what moves slowly
    assert shift.max() < 0.5


@pytest.mark.slow
def test_temperature_is_that_of_the_posterior_and_is_reported():
    """Draws of p^(1/T) of a normal posterior have sd sqrt(T) times as large."""
    X, y = simulated()
    engine = dataclasses.replace(UNBIASED["SGHMC, all rows"], temperature=4.0)
    post, _, _, ratio, _ = against_exact(engine, X, y)
    np.testing.assert_allclose(
        ratio, 2.0, rtol=4 * 0.03
    )  # the Monte Carlo error of an sd from about 600 effective draws
    with pytest.warns(UserWarning, match=r"temperature=4 was asked for"):
        assert post.diagnose().facts["posterior temperature"] == 4


@pytest.mark.slow
def test_any_program_with_a_plate_and_no_other():
    i, j, y = entries()
    post = bdl.fit(tensor_program, i, j, y=y, engine=bdl.SGHMC(500, 200, 2, 5), progress=False)
    assert np.isfinite(post.predict().mean).all()

    def no_plate(x, y=None):
        numpyro.sample(
            "y",
            dist.Normal(numpyro.sample("m", dist.Normal(0, 1)), 1).expand([len(x)]).to_event(1),
            obs=y,
        )

    with pytest.raises(bdl.UnsupportedError, match="in two lines"):
        bdl.fit(no_plate, np.zeros(5), y=np.zeros(5), engine=bdl.SGHMC(), progress=False)


def test_settings_refused():
    for cls in AbstractSGMCMC.__subclasses__():
        with pytest.raises(ValueError, match="expected an even number"):
            cls(batch_size=7)
        with pytest.raises(ValueError, match="expected a positive number"):
            cls(step_size=0.0)
    with pytest.raises(ValueError, match="all rows have no noise"):
        bdl.SGHMC(batch_size=None, control_variates=True)
    with pytest.raises(ValueError, match="expected a multiple"):
        bdl.CyclicalSGMCMC(num_samples=100, num_cycles=7)


def test_steps_that_are_too_long_say_so():
    X, y = simulated()
    with pytest.raises(ProblemError, match="Lower step_size"):
        bdl.fit(
            regression,
            X,
            y=y,
            engine=bdl.SGHMC(100, 100, 2, batch_size=None, step_size=50.0),
            progress=False,
        )


def test_one_dimension_is_too_few_for_mclmc():
    def one(y):
        numpyro.sample(
            "y",
            dist.Normal(numpyro.sample("m", dist.Normal(0, 1)), 1.0).expand([2]).to_event(1),
            obs=y,
        )

    with pytest.raises(bdl.UnsupportedError, match="momentum of fixed length needs two"):
        bdl.fit(one, np.zeros(2), engine=bdl.MCLMC(), progress=False)


@pytest.mark.parametrize(
    "engine",
    [
        bdl.NUTS(300, 300, 4, start="pathfinder"),
        pytest.param(bdl.MCLMC(1000, 1000, 4), marks=pytest.mark.slow),
    ],
    ids=["Pathfinder", "MCLMC"],
)
@pytest.mark.slow
def test_blackjax(engine):
    """Unadjusted MCLMC has a bias that is small beside the posterior's sd.

    It is not small beside Monte Carlo error.
    """
    _, _, _, ratio, shift = against_exact(engine, *simulated())
    assert ratio.min() > 0.9 and ratio.max() < 1.1
    assert shift.max() < 0.15
