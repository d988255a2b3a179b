"""Prior-data fitted networks: bars against numerical integration, the network's invariances, training against exact answers."""

import dataclasses
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bayesdl as bdl
from bayesdl import amortized
from bayesdl.checks.convergence import TrustWarning
from bayesdl.data.validation import ModelError
from bayesdl.model.table import TableProgram
from bayesdl.posterior.prediction import crps
from inference.amortized.certificate import score_queries
from inference.amortized.kinds import init_network
from inference.amortized.network import Shape, context_units
from inference.amortized.tasks import Batch, Tasks
from inference.distributions.bars import Bars, Grids, fit_grid
from inference.distributions.shifted_bars import ShiftedBars

SMALL = {
    "max_rows": 10,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "hidden": 32,
    "bars": 50,
    "progress": False,
}
GP = bdl.GP(bdl.kernels.RBF(lengthscale=0.5, variance=1.0), bdl.Normal(0.1), standardize=False)


def normal_mean(X, y=None):
    """Rows say nothing but by their number: y ~ N(mu, 1), mu ~ N(0, 1)."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def with_offset(X, offset=None, y=None):
    """The same with a covariate that training leaves out."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    offset = jnp.zeros(X.shape[0]) if offset is None else offset
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + offset, 1.0), obs=y)


def mostly_five(X, y=None):
    """Most targets are the same number."""
    which = numpyro.sample("which", dist.Bernoulli(0.1).expand([X.shape[0]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(5.0, jnp.where(which == 1, 1.0, 1e-30)), obs=y)


@pytest.fixture(scope="module")
def bars():
    """Five laws on edges of normal targets; of the first the outer bars hold much."""
    rng = np.random.default_rng(0)
    edges, scales = fit_grid(rng.normal(size=100_000), 100)
    logits = rng.normal(size=(5, 100))
    logits[0, [0, -1]] = 4.0
    return Bars(jnp.asarray(logits), jnp.asarray(edges), jnp.asarray(scales))


def test_density_cdf_and_moments_are_of_one_distribution(bars):
    grid = np.linspace(-9, 9, 20_001)
    y = np.sort(
        np.concatenate([grid, *(np.asarray(bars.edges[0], float) + side for side in (-1e-7, 1e-7))])
    )  # it jumps there
    with jax.enable_x64(True):
        law = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        density = np.exp(np.asarray(law.log_prob(jnp.asarray(y)[:, None])))
        cdf = np.asarray(law.cdf(jnp.asarray(y)[:, None]))
        mean, variance = np.asarray(law.mean), np.asarray(law.variance)
    np.testing.assert_allclose(np.trapezoid(density, y, axis=0), 1, atol=1e-4)
    between = np.concatenate(
        [
            np.zeros((1, 5)),
            np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(y)[:, None], axis=0),
        ]
    )
    np.testing.assert_allclose(cdf - cdf[0], between, atol=1e-4)
    np.testing.assert_allclose(np.trapezoid(density * y[:, None], y, axis=0), mean, atol=1e-4)
    np.testing.assert_allclose(
        np.trapezoid(density * (y[:, None] - mean) ** 2, y, axis=0), variance, rtol=1e-3
    )


@pytest.mark.slow
def test_crps_is_the_integral_of_squared_differences(bars):
    """At targets in the bars and in both tails; the cdf is piecewise smooth between edges and targets."""
    t = np.linspace(-12, 12, 400_001)
    with jax.enable_x64(True):
        law = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        cdf = np.asarray(law.cdf(jnp.asarray(t)[:, None]))
        for y in (-4.0, -0.3, 0.5, 3.7):
            expected = np.trapezoid((cdf - (t >= y)[:, None]) ** 2, t, axis=0)
            np.testing.assert_allclose(law.crps(jnp.asarray(y)), expected, atol=1e-4)


def test_quantiles_invert_the_cdf_in_the_tails_too(bars):
    q = jnp.concatenate([jnp.linspace(1e-4, 1 - 1e-4, 999), jnp.array([1e-3, 0.999])])[:, None]
    values = bars.icdf(q)
    assert (
        float(values.min())
        < float(bars.edges[0, 0])
        < float(bars.edges[0, -1])
        < float(values.max())
    )
    np.testing.assert_allclose(bars.cdf(values), jnp.broadcast_to(q, values.shape), atol=1e-5)
    draws = np.asarray(bars.sample(jax.random.key(0), (20_000,)))
    for column in range(5):
        uniform = np.asarray(bars.cdf(jnp.asarray(draws)))[:, column]
        assert stats.kstest(uniform, "uniform").pvalue > 0.001


def test_the_best_bars_lose_little_of_a_normal_law():
    """100 equally probable bars with edges of two million targets, against the entropy of N(0, 1)."""
    rng = np.random.default_rng(0)
    edges, scales = fit_grid(rng.normal(size=2_000_000), 100)
    law = Bars(jnp.zeros(100), jnp.asarray(edges), jnp.asarray(scales))
    points = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    lost = -float(law.log_prob(jnp.asarray(points)).mean()) - stats.norm.entropy()
    assert 0 <= lost + 1e-4 < 0.005
    assert float(law.variance) == pytest.approx(1.0, abs=0.02)


def test_far_from_zero_the_variance_is_right():
    """Edges within 0.1 of each other around 1000, in single precision."""
    edges, logits = 1000 + jnp.linspace(-0.1, 0.1, 9), jnp.zeros(10)
    near = Bars(logits, edges - 1000, jnp.full(2, 0.05))
    assert float(Bars(logits, edges, jnp.full(2, 0.05)).variance) == pytest.approx(
        float(near.variance), rel=0.02
    )


def test_targets_with_ties_have_no_bars():
    with pytest.raises(ValueError, match="have ties"):
        fit_grid(np.arange(10).repeat(100), 50)


@pytest.fixture(
    scope="module", params=[("rows", None), ("rows", (0.5, 2.0)), ("cells", (0.5, 2.0))], ids=str
)
def network(request):
    """Weights of a network that does something: none is zero."""
    tokens, unit = request.param
    shape = Shape(
        2,
        5,
        width=16,
        layers=2,
        heads=2,
        hidden=32,
        num_latents=1,
        latent_bars=3,
        tokens=tokens,
        unit=unit,
    )
    blank = init_network(shape, jax.random.key(0))
    leaves, structure = jax.tree.flatten(blank)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            leaf + 0.2 * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ],
    )


