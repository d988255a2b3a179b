"""Weight priors: log densities against SciPy, and samplers against log densities."""

import jax
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy import stats

import bayesdl as bdl
from bayesdl.bnn.networks import MLP
from bayesdl.model.language import NUMPYRO
from bayesdl.priors import WeightArray

WEIGHT = WeightArray("w", (3, 4), 4, 1, False)
BIAS = WeightArray("b", (3,), 4, 1, True)
PRIORS = {
    "gaussian": bdl.priors.Gaussian(1.7),
    "gaussian per layer": bdl.priors.Gaussian((0.5, 2.0)),
    "gaussian fan-in": bdl.priors.Gaussian(1.7, fan_in=True),
    "laplace": bdl.priors.Laplace(0.8),
    "student": bdl.priors.StudentT(5.0, 0.8),
    "horseshoe": bdl.priors.Horseshoe(0.5),
    "half-normal": bdl.priors.Hierarchical("half_normal", scale=0.7),
    "inverse-gamma": bdl.priors.Hierarchical("inverse_gamma", concentration=3.0, rate=2.0),
}
NORMAL = stats.norm(0, 1)


def expected_log_density(name, v):
    """The log density of one array's sites by SciPy."""
    raw = NORMAL.logpdf(v["w.raw"]).sum() if "w.raw" in v else 0.0
    return {
        "gaussian": lambda: stats.norm.logpdf(v["w"], 0, 1.7).sum(),
        "gaussian per layer": lambda: stats.norm.logpdf(v["w"], 0, 2.0).sum(),
        "gaussian fan-in": lambda: stats.norm.logpdf(v["w"], 0, 1.7 / 2).sum(),
        "laplace": lambda: stats.laplace.logpdf(v["w"], 0, 0.8).sum(),
        "student": lambda: stats.t.logpdf(v["w"], 5.0, 0, 0.8).sum(),
        "horseshoe": lambda: (
            raw
            + stats.halfcauchy.logpdf(v["w.local"]).sum()
            + stats.halfcauchy.logpdf(v["w.global"], 0, 0.5)
        ),
        "half-normal": lambda: raw + stats.halfnorm.logpdf(v["w.scale"], 0, 0.7),
        "inverse-gamma": lambda: raw + stats.invgamma.logpdf(v["w.variance"], 3.0, 0, 2.0),
    }[name]()


def draw(prior, array, key):
    sites = handlers.trace(handlers.seed(prior.draw, key)).get_trace(array, NUMPYRO)
    return {k: s["value"] for k, s in sites.items()}


@pytest.mark.parametrize("name", PRIORS)
def test_log_density_equals_scipy(name):
    values = draw(PRIORS[name], WEIGHT, jax.random.key(1))
    latent = {k: v for k, v in values.items() if k != "w" or len(values) == 1}
    ours, _ = log_density(PRIORS[name].draw, (WEIGHT, NUMPYRO), {}, latent)
    assert float(ours) == pytest.approx(expected_log_density(name, values), rel=1e-5)


# the distribution of one weight, all scales integrated out
MARGINALS = {
    "gaussian": stats.norm(0, 1.7).cdf,
    "gaussian per layer": stats.norm(0, 2.0).cdf,
    "gaussian fan-in": stats.norm(0, 0.85).cdf,
    "laplace": stats.laplace(0, 0.8).cdf,
    "student": stats.t(5.0, 0, 0.8).cdf,
    # a normal distribution with inverse-gamma variance is a Student-t distribution
    "inverse-gamma": stats.t(6.0, 0, np.sqrt(2.0 / 3.0)).cdf,
}


@pytest.mark.parametrize("name", MARGINALS)
@pytest.mark.quick_cases(2)
def test_sampler_follows_the_marginal_distribution(name):
    """A Kolmogorov-Smirnov test on 5,000 draws of one weight, wrong in 1 of 10,000 runs."""
    keys = jax.random.split(jax.random.key(2), 5000)
    weights = jax.jit(jax.vmap(lambda key: draw(PRIORS[name], WEIGHT, key)["w"][0, 0]))(keys)
    assert stats.kstest(np.asarray(weights, float), MARGINALS[name]).pvalue > 1e-4


@pytest.mark.parametrize("name", ["horseshoe", "half-normal"])
@pytest.mark.quick_cases(1)
def test_hierarchical_sampler_follows_its_definition(name):
    keys = jax.random.split(jax.random.key(3), 5000)
    weights = np.asarray(
        jax.jit(jax.vmap(lambda key: draw(PRIORS[name], WEIGHT, key)["w"][0, 0]))(keys), float
    )
    rng = np.random.default_rng(0)
    z = rng.normal(size=20_000)
    if name == "horseshoe":
        scale = np.abs(rng.standard_cauchy(20_000)) * np.abs(0.5 * rng.standard_cauchy(20_000))
    else:
        scale = np.abs(0.7 * rng.normal(size=20_000))
    assert stats.ks_2samp(weights, z * scale).pvalue > 1e-4


