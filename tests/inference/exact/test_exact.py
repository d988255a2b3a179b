"""Exact answers: conjugate linear regression and Gaussian processes against closed forms.

Tolerances for draws come from Monte Carlo standard errors (z < 4); deterministic engines must agree
to rounding.
"""

import dataclasses

import jax
import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as sk
from toys import sd_error

import bayesdl as bdl
from inference.core.minimise import minimise


def linear_data(n=40, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    return X, 0.5 + X @ rng.normal(size=p) + 0.3 * rng.normal(size=n)


def conjugate(X, y, sigma, X_new):
    """Posterior of w (bias last) under w ~ N(0, I), predictive mean, both variances."""
    design = np.c_[X, np.ones(len(X))]
    precision = design.T @ design / sigma**2 + np.eye(design.shape[1])
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ y / sigma**2
    new = np.c_[X_new, np.ones(len(X_new))]
    epistemic = np.einsum("ij,jk,ik->i", new, covariance, new)
    return mean, covariance, new @ mean, epistemic, epistemic + sigma**2


LINEAR = bdl.BNN(hidden=(), scaling="standard", likelihood=bdl.Normal(scale=0.3), standardize=False)


def flat_weights(samples):
    return np.concatenate([samples["layer0.weight"][..., 0, :], samples["layer0.bias"]], axis=-1)


@pytest.fixture(scope="module")
def linear():
    X, y = linear_data()
    X_new = np.random.default_rng(1).normal(size=(7, 3))
    return X, y, X_new, conjugate(X, y, 0.3, X_new)


def test_linear_regression_by_laplace_is_exact(linear):
    X, y, X_new, (mean, covariance, f, epistemic, _) = linear
    post = bdl.fit(LINEAR, X, y, engine=bdl.Laplace(), progress=False)
    root = post.raw.params["covariance_root"]
    order = [1, 2, 3, 0]  # the flat vector has the bias first
    np.testing.assert_allclose(post.raw.params["loc"][order], mean, atol=1e-5)
    np.testing.assert_allclose((root @ root.T)[np.ix_(order, order)], covariance, rtol=1e-6)
    prediction = post.predict(X_new)  # from 1,000 independent draws
    draws = post.samples["sigma"].size if "sigma" in post.samples else 1000
    assert np.all(np.abs(prediction.mean - f) < 4 * np.sqrt(epistemic / draws))


def test_laplace_weights_reach_the_evidence(linear):
    """log p(y, z) - log q(z) is the log evidence at every draw where q is the posterior."""
    X, y, _, _ = linear
    post = bdl.fit(LINEAR, X, y, engine=bdl.Laplace(), progress=False)
    design = np.c_[X, np.ones(len(X))]
    evidence = stats.multivariate_normal.logpdf(y, cov=design @ design.T + 0.3**2 * np.eye(len(y)))
    log_weights = np.asarray(post.raw.log_weights(jax.random.key(0), 50))
    np.testing.assert_allclose(log_weights, evidence, rtol=2e-5)


@pytest.mark.parametrize(
    "engine", [bdl.NUTS(500, 1000, 4), bdl.HMC(500, 1000, 4, num_steps=10)], ids=["NUTS", "HMC"]
)
@pytest.mark.quick_cases(1)
def test_linear_regression_by_mcmc(linear, engine):
    X, y, X_new, (mean, covariance, f, epistemic, _) = linear
    post = bdl.fit(LINEAR, X, y, engine=engine, progress=False)
    draws = flat_weights(post.samples).astype(float)
    axes = {"chain_axis": 0, "draw_axis": 1}
    assert np.all(np.abs(draws.mean((0, 1)) - mean) < 4 * array_stats.mcse(draws, **axes))
    assert np.all(np.abs(draws.std((0, 1)) - np.sqrt(np.diag(covariance))) < 4 * sd_error(draws))
    functions, prediction = draws[..., :3] @ X_new.T + draws[..., 3:], post.predict(X_new)
    assert np.all(np.abs(prediction.mean - f) < 4 * array_stats.mcse(functions, **axes))
    assert np.all(np.abs(prediction.epistemic - np.sqrt(epistemic)) < 4 * sd_error(functions))
    np.testing.assert_allclose(prediction.aleatoric, 0.3, rtol=1e-5)


@pytest.mark.slow
def test_full_rank_vi_finds_a_normal_posterior(linear):
    X, y, _, (mean, covariance, *_) = linear
    engine = bdl.VI(guide="full-rank", steps=5000, num_particles=4)
    post = bdl.fit(LINEAR, X, y, engine=engine, progress=False)
    draws = flat_weights(post.sample(20_000))
    sd = np.sqrt(np.diag(covariance))
    # The guide contains the posterior, so the only errors are Monte Carlo's (sd / 141 for a mean,
    # 0.5 % for an sd, from 20,000 draws) and those of the optimiser's noisy gradients: a tenth of
    # an sd bounds these for both.
    assert np.all(np.abs(draws.mean(0) - mean) < 0.1 * sd)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.1)
    assert post.diagnose().facts["pareto k"] < 0.7