def context(rows=9, queries=6, seed=0):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.normal(size=(1, n, 2)), jnp.float32) for n in (rows, queries)), rng


@pytest.mark.parametrize(
    "rows", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
def test_padding_order_and_other_queries_change_nothing(network, rows):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    count = jnp.array([rows])
    expected = network.predict(network.condition(X, y, count), X_new)
    assert float(jnp.abs(expected).max()) > 0.1

    padded = network.condition(X.at[:, rows:].set(7.0), y.at[:, rows:].set(-5e6), count)
    np.testing.assert_array_equal(
        network.predict(padded, X_new), expected
    )  # padding is never attended to
    if padded.units is not None:
        np.testing.assert_array_equal(padded.units, network.condition(X, y, count).units)

    order = np.r_[np.arange(rows)[::-1], np.arange(rows, 9)]
    moved = network.predict(network.condition(X[:, order], y[:, order], count), X_new)
    np.testing.assert_allclose(moved, expected, atol=1e-4)

    cache = network.condition(X, y, count)
    others = network.predict(cache, X_new.at[:, 1:].add(3.0))
    np.testing.assert_array_equal(others[:, 0], expected[:, 0])
    one_by_one = jnp.concatenate([network.predict(cache, X_new[:, i : i + 1]) for i in range(6)], 1)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=1e-6)


def test_the_context_matters(network):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    few, many = (network.condition(X, y, jnp.array([n])) for n in (4, 5))
    assert float(jnp.abs(network.predict(few, X_new) - network.predict(many, X_new)).max()) > 1e-3
    assert float(jnp.abs(network.predict_latents(few) - network.predict_latents(many)).max()) > 1e-3


def test_the_order_of_columns_matters_to_rows_alone(network):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    answers = [
        network.predict(network.condition(X[..., way], y, jnp.array([7])), X_new[..., way])
        for way in ([0, 1], [1, 0])
    ]
    change = float(jnp.abs(answers[0] - answers[1]).max())
    assert change < 1e-4 if network.shape.tokens == "cells" else change > 0.1
    half = network.predict(network.condition(X, y, jnp.array([7])), X_new[..., [1, 0]])
    assert float(jnp.abs(answers[0] - half).max()) > 0.1


def test_the_first_layer_of_cells_knows_how_large_a_target_is():
    network = init_network(
        Shape(2, 5, width=16, layers=1, heads=2, hidden=32, tokens="cells"), jax.random.key(0)
    )
    (X, _), _ = context(rows=1)
    small, large = (
        network.condition(X, jnp.full((1, 1), y), jnp.array([1])).keys_values[0] for y in (1.0, 5.0)
    )
    assert float(jnp.abs(small - large)[:, 0, 1].max()) > 0.05  # of the target's own cell


def linear_program(X, y=None):
    """Bayesian linear regression, whose predictive is normal."""
    with numpyro.plate("columns", X.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ w, 0.5), obs=y)


CELLS = SMALL | {
    "num_inputs": 2,
    "tokens": "cells",
    "width": 32,
    "hidden": 64,
    "learning_rate": 3e-3,
}


