"""The mean of the Laplace approximation against quadrature, where likelihoods are skewed."""

import numpy as np
import pytest
from scipy.special import expit

import bayesdl as bdl
from inference.laplace.network import LinearisedModel

SCALE = 3.0
LINEAR = bdl.BNN(hidden=(), prior=bdl.priors.Gaussian(SCALE), likelihood=bdl.Bernoulli())


def few_positives():
    X = np.random.default_rng(0).normal(size=(200, 1))
    return X, (np.argsort(np.argsort(-X[:, 0] + np.sin(9 * X[:, 0]))) < 3).astype(int)


def probabilities(post, X):
    return np.asarray(post.predict(X).probs)[:, 1]


def exact_probabilities(X, y):
    """The posterior predictive by quadrature over the two weights."""
    z = ((X - X.mean(0)) / X.std(0))[:, 0]
    grid = np.linspace(-25, 25, 801)
    slope, bias = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    log_density = -(slope**2 + bias**2) / (2 * SCALE**2)
    for value, label in zip(z, y, strict=True):
        log_density -= np.logaddexp(0, (1 - 2 * label) * (slope * value + bias))
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    return np.array([weights @ expit(slope * value + bias) for value in z])


@pytest.mark.slow
def test_rare_classes_are_as_probable_as_by_quadrature(monkeypatch):
    X, y = few_positives()
    exact = exact_probabilities(X, y)
    post = bdl.fit(LINEAR, X, y, engine=bdl.Laplace(), progress=False)
    assert probabilities(post, X).sum() == pytest.approx(exact.sum(), rel=0.1)
    # the mode alone overstates them, so that this is a test
    monkeypatch.setattr(LinearisedModel, "is_quadratic", lambda *_: True)
    at_mode = bdl.fit(LINEAR, X, y, engine=bdl.Laplace(), progress=False)
    assert probabilities(at_mode, X).sum() > 1.15 * exact.sum()


@pytest.mark.slow
def test_mean_is_the_mode_where_the_likelihood_is_normal(monkeypatch):
    X, _ = few_positives()
    model = bdl.BNN(hidden=(3,))

    def mean(post):
        return post.raw.params["loc"]

    moved = bdl.fit(model, X, np.sin(X[:, 0]), engine=bdl.Laplace(), progress=False)
    monkeypatch.setattr(LinearisedModel, "is_quadratic", lambda *_: True)
    at_mode = bdl.fit(model, X, np.sin(X[:, 0]), engine=bdl.Laplace(), progress=False)
    np.testing.assert_array_equal(mean(moved), mean(at_mode))
