"""Student-t processes against SciPy, quadrature over the scale, and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import bayesdl as bdl
from bayesdl.checks import prior
from inference.exact.gp import condition
from inference.exact.scale_mixture import ScaledNormal

RNG = np.random.default_rng(0)
X, Y, X_NEW = RNG.normal(size=(5, 1)), 3 * RNG.normal(size=5), RNG.normal(size=(3, 1))
KERNEL, NOISE = bdl.kernels.RBF(0.7, 1.3), 0.3**2
PRIORS = {
    "inverse gamma": (dist.InverseGamma(1.5, 2.5), stats.invgamma(1.5, scale=2.5)),
    "half-Cauchy": (dist.HalfCauchy(1.0), stats.halfcauchy()),
    "log-normal": (dist.LogNormal(0.5, 1.0), stats.lognorm(1.0, scale=np.exp(0.5))),
    # which the rows contradict
    "narrow": (dist.LogNormal(-0.5, 0.05), stats.lognorm(0.05, scale=np.exp(-0.5))),
}


def covariance(A, B):
    return 1.3 * np.exp(-((A - B.T) ** 2) / (2 * 0.7**2))


S = covariance(X, X) + (NOISE + 1e-8) * np.eye(5)


def fitted(scale):
    model = bdl.StudentTProcess(KERNEL, bdl.Normal(0.3), scale, standardize=False)
    return bdl.fit(model, X, Y, engine=bdl.ExactGP(), progress=False)


def over_scale(prior, function):
    """Return the integral of function(s) p(y, s) over log s."""
    quadratic, log_det = Y @ np.linalg.solve(S, Y), np.linalg.slogdet(S)[1]

    def integrand(t):
        normal = np.exp(-(5 * (np.log(2 * np.pi) + t) + log_det + quadratic * np.exp(-t)) / 2)
        return normal * prior.pdf(np.exp(t)) * np.exp(t) * function(np.exp(t))

    points = [*np.linspace(-1.0, 0.5, 50)[1:-1], -1.0, 0.0, 1.0, 2.0, 4.0, 8.0]
    return integrate.quad(integrand, -30, 40, epsabs=0, epsrel=1e-12, limit=400, points=points)[0]


def test_the_density_is_that_of_scipy():
    expected = stats.multivariate_t.logpdf(Y, shape=2.5 / 1.5 * S, df=3.0)
    found = fitted(dist.InverseGamma(1.5, 2.5)).raw.info["log_evidence"]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("name", PRIORS)
def test_evidence_and_predictions_are_integrals_over_the_scale(name):
    scale, reference = PRIORS[name]
    post = fitted(scale)
    evidence = over_scale(reference, lambda s: 1.0)
    np.testing.assert_allclose(post.raw.info["log_evidence"], np.log(evidence), rtol=1e-8)
    prediction = post.predict(X_NEW)
    k = covariance(X, X_NEW)
    mean = k.T @ np.linalg.solve(S, Y)
    variance = 1.3 - np.sum(k * np.linalg.solve(S, k), axis=0) + NOISE
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-6)
    spread = over_scale(reference, lambda s: s) / evidence * variance
    np.testing.assert_allclose(prediction.std**2, spread, rtol=1e-5)
    y_new = np.array([0.3, -2.0, 1.0])
    density = [
        over_scale(reference, lambda s, y=y, m=m, v=v: stats.norm.pdf(y, m, (s * v) ** 0.5))
        for y, m, v in zip(y_new, mean, variance, strict=True)
    ]
    np.testing.assert_allclose(
        prediction.log_prob(y_new), np.log(np.array(density) / evidence), rtol=1e-6
    )
    low, high = prediction.interval(0.9)
    draws = prediction.sample(2000)
    inside = np.mean((draws > low) & (draws < high), axis=0)
    assert np.all(np.abs(inside - 0.9) < 4 * (0.09 / 2000) ** 0.5)


def test_intervals_hold_for_five_rows():
    """Coverage of 90 % intervals where the scale is drawn from its prior, and not known."""
    rng, inside, count = np.random.default_rng(1), 0, 0
    model = bdl.StudentTProcess(KERNEL, bdl.Normal(0.3), standardize=False)
    schema = model.learn_schema(X, Y)
    predictive = model.structure(schema)
    with jax.enable_x64(True):
        distribution = jax.jit(lambda *data: condition(predictive, {}, *data).distribution)
        for _ in range(1500):
            rows = rng.normal(size=(6, 1))
            K = covariance(rows, rows) + NOISE * np.eye(6)
            scale = 1 / rng.gamma(2.0, 1 / 2.0)
            y = scale**0.5 * np.linalg.cholesky(K) @ rng.normal(size=6)
            found = distribution(rows[:5], y[:5], rows[5:])
            p = stats.t.cdf((y[5] - found.loc) / found.scale, found.df)
            inside, count = inside + (0.05 < p[0] < 0.95), count + 1
    assert abs(inside / count - 0.9) < 4 * (0.09 / count) ** 0.5


def test_samplers_run_it():
    model = bdl.StudentTProcess(bdl.kernels.RBF(variance=1.0), scale=dist.HalfCauchy(1.0))
    post = bdl.fit(model, X, Y, engine=bdl.NUTS(50, 50, 2), progress=False)
    assert set(post.samples) == {"kernel.lengthscale", "sigma"}
    assert np.isfinite(post.predict(X_NEW).std).all()


@pytest.mark.parametrize("scale", [2.0, dist.Normal(0.0, 1.0), dist.Gamma(np.ones(2), 1.0)])
def test_other_scales_are_refused(scale):
    with pytest.raises(ValueError, match="one positive number"):
        bdl.StudentTProcess(scale=scale)


def test_gpytorch_and_sparse_engines_say_that_they_cannot():
    for engine in (bdl.SparseGP(), bdl.GPyTorchGP()):
        with pytest.raises(ValueError, match=r"use bdl\.ExactGP|cannot be written in GPyTorch"):
            bdl.fit(bdl.StudentTProcess(), X, Y, engine=engine, progress=False)


@pytest.mark.parametrize("name", PRIORS)
def test_rows_left_out_are_ratios_of_densities(name):
    model = bdl.StudentTProcess(KERNEL, bdl.Normal(0.3), PRIORS[name][0])
    with jax.enable_x64(True):
        S_, y = jnp.asarray(S), jnp.asarray(Y)

        def density(rows):
            root = jnp.linalg.cholesky(S_[jnp.ix_(rows, rows)])
            return ScaledNormal(root, model.known_scale).log_prob(y[rows])

        whole = jnp.arange(5)
        found, levels = ScaledNormal(jnp.linalg.cholesky(S_), model.known_scale).left_out(y)
        for i in range(5):
            expected = density(whole) - density(jnp.delete(whole, i))
            np.testing.assert_allclose(found[i], expected, rtol=1e-8)
        assert np.all((levels >= 0) & (levels <= 1))


def test_draws_of_the_prior_have_the_scale():
    """A scale that is nearly known, 100, makes targets ten times as large."""
    sds = []
    for scale in (dist.LogNormal(0.0, 1e-3), dist.LogNormal(np.log(100.0), 1e-3)):
        model = bdl.StudentTProcess(KERNEL, bdl.Normal(0.3), scale, standardize=False)
        schema = model.learn_schema(X, Y)
        problem = model.problem(schema, X, Y)
        keys = jax.random.split(jax.random.key(0), 50)
        with jax.enable_x64(True):
            y, f = prior._simulate(problem, "y", False, keys)
        sds.append((y.std(), f.std()))
    np.testing.assert_allclose(sds[1], 10 * np.array(sds[0]), rtol=1e-2)
