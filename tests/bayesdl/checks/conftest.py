"""The fits that the tests of checks share."""

import numpy as np
import pytest
from checks_toys import (
    LINEAR,
    X,
    Y,
    exact_linear_posterior,
    fit,
    pose_linear,
)

import bayesdl as bdl


@pytest.fixture(scope="session")
def linear():
    """20 chains of 500 independent draws from the exact posterior."""
    mean, covariance = exact_linear_posterior()
    draws = np.random.default_rng(1).multivariate_normal(mean, covariance, (20, 500))
    return pose_linear(LINEAR, X, Y, draws)


@pytest.fixture(scope="session")
def closed_form():
    """A Gaussian process at its best hyperparameters: a predictor without draws."""
    return fit(bdl.GP(), X, Y, engine=bdl.ExactGP())
