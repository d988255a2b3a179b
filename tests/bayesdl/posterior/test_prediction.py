"""Predictive mixtures against SciPy: moments, densities, quantiles, samples, units, chunks."""

import gc
import weakref

import numpy as np
import pytest
from drawn_posteriors import drawn
from scipy import optimize, special, stats

import bayesdl as bdl
from bayesdl.posterior import streaming as stream
from bayesdl.posterior.prediction import crps
from inference.distributions.calibration import expected_calibration_error

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 2))
F = 1.5 * X[:, 0] - X[:, 1]
X_NEW = rng.normal(size=(23, 2))
QUICK = bdl.NUTS(num_warmup=100, num_samples=60, num_chains=2, start="prior")
TARGETS = {
    "normal": (bdl.Normal(), 3e4 + 40 * (F + 0.3 * rng.normal(size=50))),
    "fixed": (bdl.Normal(scale=12.0), 40 * (F + 0.3 * rng.normal(size=50))),
    "heteroscedastic": (bdl.Normal(scale="heteroscedastic"), F + 0.3 * rng.normal(size=50)),
    "student": (bdl.StudentT(), 10 + F + 0.3 * rng.standard_t(4, size=50)),
    "poisson": (bdl.Poisson(), rng.poisson(np.exp(0.5 * F))),
    "negative binomial": (
        bdl.NegativeBinomial(),
        rng.poisson(np.exp(0.5 * F) * rng.gamma(3, 1 / 3, size=50)),
    ),
    "fixed per target": (
        bdl.Normal(scale=(1.5, 40.0)),
        np.c_[5 + F, 100 * X[:, 1]] + 0.3 * rng.normal(size=(50, 2)),
    ),
    "two targets": (bdl.Normal(), np.c_[5 + F, 100 * X[:, 1]] + 0.3 * rng.normal(size=(50, 2))),
}


QUICK_TARGETS = ("normal", "poisson")  # the others compile variants of the same sampler


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(t, marks=[] if t in QUICK_TARGETS else [pytest.mark.slow]) for t in TARGETS
    ],
)
def case(request):
    likelihood, y = TARGETS[request.param]
    post = bdl.fit(bdl.BNN(hidden=(3,), likelihood=likelihood), X, y, engine=QUICK, progress=False)
    return request.param, y, post, post.predict(X_NEW, batch_size=10)


def components(name, y, post):
    """The law of y at X_NEW for each draw as a frozen SciPy distribution, arrays (draw, row[,
    target]), in units of y.
    """
    s = {k: v.reshape(-1, *v.shape[2:]).astype(float) for k, v in post.samples.items()}
    Z = (X_NEW - X.mean(0)) / X.std(0)
    h = np.tanh(Z @ np.swapaxes(s["layer0.weight"], 1, 2) / np.sqrt(2) + s["layer0.bias"][:, None])
    f = h @ np.swapaxes(s["layer1.weight"], 1, 2) / np.sqrt(3) + s["layer1.bias"][:, None]
    m, d = (0.0, 1.0) if name in ("poisson", "negative binomial") else (y.mean(0), y.std(0))
    sigma = s["sigma"][:, None] if "sigma" in s else None
    if name == "normal":
        return stats.norm(m + d * f[..., 0], d * sigma)
    if name == "two targets":
        return stats.norm(m + d * f, d * sigma)
    if name == "fixed per target":
        return stats.norm(m + d * f, np.array([1.5, 40.0]))
    if name == "fixed":
        return stats.norm(m + d * f[..., 0], 12.0)
    if name == "heteroscedastic":
        return stats.norm(m + d * f[..., 0], d * (np.logaddexp(0, f[..., 1]) + 1e-4))
    if name == "student":
        return stats.t(s["df"][:, None], m + d * f[..., 0], d * sigma)
    if name == "poisson":
        return stats.poisson(np.exp(f[..., 0]))
    r = s["concentration"][:, None]
    return stats.nbinom(r, r / (r + np.exp(f[..., 0])))


