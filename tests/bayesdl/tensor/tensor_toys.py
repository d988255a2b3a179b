"""Small functional tensors."""

import numpy as np

import bayesdl as bdl
from bayesdl.gp.kernels import Matern32

FAST = bdl.MessagePassing(iterations=60, restarts=3)


def grid_entries(n=300, sizes=(15, 15), noise=0.2, seed=0):
    """Entries of a rank-one tensor of smooth functions, and what it is without noise."""
    rng = np.random.default_rng(seed)
    points = [np.sort(rng.uniform(0, 1, d)) for d in sizes]
    X = np.stack([rng.choice(x, n) for x in points], 1)
    f = (
        np.sin(4 * X[:, 0]) * np.cos(3 * X[:, 1])
        if len(sizes) == 2
        else np.sin(4 * X[:, 0]) * np.cos(3 * X[:, 1]) * X[:, 2]
    )
    return X, f + noise * rng.normal(size=n), f


def modes(rank=1, names=("a", "b"), kernel=Matern32(lengthscale=0.3)):
    return tuple(bdl.Mode(name, kernel, rank) for name in names)


def fit(X, y, parts=modes()):
    return bdl.fit(bdl.FunBaT(parts), X, y, engine=FAST, progress=False)