RATES = np.arange(1, 4)


def bowl(u, noise=0.0):
    """A convex function with its minimum at 1, its value rounded as it were."""
    value = 1e4 + np.sum(np.cosh(RATES * (u - 1))) + noise * np.sin(1e9 * u.sum())
    return value, RATES * np.sinh(RATES * (u - 1))


SEARCHES = {
    "a minimum": (bowl, 100, True),
    "a minimum in rounding": (lambda u: bowl(u, 1e-5), 100, True),  # SciPy: "ABNORMAL"
    "not a number": (lambda u: (np.nan, np.full_like(u, np.nan)), 100, False),
    "infinite with no slope": (lambda u: (np.inf, np.zeros_like(u)), 100, False),
    "a gradient of the wrong sign": (lambda u: (bowl(u)[0], -bowl(u)[1]), 100, False),
    "too few steps": (bowl, 2, False),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # of SciPy's line search
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.quick_cases(2)
def test_a_search_says_whether_it_found_a_minimum(name):
    function, max_steps, expected = SEARCHES[name]
    u, converged = minimise(function, np.array([-3.0, 0.5, 2.0]), max_steps)
    assert converged == expected
    if expected:
        np.testing.assert_allclose(u, 1.0, atol=0.1)


def gp_data(n=30, seed=0):
    rng = np.random.default_rng(seed)
    X = np.sort(rng.uniform(-2, 2, size=(n, 1)), axis=0)
    return X, np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=n)


def test_gp_equals_the_textbook():
    """Means and variances to 1e-8 of a direct solve, in the units of y."""
    X, y = gp_data()
    X_new = np.linspace(-3, 3, 11)[:, None]
    model = bdl.GP(bdl.kernels.RBF(0.7, 1.5), likelihood=bdl.Normal(0.2))
    post = bdl.fit(model, X, y, engine=bdl.ExactGP(), progress=False)
    (a, b), (m, s) = (X.mean(), X.std()), (y.mean(), y.std())
    Z, Z_new, sigma = (X - a) / b, (X_new - a) / b, 0.2 / s

    def k(x, z):
        return 1.5 * np.exp(-0.5 * ((x - z.T) / 0.7) ** 2)

    K = k(Z, Z) + (sigma**2 + 1e-8) * np.eye(len(y))
    mean = k(Z_new, Z) @ np.linalg.solve(K, (y - m) / s)
    variance = 1.5 - np.einsum("ij,ji->i", k(Z_new, Z), np.linalg.solve(K, k(Z, Z_new)))
    prediction = post.predict(X_new)
    np.testing.assert_allclose(prediction.mean, m + s * mean, atol=1e-8)
    np.testing.assert_allclose(prediction.epistemic, s * np.sqrt(variance), atol=1e-8)
    np.testing.assert_allclose(prediction.aleatoric, 0.2, atol=1e-8)
    np.testing.assert_allclose(prediction.std, s * np.sqrt(variance + sigma**2), atol=1e-8)
    y_new = np.sin(2 * X_new[:, 0])
    expected = stats.norm.logpdf(y_new, prediction.mean, prediction.std)
    np.testing.assert_allclose(prediction.log_prob(y_new), expected, atol=1e-8)
    evidence = stats.multivariate_normal.logpdf((y - m) / s, cov=K)
    assert post.raw.info["log_evidence"] == pytest.approx(evidence, abs=1e-7)


