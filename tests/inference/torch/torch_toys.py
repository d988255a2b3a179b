"""What the tests of torch engines share."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def label(value):
    """The id of a parameter: distributions inside it without their addresses."""
    return re.sub(r"<numpyro\S*\.(\w+) object at .*?>", r"\1", str(value))


def wave(n):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(n, 1))
    return X, np.sin(2 * X[:, 0]) + 0.3 * rng.normal(size=n)
