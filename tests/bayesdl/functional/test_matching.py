"""Priors matched to functions: known scales, real data, networks."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functional_toys import FAMILIES, LINE, SMALL, SMOOTH, TABLE, arcsine

import bayesdl as bdl
from bayesdl import priors
from bayesdl.bnn.conv import convolve
from bayesdl.gp import kernels
from inference.core.structure import PlainProduct


def test_a_network_is_matched_in_one_dimension():
    """The published dual has sd ratio 0.73, marginal W1 0.22, sliced W1 0.27 in 225 CPU seconds."""
    model = bdl.BNN(hidden=(50, 50, 50), standardize=False)
    prior = bdl.match_prior(model, to=SMOOTH, inputs=LINE, progress=False)
    report = bdl.prior_report(model.with_prior(prior), to=SMOOTH, inputs=LINE, num_functions=4000)
    assert 0.95 < np.median(report.sd_ratio) < 1.06
    assert report.marginal_w1.mean() < 0.05
    assert report.sliced_w1 < 0.20
    before = bdl.prior_report(model, to=SMOOTH, inputs=LINE, num_functions=4000)
    assert not before.close and before.sliced_w1 > 2 * report.sliced_w1


@pytest.fixture
def boston_matched(reference):
    data = reference.uci("boston")
    X, model, gp = (
        data["X"][~data["test"][0]],
        bdl.BNN(hidden=(100,)),
        bdl.GP(kernels.RBF(ard=True)),
    )

    @functools.cache
    def report(name):
        lacks = pytest.warns(UserWarning, match="Normal weights cannot have such tails")
        with lacks if name == "gaussian" else contextlib.nullcontext():
            prior = bdl.match_prior(model, to=gp, inputs=X, family=FAMILIES[name], progress=False)
        held = data["X"][data["test"][0]]
        return bdl.prior_report(
            model.with_prior(prior), to=gp, inputs=X, at=held, num_points=70, num_functions=1024
        )

    return report


@pytest.mark.slow
def test_boston_with_random_hyperparameters(boston_matched):
    """Heavy tails of the target: excess kurtosis above 4, which normal weights cannot have."""
    assert min(boston_matched(name).correlation_error for name in FAMILIES) < 0.16
    assert boston_matched("flow").sliced_w1 < 1.3 * boston_matched("flow").floor
    assert boston_matched("hierarchical").kurtosis[0] > 1
    assert (
        abs(boston_matched("gaussian").kurtosis[0]) < 0.1
        and boston_matched("gaussian").kurtosis[1] > 3
    )


@pytest.mark.slow
def test_known_scales_are_recovered():
    """At these scales the noise of the distance moves each of them by less than 2 %.

    The noise is known from the covariance of its gradients and its Hessian. Where hidden units are
    nearly linear, only a combination of the first layer's weights and biases is known.
    """
    weight, bias = (2.0, 1.0), (1.0, 0.3)
    X = np.linspace(-6, 6, 60)[:, None]
    lower = np.linalg.cholesky(arcsine(X, weight, bias) + 1e-9 * np.eye(60))

    def wide(key, points, num):
        np.testing.assert_allclose(points, X)
        return np.asarray(jax.random.normal(key, (num, 60))) @ lower.T

    model = bdl.BNN(hidden=(2048,), activation="erf", standardize=False)
    settings = {"to": wide, "inputs": X, "num_points": 60, "seed": 1}
    prior = bdl.match_prior(
        model, **settings, steps=600, num_functions=256, pull=0.0, progress=False
    )
    np.testing.assert_allclose([*prior.weight, *prior.bias], [*weight, *bias], rtol=0.05)
    report = bdl.prior_report(model.with_prior(prior), **settings, num_functions=500)
    assert report.p_value > 0.01


@pytest.mark.slow
def test_the_dual_moves_the_scale_the_right_way():
    model, wide = (
        bdl.BNN(hidden=(10,), standardize=False),
        kernels.RBF(lengthscale=1.0, variance=25.0),
    )
    settings = {
        "loss": "wasserstein",
        "steps": 5,
        "num_functions": 32,
        "num_points": 10,
        "progress": False,
    }
    with pytest.warns(UserWarning, match="not near the target"):
        prior = bdl.match_prior(model, to=wide, inputs=LINE, **settings)
    assert prior.weight[-1] > 1.2


@pytest.mark.parametrize("loss", ["energy", "sliced_w2", "bures"])
@pytest.mark.slow
def test_other_distances(loss):
    """From a network whose functions are less than half as large as the target's."""
    large = kernels.RBF(lengthscale=1.0, variance=9.0)
    settings = {"to": large, "inputs": LINE[::4] / 6}
    before = bdl.prior_report(SMALL, **settings)
    prior = bdl.match_prior(
        SMALL, **settings, loss=loss, steps=60, progress=False, start_wide=loss == "bures"
    )
    report = bdl.prior_report(SMALL.with_prior(prior), **settings)
    assert np.median(before.sd_ratio) < 0.5 and 0.85 < np.median(report.sd_ratio) < 1.15
    assert report.sliced_w1 < before.sliced_w1 / 2


