"""Step halving: it sees the bias of a step, and no other difference."""

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from sgmcmc_toys import regression, simulated

import bayesdl as bdl
from bayesdl.model.program import as_model
from inference.core.result import Draws


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


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="is NaN or"):
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


@pytest.mark.slow
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
