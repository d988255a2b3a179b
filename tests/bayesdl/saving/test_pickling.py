"""Posteriors go to other processes as bundles; what holds code says why it does not."""

import copy
import pickle

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl

X = np.linspace(-1, 1, 12)[:, None]
Y = np.sin(3 * X[:, 0])


@pytest.fixture(scope="module")
def post():
    return bdl.fit(bdl.GP(), X, Y, engine=bdl.ExactGP(num_restarts=1), progress=False)


def test_a_pickle_predicts_the_same(post):
    content = pickle.dumps(post)
    assert b"PK" in content and b"bayesdl.gp" not in content  # the bundle, and no class of ours
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict(X[:3]).mean, post.predict(X[:3]).mean)


def test_copies_are_posteriors_too(post):
    for one in (copy.copy(post), copy.deepcopy(post)):
        np.testing.assert_array_equal(one.predict(X[:3]).mean, post.predict(X[:3]).mean)


def test_a_users_function_is_not_sent():
    def program(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(m, 1).expand([12]).to_event(1), obs=y)

    fit = bdl.fit(program, Y, engine=bdl.VI(steps=20), progress=False)
    with pytest.raises(TypeError, match=r"posterior of program is not sent.*bdl\.load"):
        pickle.dumps(fit)


@pytest.mark.slow
def test_processes_of_joblib_predict_the_same(post):
    joblib = pytest.importorskip("joblib")
    means = joblib.Parallel(2)(joblib.delayed(mean_of)(post) for _ in range(2))
    for mean in means:
        np.testing.assert_array_equal(mean, post.predict(X[:3]).mean)


def mean_of(post):
    return post.predict(X[:3]).mean
