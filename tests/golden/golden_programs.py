"""Programs, guides and rows of the golden files: code that files do not hold, fixed data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import scipy.sparse
import tinygp

import bayesdl as bdl

ITEMS = 12


def rows(columns=2):
    """Eighteen rows with two columns and a trend, and three new rows with their targets."""
    grid = np.linspace(-1, 1, 18)
    X = np.stack([grid, np.cos(5 * grid)], 1)[:, :columns]
    y = 3 + 2 * np.sin(2 * grid) + 0.2 * np.cos(40 * grid)
    new = np.array([[-0.6, 0.4], [0.1, -0.2], [0.7, 0.8]])[:, :columns]
    return X, y, new, np.array([1.2, 3.1, 5.0])


def centred_rows():
    """The first column, and targets around zero."""
    X, y, new, new_y = rows(1)
    return X, y - 3, new, new_y - 3


def counts():
    X, y, new, _ = rows()
    return X, np.round(y).astype(int), new, np.array([1, 3, 5])


def two_targets():
    X, y, new, new_y = rows()
    return X, np.stack([y, 10 * X[:, 0]], 1), new, np.stack([new_y, 10 * new[:, 0]], 1)


def table():
    """Rows with a column of categories, and text labels."""
    X, y, new, _ = rows()
    colours = np.array(["red", "green", "blue"])
    frame = pd.DataFrame({"size": X[:, 0], "colour": colours[np.arange(len(X)) % 3]})
    new_frame = pd.DataFrame({"colour": colours[[2, 0, 1]], "size": new[:, 0]})
    return frame, np.where(y > 3, "high", "low"), new_frame, np.array(["low", "high", "high"])


def classes():
    X, y, new, _ = rows()
    return X, np.digitize(y, [2, 4]), new, np.array([0, 1, 2])


def images():
    """Flat 4 x 4 images of three kinds."""
    rng = np.random.default_rng(0)
    kinds = np.arange(12) % 3
    return (
        rng.normal(size=(12, 16)) + kinds[:, None],
        kinds,
        rng.normal(size=(3, 16)),
        np.array([0, 1, 2]),
    )


def indexes():
    """Entries of a tensor of two indexes, as a table."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 30) / 5, rng.integers(0, 5, 30) / 4
    y = np.sin(3 * a) * (1 + b) + 0.1 * rng.normal(size=30)
    new = pd.DataFrame({"a": [0.2, 0.5, 1.0], "b": [0.25, 0.6, 0.75]})
    return pd.DataFrame({"a": a, "b": b}), y, new, np.array([0.7, 1.5, 0.3])


def sparse_rows():
    X = scipy.sparse.random(15, 5, density=0.4, random_state=np.random.default_rng(0), format="csr")
    return X, (np.arange(15) % 2), X[:3], np.array([0, 1, 0])


def users():
    """Choices of 60 users of two tastes among 12 items."""
    rng = np.random.default_rng(0)
    taste = np.linspace(0.1, 0.6, ITEMS) ** 1.5
    X = np.stack([rng.uniform(size=ITEMS) < taste[:: 1 if u % 2 else -1] + 0.1 for u in range(60)])
    X[:, 0] |= ~X.any(1)
    return scipy.sparse.csr_array(X.astype(np.float32))


def validation():
    """Twenty of these users, part of whose choices are held out."""
    whole = users().toarray()[:20]
    shown = whole * (np.arange(ITEMS) % 3 > 0)
    held_out = scipy.sparse.csr_array(whole - shown)
    return bdl.recommend.HeldOut(scipy.sparse.csr_array(shown), held_out)


def new_users():
    return scipy.sparse.csr_array(np.roll(users().toarray(), 5, 0)[:3])


def features():
    return np.random.default_rng(0).normal(size=(ITEMS, 2)).astype(np.float32)


def line(x, y=None):
    """A line with noise, and its value at zero as a deterministic site."""
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    numpyro.deterministic("mean/0", w[0] * jnp.ones(2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w[0] + w[1] * jnp.asarray(x), sigma), obs=y)


def line_guide(x, y=None):
    loc = numpyro.param("loc", jnp.zeros(2))
    w = dist.Normal(loc, numpyro.param("sd", jnp.ones(2), constraint=dist.constraints.positive))
    numpyro.sample("w", w.to_event(1))
    numpyro.sample("sigma", dist.LogNormal(numpyro.param("noise", jnp.array(-1.0)), 0.1))


def slope(x, y=None):
    """A line; it is fitted without derivatives of its draws."""
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    shift = numpyro.sample("shift", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(mean + shift * jnp.asarray(x), 0.5), obs=y)


def sparse_logistic(X, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


def normal_mean(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + 0 * X[:, 0], 0.5), obs=y)


def equinox_model():
    network = eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(0))
    return bdl.BNN(network=network, prior=bdl.priors.Gaussian(fan_in=True))


def tinygp_model():
    return bdl.GP(2.0 * tinygp.kernels.Matern32(0.7), likelihood=bdl.Normal(0.2))


def fit_with_checkpoint(folder):
    """Fit by the call whose finished run is kept as a checkpoint."""
    x, y = rows(1)[0][:, 0], rows()[1]
    engine = bdl.NUTS(num_warmup=40, num_samples=10, num_chains=2)
    return bdl.fit(line, x, y=y, engine=engine, checkpoint=folder, progress=False)
