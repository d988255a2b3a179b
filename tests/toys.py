"""Toy models of the three shapes of data, small enough for every engine."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.sparse


def sd_error(draws):
    """Monte Carlo standard error of the sd, from that of squared deviations.

    Draws have shape (chain, draw, ...). ArviZ's own takes draws to be as independent in their
    squares as in their values, which those of HMC are not.
    """
    from arviz_stats.base import array_stats

    squares = (draws - draws.mean((0, 1))) ** 2
    return array_stats.mcse(squares, chain_axis=0, draw_axis=1) / (2 * draws.std((0, 1)))


@contextlib.contextmanager
def compilations():
    """A list that grows by one entry whenever XLA compiles."""
    found = []

    def listener(event, _, **rest):
        found.extend([event] * event.endswith("backend_compile_duration"))

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def rows(n=24, seed=0):
    """(X, y) rows: a linear trend."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return X, X @ [1.0, -0.5] + 0.3 * rng.normal(size=n)


def entries(n=60, seed=0):
    """Tensor entries: two continuous indexes and y."""
    rng = np.random.default_rng(seed)
    i, j = rng.uniform(size=n), rng.uniform(size=n)
    return i, j, np.sin(3 * i) * np.cos(2 * j) + 0.1 * rng.normal(size=n)


def tensor_rows(n=40, seed=0):
    """Entries as a table of two indexes, and y."""
    i, j, y = entries(n, seed)
    return np.round(np.stack([i, j], 1), 1), y


def sparse_rows(n=40, columns=12, seed=0):
    """A CSR matrix of counts, and labels."""
    rng = np.random.default_rng(seed)
    X = scipy.sparse.random(
        n, columns, density=0.2, random_state=np.random.default_rng(seed), format="csr"
    )
    weights = rng.normal(size=columns)
    return X, (rng.uniform(size=n) < 1 / (1 + np.exp(-2 * X @ weights))).astype(int)


def tensor_program(i, j, y=None):
    """Rank-one functional tensor: y = u(i) v(j) + noise with quadratic mode functions."""
    a = numpyro.sample("a", dist.Normal(0, 1).expand([3]).to_event(1))
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("entries", len(i)) as index:
        basis = [
            jnp.stack([jnp.ones(len(index)), x[index], x[index] ** 2], axis=-1) for x in (i, j)
        ]
        mean = (basis[0] @ a) * (basis[1] @ b)
        numpyro.sample("y", dist.Normal(mean, sigma), obs=None if y is None else y[index])


def product_program(i, j, y=None):
    """y = f_1 f_2 + noise, with a site of positive values and a deterministic site."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3, 2]).to_event(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    f = numpyro.deterministic(
        "f", jnp.stack([jnp.ones(len(i)), jnp.asarray(i), jnp.asarray(j)], axis=-1) @ w
    )
    with numpyro.plate("entries", len(i)) as index:
        mean = f[index, 0] * f[index, 1]
        numpyro.sample("y", dist.Normal(mean, sigma), obs=None if y is None else y[index])


def sparse_program(X, y=None):
    """Logistic regression on sparse rows."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


PROGRAMS = {
    "entries": (tensor_program, entries()),
    "sparse": (sparse_program, sparse_rows()),
}