@pytest.mark.slow
def test_equal_seeds_give_equal_priors_and_outputs_are_matched_jointly():
    model = bdl.BNN(hidden=(10,), likelihood=bdl.Categorical(), activation="relu")
    X = np.random.default_rng(0).normal(size=(80, 3))

    def equal_outputs(key, points, num):
        return np.repeat(
            np.asarray(jax.random.normal(key, (num, 1, 1))) * np.ones((num, len(points), 1)),
            3,
            axis=2,
        )

    settings = {"to": kernels.RBF(lengthscale=2.0, variance=1.0), "inputs": X, "num_targets": 3}
    one, other = (bdl.match_prior(model, **settings, steps=40, progress=False) for _ in range(2))
    assert one == other
    apart = bdl.prior_report(model.with_prior(one), **settings)
    joint = bdl.prior_report(model.with_prior(one), **(settings | {"to": equal_outputs}))
    assert apart.network.shape[1] == 3 * len(apart.points)
    assert (
        joint.correlation_error > 0.5 > 2 * apart.correlation_error
    )  # two thirds of the pairs are of different outputs


def test_convolutions_are_those_of_jax():
    h, key = np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jax.random.key(0)
    weight = jax.random.normal(key, (4, 3, 3, 3))
    dims = ("NHWC", "OIHW", "NHWC")
    theirs = jax.lax.conv_general_dilated(
        jnp.asarray(h, float), weight, (1, 1), "SAME", dimension_numbers=dims
    )
    ours = convolve("layer0.weight", jnp.asarray(h, float), weight, PlainProduct())
    np.testing.assert_allclose(ours, theirs / np.sqrt(27), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("residual", [False, True])
def test_convolutional_networks_are_matched_and_fitted(residual):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 8, 8)), rng.integers(0, 3, 60)
    model = bdl.BNN(
        network=bdl.ConvNet((8, 8), (4, 4), residual=residual), likelihood=bdl.Categorical()
    )
    target = kernels.RBF(lengthscale=10.0, variance=20.0)
    settings = {"to": target, "inputs": X, "num_targets": 3, "num_points": 20}
    prior = bdl.match_prior(model, **settings, steps=120, num_functions=64, progress=False)
    assert len(prior.weight) == (7 if residual else 3)
    before = bdl.prior_report(
        model.with_prior(priors.LayerGaussian()), **settings, num_functions=300
    )
    after = bdl.prior_report(model.with_prior(prior), **settings, num_functions=300)
    assert after.sliced_w1 < 0.6 * before.sliced_w1
    post = bdl.fit(model.with_prior(prior), X, y, engine=bdl.VI(steps=50), progress=False)
    np.testing.assert_allclose(post.predict(X[:4]).probs.sum(1), 1.0, rtol=1e-5)


def test_a_report_says_where_and_how_far():
    report = bdl.prior_report(SMALL, to=SMOOTH, inputs=LINE, num_functions=300)
    assert report.require(sd_ratio=(1e-3, 1e3), marginal_w1=100.0, sliced_w1=100.0) is report
    with pytest.raises(
        bdl.PriorMismatch,
        match=r"sd ratio is not between 0.99 and 1.01 at \d+ of 100 points, worst: .* at x = ",
    ):
        report.require(sd_ratio=(0.99, 1.01))
    with pytest.raises(bdl.PriorMismatch, match="sliced W1 over its floor is"):
        report.require(sliced_w1_over_floor=1.0)
    with pytest.raises(ValueError, match=r"expected \(least, most\)"):
        report.require(sd_ratio=1.2)
    with pytest.raises(ValueError, match="nothing is required"):
        report.require()
    with pytest.raises(bdl.PriorMismatch):
        dataclasses.replace(report, correlation_error=np.nan).require(correlation_error=0.5)
    assert "NOT near" in repr(report) and "jitter" in repr(report)
    assert len(report.plot(before=report)) == 3
    table = bdl.prior_report(
        bdl.BNN(hidden=(5,)), to=kernels.RBF(), inputs=TABLE, num_functions=100
    )
    assert len(table.plot()) == 2
    with pytest.raises(ValueError, match="at different points"):
        table.plot(before=report)
