"""A few users of a few items, for tests of recommenders."""

import numpy as np
import pandas as pd
import scipy.sparse

USERS, ITEMS = 40, 12
EVENT_ITEMS = 40
QUICK = {"hidden": (8,), "latent": 3, "epochs": 5, "batch_size": 16, "progress": False}


def few_rows():
    X = (np.random.default_rng(0).uniform(size=(USERS, ITEMS)) < 0.3).astype(np.float32)
    X[:, 0] = 1
    return scipy.sparse.csr_array(X)


def zipf(items, power):
    """Shares of items that fall as a power of their rank."""
    p = np.arange(1.0, items + 1) ** -power
    return p / p.sum()


def events(users=90, seed=0):
    """Users of two tastes, each with 8 items that are mostly of its half, as a table."""
    rng = np.random.default_rng(seed)
    taste = np.where(np.arange(EVENT_ITEMS) < EVENT_ITEMS // 2, 6.0, 1.0) * np.linspace(
        1, 2, EVENT_ITEMS
    )
    tastes = [taste / taste.sum(), taste[::-1] / taste.sum()]
    rows = [
        (f"u{u}", int(item))
        for u in range(users)
        for item in rng.choice(EVENT_ITEMS, 8, replace=False, p=tastes[u % 2])
    ]
    return pd.DataFrame(rows, columns=["user", "item"])


def matrix(table):
    """Events as ones, users x items."""
    users, _ = pd.factorize(table["user"])
    return scipy.sparse.csr_array(
        (np.ones(len(table), np.float32), (users, table["item"])),
        shape=(users.max() + 1, EVENT_ITEMS),
    )
