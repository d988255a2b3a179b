"""Inducing inputs: the bound and its predictive against dense formulas, and the exact process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bayesdl as bdl
from inference.exact import inducing
from inference.exact.inducing import choose_inducing, collapsed_bound


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 2))
    return X, np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] + 0.1 * rng.normal(size=n)


FIXED = bdl.GP(bdl.kernels.RBF(0.8, 1.5), bdl.Normal(0.2), standardize=False)


def gram(A, B):
    return 1.5 * np.exp(-((A[:, None] - B[None]) ** 2).sum(-1) / (2 * 0.8**2))


def test_the_bound_and_predictions_are_those_of_dense_matrices(monkeypatch):
    monkeypatch.setattr(inducing, "BLOCK", 7)  # the last block is not full
    X, y = rows(30)
    X_new, Z = rows(4, seed=1)[0], X[:6]
    structure = FIXED.structure(FIXED.learn_schema(X, y))
    with jax.enable_x64(True):
        bound, parts = collapsed_bound(structure, {}, *map(jnp.asarray, (Z, X, y)))
        found = inducing.InducingPredictive(structure)(parts, None, X_new)
    K_u = gram(Z, Z) + inducing.JITTER * 1.5 * np.eye(6)
    Q = gram(X, Z) @ np.linalg.solve(K_u, gram(Z, X))
    expected = stats.multivariate_normal.logpdf(y, cov=Q + 0.04 * np.eye(30))
    np.testing.assert_allclose(bound, expected - (30 * 1.5 - np.trace(Q)) / 0.08, rtol=1e-8)
    inner = np.linalg.inv(K_u + gram(Z, X) @ gram(X, Z) / 0.04)
    k = gram(Z, X_new)
    np.testing.assert_allclose(
        found.distribution.loc, k.T @ inner @ gram(Z, X) @ y / 0.04, rtol=1e-6
    )
    variance = 1.5 + np.sum(k * ((inner - np.linalg.inv(K_u)) @ k), axis=0)
    np.testing.assert_allclose(found.epistemic, variance, rtol=1e-5)


def test_pivots_are_the_rows_that_are_least_known():
    X = np.array([[0.0], [0.0], [3.0], [1.0], [3.0]])
    kernel = bdl.kernels.RBF(1.0, 1.0).build(lambda site, value, *_: value, "", 1)
    with jax.enable_x64(True):
        chosen, useful = choose_inducing(kernel, jnp.asarray(X), 5)
    assert int(useful) == 3  # repeated rows tell nothing
    assert np.asarray(chosen)[:3].tolist() == [0, 2, 3]


def test_few_rows_are_answered_exactly():
    X, y = rows(60)
    model = bdl.GP(bdl.kernels.RBF())
    exact = bdl.fit(model, X, y, engine=bdl.ExactGP(num_restarts=2), progress=False)
    sparse = bdl.fit(model, X, y, engine=bdl.SparseGP(num_rounds=1), progress=False)
    evidence = exact.raw.info["log_evidence"]
    np.testing.assert_allclose(sparse.raw.info["elbo"], evidence, rtol=1e-3)
    X_new, y_new = rows(30, seed=1)
    one, other = (post.predict(X_new).log_prob(y_new).mean() for post in (exact, sparse))
    assert abs(one - other) < 0.02
    assert "can be trusted" in repr(sparse.diagnose())
    assert "kernel.lengthscale" in sparse.summary().index


def test_many_rows_through_few_inducing_inputs(tmp_path):
    X, y = rows(3500)
    engine = bdl.SparseGP(40, search_rows=1200, search_inducing=40, num_steps=15)
    post = bdl.fit(bdl.GP(bdl.kernels.RBF()), X, y, engine=engine, progress=False)
    X_new, y_new = rows(200, seed=1)
    # the noise of 0.1 bounds what any model can score
    best = stats.norm.logpdf(0, scale=0.1) - 0.5
    assert post.predict(X_new).log_prob(y_new).mean() > best - 0.1
    post.save(tmp_path / "sparse.bdl")
    again = bdl.load(tmp_path / "sparse.bdl")
    np.testing.assert_array_equal(again.predict(X_new).mean, post.predict(X_new).mean)
    assert post.predict(X_new[:3]).sample(5).shape == (5, 3)


def test_bad_settings_are_refused():
    X, y = rows(20)
    with pytest.raises(ValueError, match="num_inducing=21 is more than the 20 rows"):
        bdl.fit(FIXED, X, y, engine=bdl.SparseGP(21), progress=False)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        bdl.SparseGP(num_inducing=0)
