"""The fits that the tests of functional tensors share."""

import pytest
from tensor_toys import grid_entries, modes

import bayesdl as bdl


@pytest.fixture(scope="session")
def small():
    X, y, _ = grid_entries(150)
    model = bdl.FunBaT(modes(), relevance=False, standardize=False)
    return (
        model,
        X,
        y,
        bdl.fit(model, X, y, engine=bdl.MessagePassing(restarts=4, iterations=300), progress=False),
    )