@pytest.mark.slow
def test_gp_maximum_likelihood_equals_scikit_learn():
    X, y = gp_data()
    Z, t = (X - X.mean()) / X.std(), (y - y.mean()) / y.std()
    theirs = GaussianProcessRegressor(
        sk.ConstantKernel(1.0, (1e-3, 1e3)) * sk.RBF(1.0) + sk.WhiteKernel(0.1, (1e-6, 10)),
        n_restarts_optimizer=3,
        random_state=0,
    ).fit(Z, t)
    post = bdl.fit(bdl.GP(bdl.kernels.RBF()), X, y, engine=bdl.ExactGP(), progress=False)
    assert post.raw.info["log_evidence"] == pytest.approx(
        theirs.log_marginal_likelihood_value_, abs=1e-3
    )
    X_new = np.linspace(-2, 2, 9)[:, None]
    mean, std = theirs.predict((X_new - X.mean()) / X.std(), return_std=True)
    np.testing.assert_allclose(post.predict(X_new).mean, y.mean() + y.std() * mean, atol=1e-3)
    np.testing.assert_allclose(post.predict(X_new).std, y.std() * std, atol=1e-3)


@pytest.mark.slow
def test_gp_hyperparameters_by_nuts_agree_with_quadrature():
    """One unknown length scale: the posterior mean by NUTS against a sum over a fine grid."""
    import numpyro.distributions as dist

    X, y = gp_data(15)
    prior = dist.LogNormal(0.0, 0.5)
    model = bdl.GP(bdl.kernels.RBF(prior, 1.0), likelihood=bdl.Normal(0.3))
    post = bdl.fit(model, X, y, engine=bdl.NUTS(300, 1000, 2), progress=False)
    Z, t, sigma = (X - X.mean()) / X.std(), (y - y.mean()) / y.std(), 0.3 / y.std()
    grid = np.exp(np.linspace(-4, 4, 2001))
    log_p = [
        stats.multivariate_normal.logpdf(
            t, cov=np.exp(-0.5 * ((Z - Z.T) / v) ** 2) + sigma**2 * np.eye(len(t))
        )
        + stats.norm.logpdf(np.log(v), 0.0, 0.5)
        for v in grid
    ]
    weights = np.exp(log_p - np.max(log_p))
    expected = np.sum(weights * grid) / np.sum(weights)
    draws = post.samples["kernel.lengthscale"].astype(float)
    assert abs(draws.mean() - expected) < 4 * array_stats.mcse(draws, chain_axis=0, draw_axis=1)
    sampled = bdl.fit(model, X, y, engine=bdl.ExactGP("sample"), progress=False)
    assert sampled.samples["kernel.lengthscale"].shape == (2, 500)
    assert np.isfinite(sampled.predict(X).std).all()


@pytest.mark.slow
def test_pareto_k_is_that_of_the_importance_weights():
    """Weights w = U^-k have a Pareto tail of shape k; the estimator's sign is easily got wrong."""
    from inference.core.result import Approximation

    shape = 0.5
    post = bdl.fit(LINEAR, *linear_data(), engine=bdl.Laplace(), progress=False)

    def log_weight(key, params):
        return -shape * jax.numpy.log(jax.random.uniform(key))

    raw = Approximation(post.raw.params, post.raw.draw, log_weight, post.raw.losses)
    k = dataclasses.replace(post, raw=raw).diagnose().facts["pareto k"]
    assert (
        abs(k - shape) < 0.2
    )  # the estimate from 1,000 weights has a standard error of about 0.06


@pytest.mark.slow
def test_laplace_knows_how_unsure_the_noise_is():
    """log sigma by expectation maximisation of the Laplace evidence against NUTS.

    The bounds are those of a normal approximation to a log-gamma shape with 37 degrees of freedom,
    not Monte Carlo error.
    """
    X, y = linear_data()
    model = bdl.BNN(hidden=())
    laplace = bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)
    nuts = bdl.fit(model, X, y, engine=bdl.NUTS(500, 2000, 2), progress=False)
    ours, theirs = (np.log(post.samples["sigma"].astype(float)) for post in (laplace, nuts))
    assert laplace.raw.info["converged"]
    assert abs(ours.mean() - theirs.mean()) < 0.3 * theirs.std()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.15)


HIERARCHICAL = [bdl.priors.Hierarchical(), bdl.priors.Hierarchical("inverse_gamma")]


