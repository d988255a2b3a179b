"""Samplers with minibatches, and MCLMC: against closed forms and HMC, and what they report."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from toys import entries, sd_error, tensor_program

import bayesdl as bdl
from bayesdl.model.program import as_model
from inference.core.problem import ProblemError
from inference.core.result import Draws
from inference.mcmc.sgmcmc import AbstractSGMCMC

NOISE = 0.5


def regression(X, y=None):
    """Conjugate linear regression, w ~ N(0, I), known noise."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]) as index:
        numpyro.sample("y", dist.Normal(X[index] @ w, NOISE), obs=None if y is None else y[index])


def simulated(n=300):
    """Correlated columns of different scales."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) @ np.array(
        [[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0.3]]
    )
    return X, X @ [1.0, -0.5, 0.2, 0.8] + NOISE * rng.normal(size=n)


def exact(X, y):
    covariance = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(X.shape[1]))
    return covariance @ X.T @ y / NOISE**2, np.sqrt(np.diag(covariance))


def against_exact(engine, X, y, seed=0):
    """Return z of the means and of the log sds against the closed form, and the sd ratios.

    z is in Monte Carlo standard errors.
    """
    post = bdl.fit(regression, X, y=y, engine=engine, seed=seed, progress=False)
    w, (mean, sd) = post.samples["w"].astype(float), exact(X, y)
    axes = {"chain_axis": 0, "draw_axis": 1}
    ratio = w.std((0, 1)) / sd
    mean_z = (w.mean((0, 1)) - mean) / array_stats.mcse(w, **axes)
    sd_z = np.log(ratio) * w.std((0, 1)) / sd_error(w)
    return post, mean_z, sd_z, ratio, np.abs(w.mean((0, 1)) - mean) / sd


UNBIASED = {
    "SGHMC, all rows": bdl.SGHMC(500, 1000, 4, 10, batch_size=None, step_size=0.3),
    "SGLD, all rows": bdl.SGLD(500, 1000, 4, 20, batch_size=None, step_size=0.5),
    "SGHMC, control variates": bdl.SGHMC(1000, 1000, 4, 20, batch_size=32, control_variates=True),
    "MCLMC, adjusted": bdl.MCLMC(600, 1000, 4, 4, adjusted=True),
}


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
def test_step_halving_finds_nothing_where_there_is_no_bias():
    X, y = simulated()
    engine = bdl.SGHMC(500, 1500, 4, 10, batch_size=None, step_size=0.3)
    report = bdl.mcmc.halve_step(
        bdl.fit(regression, X, y=y, engine=engine, progress=False), progress=False
    )
    assert report.ok, report
    assert report.step_sizes == (0.3, 0.15)


@pytest.mark.slow
def test_step_halving_sees_a_bias(monkeypatch):
    """Without the friction that balances it, gradient noise widens the posterior.

    It does so in proportion to the step size.
    """
    from inference.mcmc.langevin import LangevinSampler

    damp = LangevinSampler.damp
    monkeypatch.setattr(
        LangevinSampler, "damp", lambda self, p, *rest: (*damp(self, p, *rest)[:2], p)
    )
    X, y = simulated()
    engine = bdl.SGHMC(1500, 1000, 4, 100, batch_size=4)
    report = bdl.mcmc.halve_step(
        bdl.fit(regression, X, y=y, engine=engine, progress=False), progress=False
    )
    assert not report.ok
    assert report.sd_ratio < 1
    assert f"lower step_size below {report.step_sizes[0]:.2g}" in repr(report)


def test_step_halving_halves_the_steps_that_warm_up_left():
    """With 32 000 rows in batches of 32, noise alone sets the step size."""
    X, y = simulated(32_000)
    spec = as_model(regression)
    problem = spec.problem(spec.learn_schema(X, y=y), X, y=y)

    def left_by_warm_up(engine):
        sampler = engine.sampler(problem)

        def adapt(i, state):
            key = jax.random.fold_in(state.key, i)
            rows = sampler.draw_rows(key)
            return sampler.adapt(i, state, sampler.gradient(rows, state)[2], rows, key)

        return float(
            jax.lax.fori_loop(
                0, engine.num_warmup, adapt, sampler.init(jax.random.key(0))
            ).shortened
        )

    engine = bdl.SGHMC(num_warmup=200, batch_size=32, start="prior")
    factor = left_by_warm_up(engine)
    assert factor < 0.5
    again = engine.with_half_step(Draws({}, {}, {"shortened": [factor]}))
    assert again.step_size * left_by_warm_up(again) == engine.step_size * factor / 2


def test_step_halving_reports_the_steps_that_were_made(monkeypatch):
    monkeypatch.setattr(
        bdl.Posterior,
        "refit",
        lambda _, engine, *rest: pose(regression, engine, {"w": w}, X=X, y=y),
    )
    X, y = simulated(30)
    w = np.random.default_rng(0).normal(size=(2, 50, 4))
    first = pose(regression, bdl.SGHMC(step_size=0.04), {"w": w + 1}, [0.5, 0.25], X=X, y=y)
    report = bdl.mcmc.halve_step(first)
    assert report.step_sizes == (0.01, 0.005)
    assert "lower step_size below 0.01" in repr(report)


def test_step_halving_runs_as_long_with_half_the_steps():
    engine = bdl.CyclicalSGMCMC(100, 40, 4, 10, num_cycles=4, step_size=0.04)

    def halve(*shortened):
        return engine.with_half_step(Draws({}, {}, {"shortened": list(shortened)}))

    assert halve(0.5, 0.25, 1.0, 0.3) == dataclasses.replace(
        engine, num_warmup=200, thinning=20, step_size=0.005
    )
    assert halve(1.0, 1.0).step_size == 0.02


def pose(program, engine, samples, shortened=(1.0,), **data):
    """A posterior that no engine has run."""
    spec = as_model(program)
    schema = spec.learn_schema(**data)
    raw = Draws(samples, {}, {"shortened": list(shortened)})
    return bdl.Posterior(spec, schema, spec.problem(schema, **data), engine, raw, 0)


def test_step_halving_refuses_before_it_runs(monkeypatch):
    def alone():
        numpyro.sample("w", dist.Normal(0, 1))

    def fixed(y=None):
        numpyro.sample("w", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Normal(0, 1), obs=y)

    monkeypatch.setattr(bdl.Posterior, "refit", lambda *_: pytest.fail("the sampler was run"))
    w, some, y = (
        np.random.default_rng(0).normal(size=(2, 50)),
        bdl.SGHMC(batch_size=None),
        np.zeros(3),
    )
    for engine, reason in (
        (bdl.NUTS(), "NUTS has no step size to halve that biases"),
        (bdl.MCLMC(adjusted=True), "MCLMC has no step size to halve that biases"),
        (bdl.MCLMC(), "tunes its step size itself.* has a bias"),
    ):
        with pytest.raises(bdl.UnsupportedError, match=reason):
            bdl.mcmc.halve_step(pose(fixed, engine, {"w": w}, y=y))
    with pytest.raises(bdl.UnsupportedError, match="no function values"):
        bdl.mcmc.halve_step(pose(alone, some, {"w": w}))
    with pytest.raises(bdl.UnsupportedError, match="do not depend on z"):
        bdl.mcmc.halve_step(pose(fixed, some, {"w": w}, y=y))
    X, y = simulated(30)
    w = np.random.default_rng(0).normal(size=(2, 50, 4))
    with pytest.raises(ValueError, match="raise num_samples"):
        bdl.mcmc.halve_step(pose(regression, some, {"w": w[:, :3]}, X=X, y=y))
    w[1, 7] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        bdl.mcmc.halve_step(pose(regression, some, {"w": w}, X=X, y=y))


def test_step_halving_compares_what_it_says():
    from bayesdl.checks.halving import compare_runs

    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(2, 4, 500, 20))
    assert compare_runs((0.2, 0.1), one, same).ok
    assert not compare_runs((0.2, 0.1), one, 0.8 * same).ok
    assert not compare_runs((0.2, 0.1), one, same + 0.3).ok
    minority = (
        np.where(np.arange(20) == 7, 0.8, 1.0) * same
    )  # which a median over values does not see
    report = compare_runs((0.2, 0.1), one, minority)
    assert not report.ok
    assert 0.7 < report.sd_ratio < 0.9 and report.sd_z < -report.limit


def test_step_halving_leaves_constants_out():
    from bayesdl.checks.halving import compare_runs

    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(2, 4, 500, 20))
    with_constants = [np.concatenate([v, np.full((4, 500, 2), 0.1)], axis=2) for v in (one, same)]
    assert compare_runs((0.2, 0.1), *with_constants) == compare_runs((0.2, 0.1), one, same)


def test_step_halving_has_its_level():
    """Of 200 pairs of runs without bias, at most a hundredth is found biased (binomial, z < 4)."""
    from bayesdl.checks.halving import compare_runs

    rng = np.random.default_rng(0)
    alarms = [not compare_runs((0.2, 0.1), *rng.normal(size=(2, 2, 200, 4))).ok for _ in range(200)]
    assert np.mean(alarms) < 0.01 + 4 * np.sqrt(0.01 * 0.99 / 200)


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


def boston_regression(reference):
    data = reference.uci("boston")
    rows = ~data["test"][0]
    X, y = data["X"][rows], data["y"][rows]
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    return np.c_[np.ones(len(X)), X], y


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "low", "high"), [(None, 0.97, 1.03), (32, 0.9, 1.1)])
def test_conjugate_regression_on_boston(batch_size, low, high, reference):
    """Every sd ratio is within the limits, and every mean within a tenth of an sd."""
    if batch_size is None:
        engine = bdl.SGHMC(2000, 4000, 4, 20, batch_size=None, step_size=0.3)
    else:
        engine = bdl.SGHMC(10_000, 4000, 4, 150, batch_size=batch_size)
    _, _, _, ratio, shift = against_exact(engine, *boston_regression(reference))
    assert low < ratio.min() and ratio.max() < high
    assert shift.max() < 0.1


# with HMC's known RMSE, NLL of the moments, and mean sd of the function in standardised units
BOSTON_PRIORS = {
    "N(0, 1)": (bdl.priors.LayerGaussian(), (2.53, 0.02), (2.388, 0.01), (0.109, 0.005)),
    "matched": (
        bdl.priors.LayerGaussian((2.908, 1.43), (2.422, 0.161)),
        (2.42, 0.02),
        (2.404, 0.01),
        (0.187, 0.008),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOSTON_PRIORS)
def test_boston_network_against_hmc(reference, name):
    """The network of the functional-priors literature, split 0.

    HMC has its known figures, and SGHMC with 128 rows is compared with HMC.
    """
    from scipy import stats

    from bayesdl.posterior.streaming import means

    prior, (rmse, *of_rmse), (nll, *of_nll), (sd, *of_sd) = BOSTON_PRIORS[name]
    data = reference.uci("boston")
    test = data["test"][0]
    X, y, X_new, y_new = data["X"][~test], data["y"][~test], data["X"][test], data["y"][test]
    model = bdl.BNN(
        hidden=(100,), prior=prior, likelihood=bdl.Normal(scale=float(np.sqrt(0.1) * y.std()))
    )

    def fitted(engine):
        prediction = bdl.fit(model, X, y, engine=engine, progress=False).predict(X_new)
        return prediction, np.asarray(prediction.stream.map(means, axis=1), dtype=float)

    prediction, exact_values = fitted(
        bdl.HMC(500, 500, 4, num_steps=100, start="prior", chain_method="vectorized")
    )
    assert np.sqrt(np.mean((prediction.mean - y_new) ** 2)) == pytest.approx(rmse, abs=of_rmse[0])
    assert -stats.norm.logpdf(y_new, prediction.mean, prediction.std).mean() == pytest.approx(
        nll, abs=of_nll[0]
    )
    assert prediction.epistemic.mean() / y.std() == pytest.approx(sd, abs=of_sd[0])
    if name == "matched":
        return

    _, values = fitted(bdl.SGHMC(10_000, 2000, 4, 100, batch_size=128))
    ratio = values.std(0) / exact_values.std(0)
    shift = np.abs(values.mean(0) - exact_values.mean(0)) / exact_values.std(0)
    assert 0.95 < np.median(ratio) < 1.08
    assert shift.mean() < 0.15


@pytest.mark.slow
def test_several_rows_and_devices_change_nothing_in_distribution():
    assert jax.device_count() == 2
    X, y = simulated()
    for method in ("sequential", "vectorized", "parallel"):
        engine = dataclasses.replace(UNBIASED["SGHMC, all rows"], num_chains=2, chain_method=method)
        _, mean_z, sd_z, _, _ = against_exact(engine, X, y)
        assert max(np.abs(mean_z).max(), np.abs(sd_z).max()) < 4