def test_scale_of_a_layer_is_shared():
    values = draw(bdl.priors.Hierarchical(), WEIGHT, jax.random.key(4))
    np.testing.assert_allclose(values["w"], values["w.scale"] * values["w.raw"], rtol=1e-6)
    assert values["w.scale"].shape == ()


def test_bias_is_not_divided_by_fan_in():
    value, _ = log_density(
        bdl.priors.Gaussian(2.0, fan_in=True).draw, (BIAS, NUMPYRO), {}, {"b": np.ones(3)}
    )
    assert float(value) == pytest.approx(stats.norm.logpdf(1, 0, 2.0) * 3, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: bdl.priors.Gaussian(0.0),
        lambda: bdl.priors.Gaussian((1.0, -1.0)),
        lambda: bdl.priors.Laplace(-1.0),
        lambda: bdl.priors.StudentT(df=0.0),
        lambda: bdl.priors.Horseshoe(float("inf")),
        lambda: bdl.priors.Hierarchical("gamma"),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_networks_against_numpy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    for activation, f in {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "sine": np.sin,
        "silu": lambda x: x / (1 + np.exp(-x)),
        "gelu": lambda x: x * stats.norm.cdf(x),
    }.items():
        for scaling in ("ntk", "standard"):
            net = MLP((5, 4), activation, scaling)
            arrays = net.weight_arrays(3, 2)
            w = {array.name: rng.normal(size=array.shape) for array in arrays}
            h = X
            for layer in range(3):
                W, b = w[f"layer{layer}.weight"], w[f"layer{layer}.bias"]
                h = h @ W.T / (np.sqrt(W.shape[1]) if scaling == "ntk" else 1) + b
                h = f(h) if layer < 2 else h
            np.testing.assert_allclose(net.apply(w, X, NUMPYRO), h, rtol=2e-4, atol=1e-5)


def test_what_is_identified():
    deep, linear = bdl.BNN(hidden=(4,), prior=bdl.priors.Hierarchical()), bdl.BNN(hidden=())
    assert deep.identified("layer0.weight.scale")
    assert deep.with_prior(bdl.priors.Horseshoe()).identified("layer1.weight.global")
    assert not deep.identified("layer0.weight.raw")
    assert not deep.with_prior(bdl.priors.Gaussian()).identified("layer0.weight")
    assert linear.identified("layer0.weight")
    assert deep.identified("sigma")


@pytest.mark.slow
def test_any_equinox_module():
    import equinox as eqx

    module = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    post = bdl.fit(
        bdl.BNN(network=module),
        X,
        X[:, 0] + 0.1 * rng.normal(size=30),
        engine=bdl.Laplace(),
        progress=False,
    )
    assert post.samples["layers.0.weight"].shape == (1, 1000, 4, 2)
    assert post.score(X, X[:, 0])["rmse"] < 0.3


def test_equinox_module_of_the_wrong_width_is_refused():
    import equinox as eqx

    module = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    with pytest.raises(bdl.ModelError, match="3 outputs, expected 1"):
        bdl.fit(
            bdl.BNN(network=module),
            np.random.default_rng(0).normal(size=(9, 2)),
            np.arange(9.0),
            progress=False,
        )


@pytest.mark.parametrize("name", ["laplace", "student", "horseshoe"])
def test_laplace_refuses_priors_without_a_normal_shape(name):
    """No curvature describes a kink or a heavy tail, and scales of weights are too many."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    with pytest.raises(
        bdl.UnsupportedError, match=r"normal with one scale per layer.*Engines that can: NUTS"
    ):
        bdl.fit(bdl.BNN((), prior=PRIORS[name]), X, X[:, 0], engine=bdl.Laplace(), progress=False)


@pytest.mark.slow
def test_degrees_of_freedom_leave_a_finite_variance():
    """With noise of 2.5 degrees of freedom every draw of df is above 2, so y has a variance."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 1))
    y = X[:, 0] + 0.3 * rng.standard_t(2.5, size=40)
    post = bdl.fit(
        bdl.BNN((), likelihood=bdl.StudentT()), X, y, engine=bdl.NUTS(200, 300, 2), progress=False
    )
    prediction = post.predict(X)
    assert post.samples["df"].min() > 2
    assert np.isfinite(prediction.mean).all() and np.isfinite(prediction.std).all()
