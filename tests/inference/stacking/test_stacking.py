"""Stacking: its weights, its mixture, and leave-one-out densities against fits without a row."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import bayesdl as bdl
from inference.stacking.mixture import MemberMixture
from inference.stacking.weights import stack

rng = np.random.default_rng(0)
X = rng.normal(size=(25, 2))
Y = X @ [1.0, -0.5] + 0.5 * rng.normal(size=25)


def test_weights_are_those_of_a_solver():
    logs = rng.normal(loc=[0.0, 0.3, -2.0], size=(40, 3))
    found = stack(logs)

    def objective(w):
        return -np.log(np.exp(logs) @ w).sum()

    solved = minimize(
        objective,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert objective(found) <= solved.fun + 1e-6
    np.testing.assert_allclose(found, solved.x, atol=2e-3)
    assert stack(np.array([[0.0, np.nan], [0.0, 0.0]])).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="No member has a finite density"):
        stack(np.full((2, 2), -np.inf))


def test_the_mixture_is_one_by_hand():
    one = jax.vmap(lambda mean: dist.Normal(mean, 1.0))
    other = jax.vmap(lambda mean: dist.Normal(mean, 2.0))
    parts = one(jnp.array([[0.0, 1.0], [2.0, 3.0]])), other(jnp.array([[5.0, 5.0]]))
    mixture = MemberMixture(parts, jnp.log(jnp.array([0.6, 0.4])))
    y = jnp.array([1.0, 4.0])
    components = [(0.3, [0, 1], 1), (0.3, [2, 3], 1), (0.4, [5, 5], 2)]
    density = sum(w * norm.pdf(y, m, s) for w, m, s in components)
    below = sum(w * norm.cdf(y, m, s) for w, m, s in components)
    mean = sum(w * np.array(m) for w, m, _ in components)
    variance = sum(w * (np.array(m) ** 2 + s**2) for w, m, s in components) - mean**2
    np.testing.assert_allclose(mixture.log_prob(y), np.log(density), rtol=1e-5)
    np.testing.assert_allclose(mixture.cdf(y), below, rtol=1e-5)
    np.testing.assert_allclose(mixture.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(mixture.variance, variance, rtol=1e-5)
    drawn = np.asarray(jax.jit(lambda key: mixture.sample(key, (4000,)))(jax.random.key(0)))
    error = np.sqrt(variance / len(drawn))
    assert np.all(np.abs(drawn.mean(0) - mean) < 4 * error)
    # all rows of a sample come from one component: the covariance of their means is theirs
    means = np.array([m for _, m, _ in components], float)
    weights = np.array([w for w, _, _ in components])
    shared = (weights * (means[:, 0] - mean[0]) * (means[:, 1] - mean[1])).sum()
    assert np.cov(drawn.T)[0, 1] == pytest.approx(shared, rel=0.2)


def test_leave_one_out_of_a_process_is_that_of_fits_without_a_row():
    model = bdl.GP(
        kernel=bdl.kernels.RBF(lengthscale=1.0, variance=1.0),
        likelihood=bdl.Normal(scale=0.3),
        standardize=False,
    )
    engine = bdl.ExactGP()
    post = bdl.fit(model, X, Y, engine=engine, progress=False)
    found = engine.left_out(post.problem, post.raw)
    distance = ((X[:, None] - X[None]) ** 2).sum(-1)
    S = np.exp(-distance / 2) + 0.3**2 * np.eye(len(X))
    for i in (0, 7, 24):
        rest = np.delete(np.arange(len(X)), i)
        solved = np.linalg.solve(S[np.ix_(rest, rest)], np.c_[Y[rest], S[rest, i]])
        mean, explained = S[i, rest] @ solved
        expected = norm.logpdf(Y[i], mean, np.sqrt(S[i, i] - explained))
        assert found[i] == pytest.approx(expected, abs=1e-5)


def test_leave_one_out_of_a_linear_model_is_exact():
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.5), standardize=False)
    engine = bdl.Laplace()
    post = bdl.fit(model, X, Y, engine=engine, progress=False)
    found = engine.left_out(post.problem, post.raw)
    rows = np.c_[X / np.sqrt(2), np.ones(len(X))]
    for i in (0, 7, 24):
        rest = np.delete(np.arange(len(X)), i)
        covariance = np.linalg.inv(rows[rest].T @ rows[rest] / 0.25 + np.eye(3))
        mean = rows[i] @ covariance @ rows[rest].T @ Y[rest] / 0.25
        sd = np.sqrt(0.25 + rows[i] @ covariance @ rows[i])
        assert found[i] == pytest.approx(norm.logpdf(Y[i], mean, sd), rel=1e-4)


@pytest.mark.slow
def test_leave_one_out_of_classes_is_near_that_of_fits_without_a_row():
    labels = (Y > 0).astype(int)
    model = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli(), standardize=False)
    engine = bdl.Laplace()
    post = bdl.fit(model, X, labels, engine=engine, progress=False)
    found = engine.left_out(post.problem, post.raw)
    for i in (0, 7):
        rest = np.delete(np.arange(len(X)), i)
        less = bdl.fit(model, X[rest], labels[rest], engine=engine, progress=False)
        expected = less.predict(X[i : i + 1]).log_prob(labels[i : i + 1])[0]
        assert found[i] == pytest.approx(expected, abs=0.05)
