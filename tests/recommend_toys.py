"""A few users of a few items, for tests of recommenders."""

import numpy as np
import scipy.sparse

USERS, ITEMS = 40, 12
QUICK = {"hidden": (8,), "latent": 3, "epochs": 5, "batch_size": 16, "progress": False}


def few_rows():
    X = (np.random.default_rng(0).uniform(size=(USERS, ITEMS)) < 0.3).astype(np.float32)
    X[:, 0] = 1
    return scipy.sparse.csr_array(X)