@pytest.mark.slow
def test_a_network_of_cells_is_saved(tmp_path):
    pfn = bdl.PFN.train(linear_program, steps=30, **CELLS)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 2)), rng.normal(size=8)
    loaded = bdl.PFN.load(pfn.save(tmp_path / "cells.pfn"), linear_program)
    one, other = (
        bdl.fit(linear_program, X, y, engine=engine, progress=False).predict(X).mean
        for engine in (pfn, loaded)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_network_of_cells_learns_linear_regression():
    pfn = bdl.PFN.train(linear_program, steps=1500, **CELLS)
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


def test_units_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    y, rows, (c0, s0) = rng.normal(size=(4, 9)) * 3 + 1, np.array([0, 1, 5, 9]), (0.7, 2.0)
    found = np.asarray(context_units(jnp.asarray(y, jnp.float32), jnp.asarray(rows), (c0, s0)))
    for one, n, (center, spread) in zip(y, rows, found, strict=True):
        c = (c0 + one[:n].sum()) / (1 + n)
        assert center == pytest.approx(c, rel=1e-5)
        assert spread == pytest.approx(
            np.sqrt((s0**2 + (c0 - c) ** 2 + ((one[:n] - c) ** 2).sum()) / (1 + n)), rel=1e-5
        )


@pytest.mark.parametrize("ratio", [1e-3, 1.0, 1e5], ids="c/s={:g}".format)
def test_a_moved_law_is_that_of_c_plus_s_z(bars, ratio):
    """Density, cdf, quantiles, moments and CRPS by change of variables, each law with units of its own."""
    with jax.enable_x64(True):
        base = Bars(
            *(
                jnp.asarray(np.asarray(part), jnp.float64)
                for part in (bars.logits, bars.edges, bars.scales)
            )
        )
        s = jnp.linspace(0.5, 3.0, 5)
        c = ratio * s
        z = jnp.linspace(-3.0, 3.0, 5)
        law, y = ShiftedBars(base, c, s), c + s * z
        pairs = {
            "density": (law.log_prob(y), base.log_prob(z) - jnp.log(s)),
            "cdf": (law.cdf(y), base.cdf(z)),
            "quantile": (law.icdf(jnp.full(5, 0.2)), c + s * base.icdf(jnp.full(5, 0.2))),
            "mean": (law.mean, c + s * base.mean),
            "variance": (law.variance, s**2 * base.variance),
            "crps": (law.crps(y), s * base.crps(z)),
            "sample": (
                law.sample(jax.random.key(0), (3,)),
                c[None] + s[None] * base.sample(jax.random.key(0), (3,)),
            ),
        }
    for name, (got, expected) in pairs.items():
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9, err_msg=name)


def test_tasks_are_draws_of_the_program():
    """Second moments of a Gaussian process's targets against its covariance, z < 4; unused columns are zero."""
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


@pytest.fixture(scope="module")
def trained():
    return bdl.PFN.train(normal_mean, steps=1200, learning_rate=3e-3, latents=("mu",), **SMALL)


def test_a_conjugate_model_is_learned(trained):
    """p(y | data) = N(sum / (n + 1), 1 + 1 / (n + 1)): the gap to it over many data sets, at several numbers of rows."""
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


def test_fit_predicts_and_is_saved(trained, tmp_path):
    X, y = np.random.default_rng(0).normal(size=(7, 1)), np.random.default_rng(1).normal(size=7) + 1
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    prediction = post.predict(X[:3])
    assert prediction.mean[0] == pytest.approx(y.sum() / 8, abs=0.2)
    assert prediction.std[0] == pytest.approx(np.sqrt(1 + 1 / 8), rel=0.15)
    np.testing.assert_allclose(prediction.cdf(prediction.quantile(0.9)), 0.9, atol=1e-3)

    again = bdl.PFN.load(trained.save(tmp_path / "mean.pfn"), model=normal_mean)
    assert repr(again) == repr(trained)
    np.testing.assert_array_equal(
        bdl.fit(normal_mean, X, y, engine=again, progress=False).predict(X[:3]).mean,
        prediction.mean,
    )
    loaded = bdl.load(post.save(tmp_path / "fit.bdl"), model=normal_mean, engine=trained)
    np.testing.assert_array_equal(loaded.predict(X[:3]).mean, prediction.mean)
    with pytest.raises(bdl.BundleError, match="not a bayesdl-pfn bundle"):
        bdl.PFN.load(tmp_path / "fit.bdl")
    with pytest.raises(bdl.BundleError, match="trained on another program"):
        bdl.PFN.load(tmp_path / "mean.pfn", model=with_offset)
    other = dataclasses.replace(trained, grids=jax.tree.map(lambda part: 2 * part, trained.grids))
    with pytest.raises(bdl.BundleError, match="fitted with another PFN"):
        bdl.load(tmp_path / "fit.bdl", model=normal_mean, engine=other)


def test_arguments_that_were_not_in_training_are_refused(trained):
    other = dataclasses.replace(
        trained, tasks=dataclasses.replace(trained.tasks, program=with_offset)
    )
    X, y = np.zeros((3, 1)), np.arange(3.0)
    with pytest.raises(bdl.UnsupportedError, match="argument 'offset' is given"):
        bdl.fit(with_offset, X, offset=y, y=y, engine=other, progress=False)
    ours = bdl.fit(with_offset, X, y=y, engine=other, progress=False).predict(X).mean
    np.testing.assert_array_equal(
        ours, bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(X).mean
    )