def mixture_over_scales(prior, X, y, sigma, X_new):
    """Predictive mean and epistemic sd of a linear model, its scales summed out on a grid."""
    design, new = np.c_[X, np.ones(len(X))], np.c_[X_new, np.ones(len(X_new))]
    if prior.family == "half_normal":
        grid = np.exp(np.linspace(-7, 3, 81))
        log_p = stats.halfnorm.logpdf(grid) + np.log(grid)
    else:
        grid = np.exp(np.linspace(-3, 5, 81))
        log_p = stats.invgamma.logpdf(grid**2, 1) + 2 * np.log(grid)
    parts = []
    for i, weight in enumerate(grid):
        for j, bias in enumerate(grid):
            precision = design.T @ design / sigma**2 + np.diag(
                np.r_[[weight**-2] * X.shape[1], bias**-2]
            )
            mean = np.linalg.solve(precision, design.T @ y) / sigma**2
            evidence = mean @ design.T @ y / sigma**2 / 2 - np.linalg.slogdet(precision)[1] / 2
            evidence += log_p[i] + log_p[j] - X.shape[1] * np.log(weight) - np.log(bias)
            parts.append(
                (
                    evidence,
                    new @ mean,
                    np.einsum("ij,ji->i", new, np.linalg.solve(precision, new.T)),
                )
            )
    evidence, means, variances = map(np.array, zip(*parts, strict=True))
    p = np.exp(evidence - evidence.max())
    p /= p.sum()
    return p @ means, np.sqrt(p @ variances + p @ means**2 - (p @ means) ** 2)


@pytest.mark.parametrize("prior", HIERARCHICAL, ids=lambda prior: prior.family)
@pytest.mark.slow
def test_laplace_with_unknown_prior_scales(linear, prior):
    """Normal approximations of scales limit it: sds within 15 %, means within a third of one."""
    X, y, X_new, _ = linear
    post = bdl.fit(
        dataclasses.replace(LINEAR, prior=prior), X, y, engine=bdl.Laplace(), progress=False
    )
    mean, sd = mixture_over_scales(prior, X, y, 0.3, X_new)
    prediction = post.predict(X_new)
    assert post.raw.info["converged"]
    np.testing.assert_allclose(prediction.epistemic, sd, rtol=0.15)
    assert np.all(np.abs(prediction.mean - mean) < sd / 3)


@pytest.mark.slow
@pytest.mark.parametrize("prior", HIERARCHICAL, ids=lambda prior: prior.family)
def test_laplace_of_a_network_with_unknown_prior_scales(prior):
    """A network is not linear: predictive sds agree with those of NUTS to 25 % on average."""
    X, y = linear_data(60)
    y = y + np.sin(2 * X[:, 0])
    model = bdl.BNN(hidden=(5,), prior=prior)
    laplace, nuts = (
        bdl.fit(model, X, y, engine=engine, progress=False).predict(X)
        for engine in (bdl.Laplace(), bdl.NUTS(500, 500, 2))
    )
    ratio = laplace.epistemic / nuts.epistemic
    assert 1 / 1.25 < np.exp(np.log(ratio).mean()) < 1.25
    np.testing.assert_allclose(laplace.std, nuts.std, rtol=0.25)


@pytest.mark.parametrize("engine", [bdl.ExactGP(), bdl.NUTS(100, 50, 1)], ids=["exact", "nuts"])
@pytest.mark.slow
def test_gp_samples_are_functions(engine):
    """Samples have the closed form's covariance; nearly equal inputs get nearly equal values."""
    X, y = gp_data()
    sigma = 0.05 * y.std()
    lengthscale = 0.7 if isinstance(engine, bdl.ExactGP) else None
    model = bdl.GP(bdl.kernels.RBF(lengthscale, 1.5), likelihood=bdl.Normal(sigma))
    post = bdl.fit(model, X, y, engine=engine, progress=False)
    X_new = np.array([[-3.5], [-3.4999], [0.0], [3.5]])
    samples = post.predict(X_new).sample(4000)
    assert samples.shape == (4000, 4)
    far = (samples - samples.mean(0)) / samples.std(0)
    assert np.mean(far[:, 0] * far[:, 1]) > 0.9
    if isinstance(engine, bdl.ExactGP):
        prediction = post.predict(X_new)
        assert np.all(
            np.abs(samples.mean(0) - prediction.mean) < 4 * prediction.std / np.sqrt(4000)
        )
        assert np.all(np.abs(samples.std(0) / prediction.std - 1) < 4 / np.sqrt(2 * 4000))
