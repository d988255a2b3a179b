"""Processes with f at the rows latent: scikit-learn, closed forms, and NumPyro by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process import kernels as theirs

import bayesdl as bdl

RNG = np.random.default_rng(0)
X = np.sort(RNG.uniform(-3, 3, 40))[:, None]
F = 2 * np.sin(2 * X[:, 0])
LABELS = RNG.uniform(size=40) < special.expit(F)
COUNTS = RNG.poisson(np.exp(F / 2 + 1))
X_NEW = np.linspace(-3.5, 3.5, 9)[:, None]
KERNEL = bdl.kernels.RBF(0.7, 2.0)


def fitted(likelihood, y, engine, kernel=KERNEL, x=X, **named):
    model = bdl.GP(kernel, likelihood, standardize=False)
    return bdl.fit(model, x, y, engine=engine, progress=False, **named)


def covariance(A, B):
    return 2.0 * np.exp(-((A - B.T) ** 2) / (2 * 0.7**2))


ROOT = np.linalg.cholesky(covariance(X, X) + 2e-8 * np.eye(40))


def test_two_classes_are_those_of_scikit_learn():
    post = fitted("bernoulli", LABELS, bdl.Laplace())
    reference = GaussianProcessClassifier(2.0 * theirs.RBF(0.7), optimizer=None).fit(X, LABELS)
    _, mode = reference.base_estimator_._posterior_mode(covariance(X, X), True)[:2]
    mode = covariance(X, X) @ (LABELS - reference.base_estimator_.pi_)
    np.testing.assert_allclose(ROOT @ post.raw.params["loc"], mode, atol=1e-4)
    root = ROOT @ post.raw.params["covariance_root"]
    w = special.expit(mode) * special.expit(-mode)
    K = covariance(X, X)
    expected = K - K @ np.linalg.solve(K + np.diag(1 / w), K)
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-6)
    # of 1,000 draws; scikit-learn's integral of the sigmoid is exact to about 0.001
    found, probs = post.predict(X_NEW).probs[:, 1], reference.predict_proba(X_NEW)[:, 1]
    draws = post.predict(X_NEW, kind="mean").draws[:, :, 1]
    assert np.all(np.abs(found - probs) < 4 * draws.std(0) / np.sqrt(1000) + 0.002)


def test_the_search_has_the_gradient_of_the_evidence_of_scikit_learn():
    """The mode of the evidence, under a prior that is flat where the data speak."""
    wide = dist.LogNormal(0.0, 100.0)
    post = fitted("bernoulli", LABELS, bdl.Laplace(), bdl.kernels.RBF(wide, wide))
    found = GaussianProcessClassifier(2.0 * theirs.RBF(0.7)).fit(X, LABELS).kernel_
    with jax.enable_x64(True):
        at_mode = post.problem.log_density().unravel(jnp.asarray(post.raw.params["loc"]))
    np.testing.assert_allclose(at_mode["kernel.lengthscale"], found.theta[1], atol=2e-3)
    np.testing.assert_allclose(at_mode["kernel.variance"], found.theta[0], atol=4e-3)


def hand_written(counts=None):
    distance = (X - X.T) ** 2
    lengthscale = numpyro.sample("lengthscale", dist.LogNormal(0.0, 0.5))
    K = 2.0 * jnp.exp(-distance / (2 * lengthscale**2)) + 2e-8 * jnp.eye(40)
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand((40,)).to_event(1))
    f = numpyro.deterministic("f", jnp.linalg.cholesky(K) @ z)
    numpyro.sample("y", dist.Poisson(jnp.exp(f)).to_event(1), obs=counts)


def by_hand(seed):
    kernel = numpyro.infer.NUTS(hand_written)
    mcmc = numpyro.infer.MCMC(kernel, num_warmup=300, num_samples=1000, progress_bar=False)
    with jax.enable_x64(True):
        mcmc.run(jax.random.key(seed), COUNTS)
        return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))


@pytest.mark.slow
def test_counts_are_those_of_numpyro_by_hand():
    kernel = bdl.kernels.RBF(dist.LogNormal(0.0, 0.5), 2.0)
    post = fitted("poisson", COUNTS, bdl.NUTS(300, 500, 2), kernel)
    reference = by_hand(1)
    from arviz_stats.base.array import array_stats

    for ours, other in (("kernel.lengthscale", "lengthscale"), ("f", "f")):
        one, two = post.samples[ours], reference[other]
        one = one[..., 0] if one.ndim == 4 else one
        errors = []
        for values in (one, two):
            ess = array_stats.ess(values, method="mean", chain_axis=0, draw_axis=1)
            errors.append(values.std((0, 1)) / np.sqrt(ess))
        z = (one.mean((0, 1)) - two.mean((0, 1))) / np.hypot(*errors)
        # of 41 numbers
        assert np.abs(z).max() < 4, (ours, z)


def test_a_normal_likelihood_is_that_of_the_closed_form():
    """The program of any likelihood, with the one that has a closed form."""
    y = F + 0.5 * np.random.default_rng(1).normal(size=40)
    exact = fitted(bdl.Normal(0.5), y, bdl.ExactGP())

    class Latent(bdl.GP):
        integrates_out = False

    model = Latent(KERNEL, bdl.Normal(0.5), standardize=False)
    # the posterior is normal, so that Laplace's draws are independent ones of it
    post = bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)
    total = 1000
    for rows in (X_NEW, X[:9]):
        found, known = post.predict(rows), exact.predict(rows)
        means = post.predict(rows, kind="mean").draws
        sd = np.sqrt(known.std**2 - 0.25)
        np.testing.assert_allclose(found.aleatoric, 0.5, rtol=1e-6)
        assert np.all(np.abs(found.mean - known.mean) < 4 * sd / np.sqrt(total))
        assert np.all(np.abs(found.epistemic / sd - 1) < 4 / np.sqrt(2 * total))
        # together too, as one function
        joint = np.corrcoef(means[:, 0], means[:, 1])[0, 1]
        K, k = covariance(X, X) + 0.25 * np.eye(40), covariance(X, rows[:2])
        C = covariance(rows[:2], rows[:2]) - k.T @ np.linalg.solve(K, k)
        between = np.arctanh(C[0, 1] / np.sqrt(C[0, 0] * C[1, 1]))
        assert abs(np.arctanh(joint) - between) < 4 / np.sqrt(total)
        samples = post.predict(rows).sample(1000)
        assert np.all(np.abs(samples.mean(0) - known.mean) < 4 * known.std / np.sqrt(total))


def test_log_evidence_of_nested_laplace_is_exact_for_a_normal_likelihood():
    y = F + 0.5 * np.random.default_rng(1).normal(size=40)

    class Latent(bdl.GP):
        integrates_out = False

    kernel = bdl.kernels.RBF(None, 2.0)
    exact = fitted(bdl.Normal(), y, bdl.ExactGP("map"), kernel)
    model = Latent(kernel, bdl.Normal(), standardize=False)
    post = bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)
    with jax.enable_x64(True):
        at_mode = post.problem.log_density().constrain(jnp.asarray(post.raw.params["loc"]))
    for site in ("kernel.lengthscale", "sigma"):
        np.testing.assert_allclose(at_mode[site], exact.raw.params[site], rtol=1e-3)


def test_new_rows_of_equal_number_do_not_get_f_of_the_training_rows():
    post = fitted("poisson", COUNTS, bdl.Laplace())
    far = post.predict(X + 100.0)
    # the prior: E exp(f) = exp(1), of a heavy-tailed exp(f)
    np.testing.assert_allclose(np.log(far.quantile(0.5) + 0.5), 0.2, atol=0.35)
    assert np.abs(post.predict(X[::-1]).mean - post.predict(X).mean[::-1]).max() < 1e-2
    np.testing.assert_allclose(
        post.predict(X_NEW, batch_size=2).mean, post.predict(X_NEW).mean, rtol=1e-9
    )


CASES = {
    "student_t": F + 0.1 * RNG.standard_t(2, 40),
    "negative binomial": RNG.poisson(np.exp(F / 2 + 1) * RNG.gamma(2.0, 0.5, 40)),
    "categorical": np.array(["a", "b", "c"])[np.digitize(F, [-1, 1])],
    "heteroscedastic": F + np.exp(X[:, 0] / 2 - 1) * RNG.normal(size=40),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mode_of_f_is_that_of_a_search(name, tmp_path):
    """Of all likelihoods at fixed hyperparameters, and a file brings the same back."""
    likelihood = {
        "student_t": bdl.StudentT(4.0, 0.2),
        "negative binomial": bdl.NegativeBinomial(2.0),
        "heteroscedastic": bdl.Normal("heteroscedastic"),
    }.get(name, name)
    post = fitted(likelihood, CASES[name], bdl.Laplace())
    with jax.enable_x64(True):
        density = post.problem.log_density()
        slope = jax.grad(density)(jnp.asarray(post.raw.params["loc"]))
        hessian = jax.hessian(density)(jnp.asarray(post.raw.params["loc"]))
    assert np.abs(slope).max() < 1e-4
    root = post.raw.params["covariance_root"]
    np.testing.assert_allclose(root.T @ -np.asarray(hessian) @ root, np.eye(len(root)), atol=1e-6)
    back = bdl.load(post.save(tmp_path / "fit"))
    y = CASES[name]
    np.testing.assert_array_equal(back.predict(X).log_prob(y), post.predict(X).log_prob(y))


def test_words_and_other_likelihoods():
    assert bdl.GP(likelihood="StudentT").likelihood == bdl.StudentT()
    assert bdl.GP(likelihood="negative-binomial") == bdl.GP(likelihood=bdl.NegativeBinomial())
    with pytest.raises(bdl.ModelError, match="one of the words 'normal', 'student_t'"):
        bdl.GP(likelihood="gamma")
    with pytest.raises(bdl.ModelError, match=r"StudentTProcess takes likelihood=bdl.Normal"):
        bdl.StudentTProcess(likelihood="poisson")


def test_engines_that_need_a_closed_form_name_those_that_can():
    for engine in (bdl.ExactGP(), bdl.SparseGP()):
        with pytest.raises(bdl.UnsupportedError, match=r"normal noise.* NUTS, .* VI, Laplace"):
            fitted("bernoulli", LABELS, engine)


def test_auto_takes_laplace():
    assert isinstance(fitted("bernoulli", LABELS, "auto").engine, bdl.Laplace)


def test_weights_of_two_are_rows_twice():
    weights = np.full(40, 1.0)
    weights[:20] = 2.0
    halves = fitted("poisson", COUNTS, bdl.Laplace(), weights=weights + 1e-9)
    twice = np.r_[0:20, 0:40]
    copies = fitted("poisson", COUNTS[twice], bdl.Laplace(), x=X[twice])
    one = halves.predict(X, kind="mean").mean
    two = copies.predict(X, kind="mean").mean
    error = np.hypot(halves.predict(X).epistemic, copies.predict(X).epistemic) / np.sqrt(1000)
    assert np.all(np.abs(one - two) < 4 * error + 1e-3)


def test_verbs():
    post = fitted("bernoulli", LABELS, bdl.NUTS(100, 100, 2))
    assert list(post.predict(X_NEW).probs.shape) == [9, 2]
    found = post.loo()
    f = post.samples["f"].reshape(-1, 40)
    density = stats.bernoulli.logpmf(LABELS.astype(int), special.expit(f))
    full = special.logsumexp(density, axis=0) - np.log(200)
    assert found.elpd < full.sum()
    np.testing.assert_allclose(found.elpd + found.p, full.sum(), rtol=1e-6)
    assert 0 < post.check_predictive(num_samples=50).table["p"].iloc[0] <= 1
    assert all(np.isfinite(value) for value in post.score(X_NEW, X_NEW[:, 0] > 0).values())
    prior = bdl.prior_predictive(bdl.GP(KERNEL, "bernoulli"), X, LABELS, num_samples=500)
    # half of the labels are one, with the spread of f that all rows of a data set share
    shares = prior.y.mean(1)
    assert abs(shares.mean() - 0.5) < 4 * shares.std() / np.sqrt(500)


def test_too_many_rows_are_refused():
    rows = np.arange(5001.0)[:, None]
    with pytest.raises(bdl.DataError, match="got 5001 rows, at most 5000"):
        fitted("poisson", np.ones(5001, int), bdl.VI(), x=rows)


def test_priors_of_several_length_scales_need_ard():
    several = dist.LogNormal(jnp.zeros(2), 1.0)
    with pytest.raises(bdl.ModelError, match=r"shape \(2,\), expected one of a single .*ard=True"):
        bdl.kernels.RBF(several)
    with pytest.raises(bdl.ModelError, match=r"shape \(2,\) and the model has 1 inputs"):
        fitted("poisson", COUNTS, bdl.Laplace(), bdl.kernels.RBF(several, ard=True))
    with pytest.raises(bdl.ModelError, match=r"Periodic\(period=...\): the prior has shape"):
        bdl.kernels.Periodic(several)
