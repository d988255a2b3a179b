"""Arguments that a model does not take are refused in the words of the verb."""

import numpy as np
import pytest

import bayesdl as bdl

X = np.linspace(-1, 1, 12)[:, None]
Y = X[:, 0]


@pytest.fixture(scope="module")
def post():
    return bdl.fit(bdl.GP(), X, Y, engine=bdl.ExactGP(num_restarts=1), progress=False)


def test_predict(post):
    with pytest.raises(TypeError, match=r"predict: .*'offset'; GP takes predict\(X\)"):
        post.predict(X, offset=1)
    with pytest.raises(TypeError, match=r"predict: too many .*; GP takes predict\(X\)"):
        post.predict(X, Y)


def test_score(post):
    with pytest.raises(TypeError, match=r"score: .*'y'; GP takes score\(X, y\)"):
        post.score(X)
    with pytest.raises(TypeError, match=r"score: .*'offset'"):
        post.score(X, Y, offset=1)


def test_fit():
    with pytest.raises(TypeError, match=r"fit: too many .*; GP takes fit\(X, y"):
        bdl.fit(bdl.GP(), X, Y, Y, progress=False)