def test_what_lies_outside_training_is_said(trained):
    X, y = np.zeros((7, 1)), np.zeros(7)
    with pytest.warns(UserWarning, match="12 rows, trained for at most 10"):
        bdl.fit(normal_mean, np.zeros((12, 1)), np.zeros(12), engine=trained, progress=False)
    with pytest.warns(UserWarning, match="targets from 0 to 90, trained for"):
        bdl.fit(normal_mean, X, y + 90 * (np.arange(7) == 3), engine=trained, progress=False)
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    assert post.raw.info["outside"] == []
    with pytest.warns(UserWarning, match="inputs from 50 to 50, trained for"):
        post.predict(X + 50)
    with pytest.raises(bdl.UnsupportedError, match="X has 2 columns, and it was trained for 1"):
        bdl.fit(normal_mean, np.zeros((7, 2)), y, engine=trained, progress=False)
    with pytest.raises(bdl.UnsupportedError, match="it was trained on"):
        bdl.fit(GP, X + np.arange(7)[:, None], np.arange(7.0), engine=trained, progress=False)


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
        (bdl.RandomBNN(), {"tokens": "cells", "num_inputs": (1, 3)}, "for one number of columns"),
        (bdl.BNN(likelihood=bdl.Bernoulli()), {"normalize": True}, "these are classes"),
        (mostly_five, {"normalize": True}, "half of the prior's targets are 5"),
        (bdl.BNN(), {"tokens": "columns"}, "expected 'rows' or 'cells'"),
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
        bdl.PFN.train(model, steps=1, **SMALL | settings)


@pytest.mark.slow
def test_equal_seeds_give_equal_networks_and_a_gp_has_its_gap():
    first, second = (bdl.PFN.train(GP, steps=3, **SMALL) for _ in range(2))
    for one, other in zip(
        jax.tree.leaves(first.network), jax.tree.leaves(second.network), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    gaps = [row["gap"] for row in first.certificate["rows"]]
    assert all(gap > -4 * error for gap, error in gaps)
    assert gaps[-1][0] > 0.5  # after three steps it has learned next to nothing, and says so
    assert first.certificate["change_with_other_queries"] == 0


@pytest.mark.slow
def test_classes():
    model = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli(), standardize=False)
    pfn = bdl.PFN.train(model, steps=400, learning_rate=3e-3, **SMALL)
    X = np.linspace(-2, 2, 10)[:, None]
    y = np.where(X[:, 0] > 0, "yes", "no")
    prediction = bdl.fit(model, X, y, engine=pfn, progress=False).predict(np.array([[-2.0], [2.0]]))
    np.testing.assert_allclose(prediction.probs.sum(1), 1, rtol=1e-6)
    assert prediction.probs[0, 0] > 0.6 and prediction.probs[1, 1] > 0.6