@pytest.mark.quick_cases(1)
def test_moments(case):
    name, y, post, prediction = case
    law = components(name, y, post)
    np.testing.assert_allclose(
        prediction.mean, law.mean().mean(0), rtol=1e-4, atol=1e-4 * np.std(y)
    )
    np.testing.assert_allclose(prediction.aleatoric, np.sqrt(law.var().mean(0)), rtol=1e-3)
    np.testing.assert_allclose(prediction.epistemic, law.mean().std(0), rtol=1e-3)
    np.testing.assert_allclose(
        prediction.std, np.sqrt(law.var().mean(0) + law.mean().var(0)), rtol=1e-3
    )


@pytest.mark.quick_cases(1)
def test_log_prob_is_the_mixture_density(case):
    name, y, post, prediction = case
    law = components(name, y, post)
    discrete = name in ("poisson", "negative binomial")
    y_new = np.asarray(y)[:23]
    values = law.logpmf(y_new) if discrete else law.logpdf(y_new)
    values = values.sum(-1) if y_new.ndim == 2 else values
    expected = special.logsumexp(values, axis=0) - np.log(len(values))
    np.testing.assert_allclose(prediction.log_prob(y_new), expected, rtol=2e-3, atol=2e-3)
    in_other_chunks = post.predict(X_NEW, batch_size=7).log_prob(y_new)
    np.testing.assert_allclose(prediction.log_prob(y_new), in_other_chunks, rtol=1e-5)


@pytest.mark.quick_cases(1)
def test_quantiles_invert_the_mixture_cdf(case):
    name, y, post, prediction = case
    law = components(name, y, post)
    levels = [0.05, 0.5, 0.95]
    quantiles = prediction.quantile(levels)
    for level, q in zip(levels, quantiles, strict=True):
        if name in ("poisson", "negative binomial"):
            assert np.all(law.cdf(q).mean(0) >= level - 1e-4)
            assert np.all(law.cdf(q - 1).mean(0) < level + 1e-4)
        else:
            np.testing.assert_allclose(law.cdf(q).mean(0), level, atol=2e-4)
    low, high = prediction.interval(0.9)
    np.testing.assert_array_equal(low, quantiles[0])
    np.testing.assert_array_equal(high, quantiles[2])


@pytest.mark.quick_cases(1)
def test_samples_follow_the_mixture(case):
    name, y, post, prediction = case
    samples = prediction.sample(4000)
    law = components(name, y, post)
    between = law.mean()
    # every draw is used 33 or 34 times, so little but the noise inside a draw adds error
    error = np.sqrt(law.var().mean(0) / 4000)
    uneven = np.abs(between - between.mean(0)).sum(0) / 4000
    assert np.all(np.abs(samples.mean(0) - between.mean(0)) < 4 * error + uneven + 1e-3 * np.std(y))
    assert samples.shape == (4000, *prediction.mean.shape)


