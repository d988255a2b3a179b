"""A network that several files of tests share."""

import pytest
from amortized_toys import SMALL, normal_mean, train


@pytest.fixture(scope="session")
def trained():
    return train(normal_mean, steps=1200, learning_rate=3e-3, latents=("mu",), **SMALL)