def test_the_posterior_of_a_latent_site_is_learned(trained):
    """mu | data ~ N(sum / (n + 1), 1 / (n + 1)); over data sets q's cdf is uniform, as the certificate says."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=10) + 1.0
    post = bdl.fit(normal_mean, rng.normal(size=(10, 1)), y, engine=trained, progress=False)
    mu = amortized.latent(post, "mu")
    assert float(mu.mean) == pytest.approx(y.sum() / 11, abs=0.15)
    low, high = mu.interval(0.9)
    assert low < y.sum() / 11 < high
    (found,) = trained.certificate["latents"]
    assert found["site"] == "mu" and found["p_uniform"] > 0.001
    n = np.arange(11)
    share = (n + 1) / 11
    weight = (
        1 / 11 + share**2 - (n / 11) ** 2
    ) / 2  # half of the contexts are uniform, half the larger of two
    exact = np.sum(weight * stats.norm.entropy(scale=1 / np.sqrt(n + 1)))
    assert found["nll"] - exact < 0.1 + 4 * np.sqrt(
        0.5 / 512
    )  # log density of a normal law has variance 1/2
    assert found["nll_of_prior"] - stats.norm.entropy() < 0.1 + 4 * np.sqrt(0.5 / 512)
    with pytest.raises(
        bdl.UnsupportedError, match=r"has no posterior of latent site 'sigma': it has \['mu'\]"
    ):
        amortized.latent(post, "sigma")


def test_joint_samples_follow_the_chain_rule(trained):
    """Cov(y_i, y_j | data) = 1 / (n + 1) of new rows, and marginals are those of the rows by themselves, z < 4."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(4, 1)), rng.normal(size=4)
    prediction = bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(X[:3])
    draws = prediction.sample(4000)
    error = prediction.std / np.sqrt(4000)
    assert (
        np.abs(draws.mean(0) - prediction.mean) < 4 * error + 0.05
    ).all()  # 0.05: what the network loses
    covariance = np.cov(draws.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(covariance, 1 / 5, atol=4 * 1.2 / np.sqrt(4000) + 0.05)
    alone = np.cov(prediction.marginal_samples(4000).T)[np.triu_indices(3, 1)]
    assert np.abs(alone).max() < 4 * 1.3 / np.sqrt(4000)
    large = bdl.fit(normal_mean, X, y, engine=trained, progress=False).predict(
        rng.normal(size=(300, 1))
    )
    with (
        pytest.warns(UserWarning, match="read their own rows too"),
        pytest.raises(ValueError, match="Joint samples of 300 rows"),
    ):
        large.sample(2)


@pytest.mark.slow
def test_data_unlike_the_prior_are_found(trained):
    """The p-value is uniform for data of the prior, and small for targets five times as large."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(10, 1))

    def p_of(y):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The data are outside")
            post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
        return amortized.ood(post, 99).p

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The data are unlike")  # one in fifty
        p = [p_of(rng.normal() + rng.normal(size=10)) for _ in range(40)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    with pytest.warns(UserWarning, match="unlike the prior's data"):
        assert p_of(5 * rng.normal(size=10)) <= 0.02
    nuts = bdl.NUTS(num_warmup=10, num_samples=10, num_chains=1)
    with pytest.raises(bdl.UnsupportedError, match="ood needs a fit by a PFN"):
        amortized.ood(bdl.fit(normal_mean, X, X[:, 0], engine=nuts, progress=False))


@pytest.mark.slow
def test_the_gap_to_another_engine_is_part_of_the_certificate(trained, tmp_path):
    """NUTS is exact up to Monte Carlo error here, so the gap to it is that to the closed form."""
    again = trained.certify(
        bdl.NUTS(num_warmup=200, num_samples=300, num_chains=1), num_tasks=12, progress=False
    )
    gap, error = again.certificate["engine"]["gap"]
    assert abs(gap) < 0.05 + 4 * error
    assert "gap to NUTS" in again.line and "gap not known" in trained.line
    assert (
        bdl.PFN.load(again.save(tmp_path / "mean.pfn"), model=normal_mean).certificate["engine"][
            "num_tasks"
        ]
        == 12
    )


def test_what_diagnose_says(trained):
    post = bdl.fit(
        normal_mean, np.zeros((7, 1)), np.arange(7.0) / 7, engine=trained, progress=False
    )
    assert "that of a PFN" in post.diagnose().verdict[0]
    with pytest.warns(UserWarning):
        outside = bdl.fit(
            normal_mean, np.zeros((12, 1)), np.arange(12.0) / 12, engine=trained, progress=False
        )
    with pytest.warns(UserWarning, match="12 rows, trained for at most 10"):
        assert not outside.diagnose().ok


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    from inference.amortized import saving as saved

    monkeypatch.setattr(saved, "SAVE_EVERY", 0.0)
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    whole = bdl.PFN.train(normal_mean, steps=120, **settings)
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
        bdl.PFN.train(normal_mean, steps=120, checkpoint=tmp_path / "run", **settings)
    resumed = bdl.PFN.train(normal_mean, steps=120, checkpoint=tmp_path / "run", **settings)
    assert resumed.hash == whole.hash
    assert resumed.facts["losses"] == whole.facts["losses"]
    with pytest.raises(bdl.CheckpointError, match="of another training: budget changed"):
        bdl.PFN.train(normal_mean, steps=150, checkpoint=tmp_path / "run", **settings)


@pytest.mark.slow
def test_architectures_and_columns_are_drawn():
    """Shares of classes, columns and depths of a prior over networks; unused columns do not matter."""
    model = bdl.RandomBNN(
        depth=(0, 2), width=(2, 8), likelihood=bdl.Categorical(), fewer_classes=True
    )
    tasks = Tasks(model.simulator(5)[0], (2, 4), 20, 5, "tabular")
    batch = jax.jit(lambda key: tasks.draw(key, 500))(jax.random.key(0))
    X, y = np.asarray(batch.X), np.asarray(batch.y)
    assert y.min() == 0 and y.max() == 4
    columns = (X != 0).any(1).sum(1)  # one of few values may be constant
    assert columns.max() == 4 and columns.min() < 3
    np.testing.assert_allclose(X[:, :, 0].mean(1), 0, atol=1e-5)
    sites = jax.vmap(lambda key: tasks.sites(key, batch.X[0])["depth"]["value"])(
        jax.random.split(jax.random.key(1), 600)
    )
    counts = np.bincount(np.asarray(sites), minlength=3)
    assert stats.chisquare(counts).pvalue > 0.001

    latents = {
        name: site["value"]
        for name, site in tasks.sites(jax.random.key(3), batch.X[0]).items()
        if name != "y"
    }
    assert latents["depth"].shape == ()


def test_the_variance_of_random_networks_is_that_of_their_formula():
    """Depth 0: f = U x / sqrt(p) + c with relevance 1, so Var f = |x|^2 / p + 1 for columns in use, z < 4."""
    model = bdl.RandomBNN(
        depth=(0, 0), relevance=1.0, likelihood=bdl.Normal(0.5), standardize=False
    )
    tasks = Tasks(model.simulator(1)[0], (1, 3), 2, 1)
    X = jnp.array([[1.0, -2.0, 0.0], [0.5, 0.5, 0.0], [0.0, 3.0, 0.0]])
    draw = jax.jit(jax.vmap(lambda key: tasks.sites(key, X)["y"]["value"]))
    y = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    expected = np.asarray((X**2).sum(1) / 2 + 1 + 0.25)
    assert (np.abs(y.var(0) / expected - 1) < 4 * np.sqrt(2 / 4000)).all()


def test_a_mixture_draws_from_each_model_with_its_weight():
    """Two laws that differ in their variance: the second and fourth moments of the mixture, z < 4."""
    small, large = (
        bdl.RandomBNN(depth=(0, 0), likelihood=bdl.Normal(scale), standardize=False)
        for scale in (0.1, 3.0)
    )
    mixture = bdl.PriorMixture((small, large), weights=(0.75, 0.25))
    tasks = Tasks(mixture.simulator(1)[0], (1, 1), 2, 1)
    X = jnp.zeros((3, 1))
    sites = jax.jit(
        jax.vmap(
            lambda key: {
                k: v["value"] for k, v in tasks.sites(key, X).items() if k in ("y", "component")
            }
        )
    )
    drawn = sites(jax.random.split(jax.random.key(0), 4000))
    component, y = np.asarray(drawn["component"]), np.asarray(drawn["y"])
    assert abs(component.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    for k, scale in ((0, 0.1), (1, 3.0)):
        within = np.diff(y[component == k], axis=1)[:, 0]  # of two rows, whose common c cancels
        assert abs(within.var() / (2 * scale**2) - 1) < 4 * np.sqrt(2 / len(within))
    X, y = np.arange(6.0)[:, None], np.arange(6.0)
    with pytest.raises(bdl.UnsupportedError, match="discrete"):
        bdl.fit(mixture, X, y, engine=bdl.NUTS(), progress=False)


@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        ((), {}, "expected table models"),
        ((bdl.BNN(), "gp"), {}, "expected table models"),
        ((bdl.BNN(), bdl.GP()), {"weights": (0.5, 0.6)}, "expected 2 positive numbers of sum 1"),
        ((bdl.BNN(), bdl.GP(standardize=False)), {}, "must agree in standardize"),
        ((bdl.BNN(), bdl.BNN(likelihood=bdl.Bernoulli())), {}, "must agree in likelihood kind"),
    ],
)
def test_mixtures_of_models_that_do_not_fit_are_refused(models, settings, message):
    with pytest.raises(ModelError, match=message):
        bdl.PriorMixture(models, **settings)


@pytest.mark.slow
def test_classes_that_the_data_lack_have_no_probability():
    model = bdl.RandomBNN(
        depth=(0, 1), width=(2, 4), likelihood=bdl.Categorical(), fewer_classes=True
    )
    pfn = bdl.PFN.train(model, steps=2, num_inputs=(1, 3), num_classes=5, inputs="tabular", **SMALL)
    X, y = np.random.default_rng(0).normal(size=(9, 2)), np.array(["a", "b", "c"] * 3)
    same = bdl.RandomBNN(
        depth=(0, 1), width=(2, 4), likelihood=bdl.Categorical(), fewer_classes=True
    )
    prediction = bdl.fit(same, X, y, engine=pfn, progress=False).predict(X)
    assert prediction.probs.shape == (9, 3)
    np.testing.assert_allclose(prediction.probs.sum(1), 1, rtol=1e-6)
    assert set(
        bdl.fit(same, X, y, engine=pfn, progress=False).predict(X[:2]).sample(5).ravel()
    ) <= {"a", "b", "c"}
    with pytest.raises(
        bdl.UnsupportedError, match="the data have 6 classes, and it was trained for 5"
    ):
        bdl.fit(same, X, np.arange(9) % 6, engine=pfn, progress=False)


@pytest.mark.slow
def test_training_over_devices_and_in_half_precision():
    """Two devices share a batch: losses agree to rounding; bfloat16 to its two digits. Warm starts go on."""
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    one, two, half = (
        bdl.PFN.train(normal_mean, steps=50, **settings, **more)
        for more in ({}, {"devices": 2}, {"precision": "bfloat16"})
    )
    assert two.facts["losses"] == pytest.approx(one.facts["losses"], abs=1e-3)
    assert half.facts["losses"] == pytest.approx(one.facts["losses"], rel=0.02)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half.network))
    lower = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), half.network)
    cache = lower.condition(jnp.zeros((1, 4, 1)), jnp.zeros((1, 4)), jnp.array([4]))
    assert cache.keys_values[0].dtype == jnp.bfloat16  # the arithmetic, not only the weights
    assert lower.predict(cache, jnp.zeros((1, 2, 1))).dtype == jnp.float32
    more = bdl.PFN.train(normal_mean, steps=50, start=one, **settings)
    assert more.facts["loss"] < one.facts["loss"]
    with pytest.raises(ModelError, match="has sizes"):
        bdl.PFN.train(normal_mean, steps=2, start=one, **settings | {"width": 16})


def test_a_time_is_turned_into_as_many_steps_as_it_holds():
    """Steps of at least 20 ms, ten of which are for measuring: a second holds at most 40 more."""
    from inference.amortized.training import State, affordable_steps

    def compiled(state, key, count, steps, grids):
        time.sleep(0.02 * int(count))
        return state

    steps = affordable_steps(
        State(*[None] * 4), compiled, jax.random.key(0), Grids(None), 1.0, time.perf_counter()
    )
    assert 1 <= steps <= 40


@pytest.mark.slow
def test_budgets():
    settings = SMALL | {"bars": 20, "width": 8, "layers": 1}
    timed = bdl.PFN.train(normal_mean, seconds=0.5, **settings)
    assert timed.facts["data_sets"] == 32 * timed.facts["steps"]
    early = bdl.PFN.train(GP, steps=2000, gap=5.0, **settings)
    assert early.facts["steps"] == 100  # the first check of twenty
    with pytest.raises(ModelError, match="exact predictive of this model is not known"):
        bdl.PFN.train(normal_mean, steps=100, gap=0.1, **settings)


def test_units_of_y_are_those_of_the_data():
    """A standardising model's answers move and stretch with y: means, densities, scores and samples."""
    pfn = bdl.PFN.pretrained("gp-regression")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    one, other = (
        bdl.fit(pfn.model, X, target, engine=pfn, progress=False).predict(X[:5])
        for target in (y, 100 + 50 * y)
    )
    np.testing.assert_allclose(other.mean, 100 + 50 * one.mean, rtol=1e-4)
    np.testing.assert_allclose(other.std, 50 * one.std, rtol=1e-3)
    np.testing.assert_allclose(
        other.log_prob(100 + 50 * y[:5]), one.log_prob(y[:5]) - np.log(50), atol=1e-3
    )
    np.testing.assert_allclose(other.crps(100 + 50 * y[:5]), 50 * one.crps(y[:5]), rtol=1e-3)
    np.testing.assert_allclose(other.quantile(0.9), 100 + 50 * one.quantile(0.9), rtol=1e-3)
    np.testing.assert_allclose(
        other.crps(y[:5]), crps(other.marginal_samples(20_000), y[:5]), rtol=0.02
    )
    assert (
        np.isnan(one.epistemic).all() and np.isnan(one.aleatoric).all()
    )  # a network does not tell them apart


@pytest.mark.slow
def test_the_shipped_regression_network_is_near_maximum_likelihood():
    """The same model by maximum likelihood, on smooth functions: nats lost a row, over eight data sets."""
    pfn, rng, lost = bdl.PFN.pretrained("gp-regression"), np.random.default_rng(0), []
    for _ in range(8):
        X = rng.normal(size=(60, 2))
        X = (X - X.mean(0)) / X.std(0)
        y = np.sin(X[:, 0]) + 0.5 * np.cos(X[:, 1]) + 0.2 * rng.normal(size=60)
        exact = bdl.fit(
            pfn.model,
            X[:40],
            y[:40],
            engine=bdl.ExactGP(hyperparameters="map", num_restarts=1),
            progress=False,
        ).predict(X[40:])
        ours = bdl.fit(pfn.model, X[:40], y[:40], engine=pfn, progress=False).predict(X[40:])
        lost.append(np.mean(exact.log_prob(y[40:]) - ours.log_prob(y[40:])))
    assert np.mean(lost) < 0.3 + 4 * np.std(lost) / np.sqrt(8)


def unknown_scale(X, y=None):
    """sigma^2 has an inverse-gamma law over three orders of magnitude, so y given data has a Student-t law."""
    variance = numpyro.sample("variance", dist.InverseGamma(1.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(3.0, jnp.sqrt(variance)), obs=y)


@pytest.fixture(scope="module")
def normalized():
    return bdl.PFN.train(unknown_scale, steps=400, learning_rate=3e-3, normalize=True, **SMALL)


@pytest.mark.slow
def test_targets_are_read_in_units_of_their_data_set(normalized):
    """y_i - 3 given n others is t with 2 + n degrees of freedom and scale sqrt((1 + sum (y - 3)^2 / 2) / (1 + n / 2)).

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
    plain = bdl.PFN.train(unknown_scale, steps=400, learning_rate=3e-3, **SMALL)
    log_q, log_plain = (
        np.asarray(score_queries(p.network, batch, 10, p.grids.target)[0], float).mean(1)
        for p in (normalized, plain)
    )
    spread = np.sqrt((1 + ((y[:, :rows] - 3) ** 2).sum(1) / 2) / (1 + rows / 2))[:, None]
    lost = stats.t(2 + rows, 3, spread).logpdf(y[:, 10:]).mean(1) - log_q
    more = log_q - log_plain
    assert more.mean() > 4 * more.std() / np.sqrt(512)
    assert lost.mean() > -4 * lost.std() / np.sqrt(512)  # no law is better than the exact one


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
    more = bdl.PFN.train(unknown_scale, steps=1, normalize=True, start=loaded, **SMALL)
    assert more.network.shape == normalized.network.shape
    with pytest.raises(ModelError, match="has sizes"):
        bdl.PFN.train(unknown_scale, steps=1, start=loaded, **SMALL)
    with pytest.warns(UserWarning, match="targets from"):
        bdl.fit(unknown_scale, X, 1e9 * y, engine=normalized, progress=False)


def test_what_a_pfn_refuses_after_training(trained):
    X, y = np.random.default_rng(0).normal(size=(9, 1)), np.arange(9.0) / 9
    with pytest.raises(bdl.DataError, match="not finite"):
        bdl.fit(normal_mean, X, np.where(y > 0.5, np.nan, y), engine=trained, progress=False)
    with pytest.raises(
        bdl.UnsupportedError,
        match="X has 100 rows, and more than 8 times the 10 that it was trained for",
    ):
        bdl.fit(normal_mean, np.zeros((100, 1)), np.zeros(100), engine=trained, progress=False)
    with pytest.raises(ModelError, match="1 to 10 rows, for which it was trained"):
        trained.certify(bdl.NUTS(), num_tasks=2, num_rows=11)
    post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
    with pytest.raises(ValueError, match="expected at least 99"):
        amortized.ood(post, 20)
    with pytest.warns(UserWarning, match="joint samples read their own rows too"):
        post.predict(X[:5]).sample(3)
    with pytest.raises(ValueError, match="expected 'gp-regression', 'tabular-classification'"):
        bdl.PFN.pretrained("gp")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\), expected \(rows, 1\)"),
        (np.zeros(3), r"shape \(3,\), expected"),
        (np.full((3, 1), np.nan), "not finite"),
    ],
)
def test_new_inputs_that_do_not_fit_are_refused(trained, X, message):
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=trained, progress=False)
    with pytest.raises(ValueError, match=message):
        _ = post.predict(X).mean


def test_what_a_certificate_says_against_a_network_is_in_the_diagnosis(trained):
    rows = [row | {"p_uniform": 1e-4} for row in trained.certificate["rows"]]
    engine = {"name": "NUTS", "gap": (0.3, 0.05), "num_tasks": 2, "num_rows": 5}
    doubtful = dataclasses.replace(
        trained, certificate=trained.certificate | {"rows": rows, "engine": engine}
    )
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=doubtful, progress=False)
    with pytest.warns(TrustWarning):
        verdict = " ".join(post.diagnose().verdict)
    assert (
        "loses 0.3 nats" in verdict
        and "not calibrated" in verdict
        and "2 data sets of 5 rows" in verdict
    )


def test_what_a_user_of_a_pfn_sees(trained, tmp_path):
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=trained, progress=False)
    summary = post.summary()
    assert summary.index.tolist() == ["mu"]
    assert summary.loc["mu", "5%"] < summary.loc["mu", "mean"] < summary.loc["mu", "95%"]
    assert "50%" in str(trained) and len(str(trained).splitlines()) == 2 + len(
        trained.certificate["rows"]
    )
    with pytest.raises(ValueError, match=r"bdl.amortized.ood\(post\)"):
        post.check_predictive()
    path = trained.save(tmp_path / "mean.pfn")
    with pytest.raises(bdl.BundleError, match=r"bdl.PFN.load\("):
        bdl.PFN.load(path)
    with pytest.raises(bdl.BundleError, match="another program"):
        bdl.PFN.load(path, lambda X, y=None: None)
    one = bdl.PFN.train(normal_mean, steps=1, latents="mu", **SMALL)
    assert one.tasks.latents == ("mu",)


def test_the_shipped_classifier_has_no_other_engine_to_compare_with():
    pfn = bdl.PFN.pretrained("tabular-classification")
    with pytest.raises(bdl.UnsupportedError, match="No other engine"):
        pfn.certify(bdl.NUTS())
    rng = np.random.default_rng(0)
    with pytest.raises(bdl.UnsupportedError, match="12 classes"):
        bdl.fit(pfn.model, rng.normal(size=(60, 3)), np.arange(60) % 12, engine=pfn, progress=False)


def test_another_models_network_is_refused():
    """Kernels that are code have the same name in data, and are not the same."""
    import tinygp

    from bayesdl.amortized.requirements import same_program

    one, other = (
        bdl.GP(kernel(0.5), bdl.Normal(0.1))
        for kernel in (tinygp.kernels.ExpSquared, tinygp.kernels.Matern32)
    )
    programs = [TableProgram(model, 1) for model in (one, other)]
    assert same_program(programs[0], programs[0])
    assert not same_program(*programs)