@pytest.mark.parametrize(
    "likelihood", [bdl.Bernoulli(), bdl.Categorical()], ids=["bernoulli", "categorical"]
)
@pytest.mark.slow
def test_classes(likelihood):
    labels = np.where(F > 0, "yes", "no")
    if isinstance(likelihood, bdl.Categorical):
        labels = np.where(F > 1.5, "maybe", labels)
    post = bdl.fit(
        bdl.BNN(hidden=(3,), likelihood=likelihood), X, labels, engine=QUICK, progress=False
    )
    prediction = post.predict(X_NEW, batch_size=10)
    s = {k: v.reshape(-1, *v.shape[2:]).astype(float) for k, v in post.samples.items()}
    Z = (X_NEW - X.mean(0)) / X.std(0)
    h = np.tanh(Z @ np.swapaxes(s["layer0.weight"], 1, 2) / np.sqrt(2) + s["layer0.bias"][:, None])
    f = h @ np.swapaxes(s["layer1.weight"], 1, 2) / np.sqrt(3) + s["layer1.bias"][:, None]
    probs = (
        special.softmax(f, -1)
        if f.shape[-1] > 1
        else np.concatenate([special.expit(-f), special.expit(f)], -1)
    )
    np.testing.assert_allclose(prediction.probs, probs.mean(0), atol=1e-5)
    assert prediction.classes.tolist() == sorted(set(labels))
    np.testing.assert_array_equal(prediction.label, prediction.classes[probs.mean(0).argmax(-1)])
    entropy = special.entr(probs).sum(-1)
    np.testing.assert_allclose(prediction.aleatoric, entropy.mean(0), atol=1e-4)
    np.testing.assert_allclose(
        prediction.epistemic, special.entr(probs.mean(0)).sum(-1) - entropy.mean(0), atol=1e-4
    )
    index = np.searchsorted(prediction.classes, labels[:23])
    np.testing.assert_allclose(
        prediction.log_prob(labels[:23]), np.log(probs.mean(0)[np.arange(23), index]), atol=1e-4
    )
    scores = post.score(X, labels)
    assert set(scores) == {"accuracy", "nll", "brier", "ece", "ece_se"}
    assert scores["accuracy"] > 0.8
    assert set(np.unique(prediction.sample(50))) <= set(labels)


@pytest.mark.slow
def test_a_shift_of_the_target_shifts_the_prediction_exactly():
    """Standardisation is undone exactly: y -> a + b y gives a + b mean, and log densities lose log
    b.
    """
    y = F + 0.3 * np.random.default_rng(1).normal(size=50)
    one = bdl.fit(bdl.BNN(hidden=(3,)), X, y, engine=bdl.Laplace(), progress=False).predict(X_NEW)
    two = bdl.fit(
        bdl.BNN(hidden=(3,)), X * 3 + 2000, 1e6 + 2 * y, engine=bdl.Laplace(), progress=False
    ).predict(X_NEW * 3 + 2000)
    np.testing.assert_allclose((two.mean - 1e6) / 2, one.mean, atol=1e-3)
    np.testing.assert_allclose(
        two.log_prob(1e6 + 2 * one.mean), one.log_prob(one.mean) - np.log(2), atol=1e-3
    )


def test_crps_of_a_normal():
    """The fair estimate has the closed form sigma (1/sqrt(pi) - 2 phi(z) - z (2 Phi(z) - 1)) as
    its mean.
    """
    samples = np.random.default_rng(0).normal(size=(2000, 500))
    y = np.linspace(-3, 3, 500)
    exact = -1 / np.sqrt(np.pi) + 2 * stats.norm.pdf(y) + y * (2 * stats.norm.cdf(y) - 1)
    assert abs(np.mean(crps(samples, y) - exact)) < 0.005


def test_expected_calibration_error():
    assert expected_calibration_error(np.full(100, 0.8), np.arange(100) < 80) == pytest.approx(
        0.0, abs=1e-12
    )
    assert expected_calibration_error(np.full(100, 1.0), np.arange(100) < 80) == pytest.approx(0.2)


@pytest.mark.slow
def test_epistemic_part_grows_away_from_the_data():
    post = bdl.fit(
        bdl.GP(likelihood=bdl.Normal(0.3)),
        X,
        TARGETS["fixed"][1],
        engine=bdl.ExactGP(),
        progress=False,
    )
    near, far = post.predict(X[:1]), post.predict(X[:1] + 100)
    assert far.epistemic[0] > 10 * near.epistemic[0]
    assert (
        far.aleatoric[0]
        == pytest.approx(near.aleatoric[0], rel=1e-4)
        == pytest.approx(0.3, rel=1e-4)
    )


@pytest.mark.slow
def test_mixture_quantile_of_a_program_without_a_cdf_comes_from_samples():
    import numpyro
    import numpyro.distributions as dist

    def program(n, y=None):
        p = numpyro.sample("p", dist.Beta(2, 2))
        numpyro.sample("y", dist.Binomial(n, p), obs=y)

    post = bdl.fit(
        program,
        np.array([20, 30]),
        y=np.array([5, 9]),
        engine=bdl.NUTS(200, 400, 2),
        progress=False,
    )
    prediction = post.predict(np.array([100]))
    p = post.samples["p"].ravel().astype(float)
    median = optimize.bisect(lambda q: stats.binom(100, p).cdf(q).mean() - 0.5, 0, 100)
    assert abs(prediction.quantile(0.5)[0] - median) < 2
    assert prediction.mean[0] == pytest.approx(100 * p.mean(), rel=1e-3)


