"""Training of prior-data fitted networks against exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from amortized_toys import (
    CELLS,
    GP,
    SMALL,
    linear_program,
    mostly_five,
    normal_mean,
    train,
    unknown_scale,
)
from scipy import stats

import bayesdl as bdl
from bayesdl import amortized
from bayesdl.data.validation import ModelError
from inference.amortized.certificate import score_queries
from inference.amortized.tasks import Batch, Tasks


def test_tasks_are_draws_of_the_program():
    """Second moments of a Gaussian process's targets against its covariance, z < 4.

    Columns that are not used are zero.
    """
    program = GP.simulator(2)[0]
    tasks = Tasks(program, (1, 3), 4, 2, "uniform", double=True)
    with jax.enable_x64(True):
        batch = jax.jit(lambda key: tasks.draw(key, 4000))(jax.random.key(0))
    X, y = np.asarray(batch.X, float), np.asarray(batch.y, float)
    K = np.exp(-((X[:, :, None] - X[:, None]) ** 2).sum(-1) / (2 * 0.5**2)) + 0.01 * np.eye(6)
    error = y[:, :, None] * y[:, None, :] - K
    assert np.abs(error.mean(0) / (error.std(0) / np.sqrt(4000))).max() < 4
    used = (X != 0).any(1).sum(1)
    assert set(used) == {1, 2, 3}
    assert set(np.asarray(batch.num_rows)) == set(range(5))


def test_a_conjugate_model_is_learned(trained):
    """The gap to p(y | data) = N(sum / (n + 1), 1 + 1 / (n + 1)) at several numbers of rows."""
    rng, gaps = np.random.default_rng(0), []
    y = rng.normal(size=(512, 1)) + rng.normal(size=(512, 20))
    X = rng.normal(size=(512, 20, 1))
    for rows in (1, 3, 10):
        count = jnp.full(512, rows, jnp.int32)
        batch = Batch(
            jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.float32), count, jnp.zeros((512, 1))
        )
        log_q, _ = score_queries(trained.network, batch, 10, trained.grids.target)
        mean, sd = y[:, :rows].sum(1, keepdims=True) / (rows + 1), np.sqrt(1 + 1 / (rows + 1))
        gaps.append(np.mean(stats.norm.logpdf(y[:, 10:], mean, sd) - np.asarray(log_q)))
    assert max(gaps) < 0.05
    assert trained.facts["skipped_steps"] == 0


@pytest.mark.slow
def test_a_network_of_cells_learns_linear_regression():
    pfn = train(linear_program, steps=1500, **CELLS)
    rng, rows = np.random.default_rng(0), 10
    X, w = rng.normal(size=(256, 20, 2)), rng.normal(size=(256, 2, 1))
    y = (X @ w)[..., 0] + 0.5 * rng.normal(size=(256, 20))
    batch = Batch(
        jnp.asarray(X, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.full(256, rows, jnp.int32),
        jnp.zeros((256, 0)),
    )
    log_q, _ = (
        np.asarray(part, float) for part in score_queries(pfn.network, batch, 10, pfn.grids.target)
    )
    A, b, A_new = X[:, :rows], y[:, :rows, None], X[:, rows:]
    S = np.linalg.inv(np.eye(2) + 4 * A.transpose(0, 2, 1) @ A)
    mean = (A_new @ S @ (4 * A.transpose(0, 2, 1) @ b))[..., 0]
    sd = np.sqrt(0.25 + np.einsum("tri,tij,trj->tr", A_new, S, A_new))
    lost = (stats.norm.logpdf(y[:, rows:], mean, sd) - log_q).mean(1)
    prior = stats.norm.logpdf(y[:, rows:], 0, np.sqrt(0.25 + (A_new**2).sum(-1))).mean(1)
    assert (log_q.mean(1) - prior).mean() > lost.mean() > 0  # more than half of what can be learned
    post, turned = (
        bdl.fit(linear_program, X[0, :rows, way], y[0, :rows], engine=pfn, progress=False)
        for way in (np.s_[:], np.s_[::-1])
    )
    np.testing.assert_allclose(
        turned.predict(A_new[0, :, ::-1]).mean, post.predict(A_new[0]).mean, atol=1e-4
    )
    assert np.abs(turned.predict(A_new[0]).mean - post.predict(A_new[0]).mean).max() > 0.1


def test_settings_by_name_work_and_warn():
    settings = {name: value for name, value in SMALL.items() if name != "progress"}
    with pytest.warns(DeprecationWarning, match=r"use PFN.train\(model, bdl.amortized.Training"):
        old = bdl.PFN.train(normal_mean, steps=2, progress=False, **settings)
    assert old.hash == train(normal_mean, steps=2, **settings).hash
    with pytest.raises(TypeError, match=r"and \['steps'\]: give all settings"):
        bdl.PFN.train(normal_mean, bdl.amortized.Training(), steps=2)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (bdl.GP(likelihood=bdl.Normal(0.1)), {}, "fixes a scale in the units of y"),
        (bdl.BNN(likelihood=bdl.Poisson()), {}, "predicts real numbers and classes"),
        (bdl.BNN(), {"num_inputs": (1, 3)}, "only RandomBNN, and a GP"),
        (bdl.GP(), {"num_inputs": (1, 3)}, "only RandomBNN, and a GP"),
        (bdl.BNN(), {"bars": 2}, "expected a whole number of at least 3"),
        (bdl.BNN(), {"num_inputs": 0}, "expected a number of at least 1"),
        (bdl.BNN(), {"num_inputs": (1, 2, 3)}, "expected a number of at least 1"),
        (bdl.BNN(), {"max_rows": 0}, "expected a whole number of at least 1"),
        (bdl.BNN(), {"heads": 3}, "a width that the heads divide"),
        (bdl.BNN(), {"seconds": 3.0}, "expected a whole number of steps of at least 1, or seconds"),
        (bdl.RandomBNN(), {"kind": "cells", "num_inputs": (1, 3)}, "for one number of columns"),
        (bdl.BNN(likelihood=bdl.Bernoulli()), {"normalize": True}, "these are classes"),
        (mostly_five, {"normalize": True}, "half of the prior's targets are 5"),
        (bdl.BNN(), {"kind": "columns"}, "expected 'rows' or 'cells'"),
        (bdl.BNN(), {"precision": "half"}, "expected 'float32' or 'bfloat16'"),
        (bdl.BNN(), {"devices": 64}, "JAX has"),
        (bdl.BNN(), {"latents": ("tau",)}, "'tau' is no latent site of one real number; those are"),
        (
            bdl.BNN(),
            {"inputs": "gaussian"},
            "expected 'normal', 'uniform', 'tabular' or a function",
        ),
        (lambda X, y=None: numpyro.sample("z", dist.Normal(0, 1)), {}, "no site 'y' to predict"),
        (lambda X, y=None: numpyro.sample("y", dist.Normal(0, 1)), {}, "expected one target a row"),
        (
            lambda X, y=None: numpyro.sample("y", dist.Normal(float(X.sum()), 1)),
            {},
            "cannot be drawn from",
        ),
    ],
)
def test_models_that_cannot_be_amortized_are_refused(model, settings, message):
    with pytest.raises(ModelError, match=message):
        train(model, steps=1, **SMALL | settings)


@pytest.mark.slow
def test_equal_seeds_give_equal_networks_and_a_gp_has_its_gap():
    first, second = (train(GP, steps=3, **SMALL) for _ in range(2))
    for one, other in zip(
        jax.tree.leaves(first.network), jax.tree.leaves(second.network), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    gaps = [row["gap"] for row in first.certificate["rows"]]
    assert all(gap > -4 * error for gap, error in gaps)
    assert gaps[-1][0] > 0.5  # after three steps it has learned next to nothing, and says so
    assert first.certificate["change_with_other_queries"] == 0


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    from inference.amortized import saving as saved

    monkeypatch.setattr(saved, "SAVE_EVERY", 0.0)
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    whole = train(normal_mean, steps=120, **settings)
    interrupt = KeyboardInterrupt()

    class Stop:
        def __init__(self):
            self.blocks = 0

    count = Stop()
    keep = saved.TrainingCheckpoint.save

    def save(self, run, at_once):
        keep(self, run, at_once)
        count.blocks += 1
        if count.blocks == 1:
            raise interrupt

    monkeypatch.setattr(saved.TrainingCheckpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train(normal_mean, steps=120, checkpoint=tmp_path / "run", **settings)
    resumed = train(normal_mean, steps=120, checkpoint=tmp_path / "run", **settings)
    assert resumed.hash == whole.hash
    assert resumed.facts["losses"] == whole.facts["losses"]
    with pytest.raises(bdl.CheckpointError, match="of another training: budget changed"):
        train(normal_mean, steps=150, checkpoint=tmp_path / "run", **settings)


@pytest.mark.slow
def test_training_over_devices_and_in_half_precision():
    """Two devices share a batch: losses agree to rounding, those of bfloat16 to its two digits."""
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    one, two, half = (
        train(normal_mean, steps=50, **settings, **more)
        for more in ({}, {"devices": 2}, {"precision": "bfloat16"})
    )
    assert two.facts["losses"] == pytest.approx(one.facts["losses"], abs=1e-3)
    assert half.facts["losses"] == pytest.approx(one.facts["losses"], rel=0.02)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half.network))
    lower = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), half.network)
    cache = lower.condition(jnp.zeros((1, 4, 1)), jnp.zeros((1, 4)), jnp.array([4]))
    assert cache.keys_values[0].dtype == jnp.bfloat16  # the arithmetic, not only the weights
    assert lower.predict(cache, jnp.zeros((1, 2, 1))).dtype == jnp.float32
    more = train(normal_mean, steps=50, start=one, **settings)
    assert more.facts["loss"] < one.facts["loss"]
    with pytest.raises(ModelError, match="has sizes"):
        train(normal_mean, steps=2, start=one, **settings | {"width": 16})


@pytest.mark.slow
def test_budgets():
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    timed = train(normal_mean, seconds=0.5, **settings)
    assert timed.facts["data_sets"] == 32 * timed.facts["steps"]
    early = train(GP, steps=2000, gap=5.0, **settings)
    assert early.facts["steps"] == 100  # the first check of twenty
    with pytest.raises(ModelError, match="exact predictive of this model is not known"):
        train(normal_mean, steps=100, gap=0.1, **settings)


@pytest.fixture(scope="module")
def normalized():
    return train(unknown_scale, steps=400, learning_rate=3e-3, normalize=True, **SMALL)


@pytest.mark.slow
def test_targets_are_read_in_units_of_their_data_set(normalized):
    """y_i - 3 given n others is Student-t with 2 + n degrees of freedom.

    Its scale is sqrt((1 + sum (y - 3)^2 / 2) / (1 + n / 2)).

    A network that reads targets as they are loses more after as many steps: z > 4 over data sets.
    """
    rng, rows = np.random.default_rng(0), 10
    y = 3 + rng.normal(size=(512, 20)) / np.sqrt(rng.gamma(1.0, 1.0, size=(512, 1)))
    batch = Batch(
        jnp.zeros((512, 20, 1)),
        jnp.asarray(y, jnp.float32),
        jnp.full(512, rows, jnp.int32),
        jnp.zeros((512, 0)),
    )
    plain = train(unknown_scale, steps=400, learning_rate=3e-3, **SMALL)
    log_q, log_plain = (
        np.asarray(score_queries(p.network, batch, 10, p.grids.target)[0], float).mean(1)
        for p in (normalized, plain)
    )
    spread = np.sqrt((1 + ((y[:, :rows] - 3) ** 2).sum(1) / 2) / (1 + rows / 2))[:, None]
    lost = stats.t(2 + rows, 3, spread).logpdf(y[:, 10:]).mean(1) - log_q
    more = log_q - log_plain
    assert more.mean() > 4 * more.std() / np.sqrt(512)
    assert lost.mean() > -4 * lost.std() / np.sqrt(
        512
    )  # no distribution is better than the exact one


@pytest.mark.slow
def test_a_network_in_units_answers_as_any_other(normalized, tmp_path):
    X, y = np.zeros((8, 1)), 3 + 4 * np.random.default_rng(0).normal(size=8)
    post = bdl.fit(unknown_scale, X, y, engine=normalized, progress=False)
    prediction = post.predict(X)
    np.testing.assert_allclose(prediction.cdf(prediction.quantile(0.3)), 0.3, atol=1e-3)
    assert np.isfinite(prediction.crps(y)).all()
    assert np.isfinite(np.asarray(post.predict(X[:2]).sample(3))).all()
    assert amortized.ood(post).p > 0.02
    loaded = bdl.PFN.load(normalized.save(tmp_path / "units.pfn"), unknown_scale)
    again = bdl.fit(unknown_scale, X, y, engine=loaded, progress=False).predict(X)
    np.testing.assert_array_equal(again.mean, prediction.mean)
    more = train(unknown_scale, steps=1, normalize=True, start=loaded, **SMALL)
    assert more.network.shape == normalized.network.shape
    with pytest.raises(ModelError, match="has sizes"):
        train(unknown_scale, steps=1, start=loaded, **SMALL)
    with pytest.warns(UserWarning, match="targets from"):
        bdl.fit(unknown_scale, X, 1e9 * y, engine=normalized, progress=False)