@pytest.mark.slow
def test_calibration_of_counts_is_flat_when_the_model_is_right():
    """The randomised transform of Poisson targets under nearly the true law is uniform; quantile
    shares would not be.
    """
    from bayesdl.checks.scores import probability_integral_transform

    generator = np.random.default_rng(5)
    x = generator.normal(size=(600, 1))
    y = generator.poisson(np.exp(0.5 + 0.3 * x[:, 0]))
    model = bdl.BNN(hidden=(), likelihood=bdl.Poisson())
    prediction = bdl.fit(model, x[:300], y[:300], engine=bdl.Laplace(), progress=False).predict(
        x[300:]
    )
    transform = probability_integral_transform(prediction, y[300:].astype(float))
    assert stats.kstest(transform, "uniform").pvalue > 1e-3


def test_class_predictions_say_what_to_ask_instead_of_a_mean():
    post = drawn(bdl.BNN((), likelihood=bdl.Bernoulli()), X, F > 0)
    with pytest.raises(AttributeError, match="use probs"):
        _ = post.predict(X).mean


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        pytest.param(bdl.BNN(hidden=(3,)), bdl.VI(steps=20), marks=pytest.mark.slow),
        (bdl.BNN(hidden=(3,)), bdl.Laplace()),
        (bdl.GP(), bdl.ExactGP(num_restarts=1)),
    ],
    ids=["BNN by VI", "BNN by Laplace", "GP"],
)
@pytest.mark.slow
def test_equal_specs_share_what_was_compiled(model, engine):
    """Cross-validation predicts from many fits of one model: only the first may compile."""

    def compiled_after(seed):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(20, 2))
        prediction = bdl.fit(
            model, X, 3 * X[:, 0] + rng.normal(size=20), engine=engine, progress=False
        ).predict(X)
        _ = prediction.mean, prediction.interval(), prediction.log_prob(X[:, 0])
        return stream.evaluate._cache_size()

    assert compiled_after(0) == compiled_after(1)


@pytest.mark.slow
def test_what_was_compiled_keeps_no_posterior_alive():
    post = bdl.fit(
        bdl.BNN(hidden=(3,)), X_NEW, X_NEW[:, 0], engine=bdl.VI(steps=20), progress=False
    )
    _ = post.predict().mean
    alive = weakref.ref(post)
    del post
    gc.collect()
    assert alive() is None


def test_targets_for_other_rows_are_refused():
    X = np.linspace(-1, 1, 30)[:, None]
    post = bdl.fit(
        bdl.BNN(hidden=()), X, X[:, 0] + np.sin(40 * X[:, 0]), engine=bdl.Laplace(), progress=False
    )
    for ask in (post.predict(X).log_prob, post.predict(X).cdf, lambda y: post.score(X, y)):
        with pytest.raises(ValueError, match="y has 3 targets for 30 predicted rows"):
            ask(np.zeros(3))


def test_tables_of_other_lengths_share_what_was_compiled_and_keep_their_numbers():
    post = drawn(bdl.BNN(()), X, F)
    rows = np.linspace(-1, 1, 9)[:, None] * np.ones(X.shape[1])

    def answers(count):
        prediction = post.predict(rows[:count])
        return [*prediction.interval(), prediction.std, prediction.sample(5).mean(0)]

    first = answers(2)
    compiled = stream.evaluate._cache_size()
    for count in (3, 5, 8):
        for few, more in zip(first, answers(count), strict=True):
            np.testing.assert_allclose(few, more[:2], rtol=1e-5)
    assert stream.evaluate._cache_size() == compiled
