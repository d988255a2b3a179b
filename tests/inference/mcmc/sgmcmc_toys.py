"""Conjugate linear regression, for the tests of samplers with minibatches."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base import array_stats
from toys import sd_error

import bayesdl as bdl

NOISE = 0.5


def regression(X, y=None):
    """Conjugate linear regression, w ~ N(0, I), known noise."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]) as index:
        numpyro.sample("y", dist.Normal(X[index] @ w, NOISE), obs=None if y is None else y[index])


def simulated(n=300):
    """Correlated columns of different scales."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) @ np.array(
        [[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0.3]]
    )
    return X, X @ [1.0, -0.5, 0.2, 0.8] + NOISE * rng.normal(size=n)


def exact(X, y):
    covariance = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(X.shape[1]))
    return covariance @ X.T @ y / NOISE**2, np.sqrt(np.diag(covariance))


def against_exact(engine, X, y, seed=0):
    """Return z of the means and of the log sds against the closed form, and the sd ratios.

    z is in Monte Carlo standard errors.
    """
    post = bdl.fit(regression, X, y=y, engine=engine, seed=seed, progress=False)
    w, (mean, sd) = post.samples["w"].astype(float), exact(X, y)
    axes = {"chain_axis": 0, "draw_axis": 1}
    ratio = w.std((0, 1)) / sd
    mean_z = (w.mean((0, 1)) - mean) / array_stats.mcse(w, **axes)
    sd_z = np.log(ratio) * w.std((0, 1)) / sd_error(w)
    return post, mean_z, sd_z, ratio, np.abs(w.mean((0, 1)) - mean) / sd


UNBIASED = {
    "SGHMC, all rows": bdl.SGHMC(500, 1000, 4, 10, batch_size=None, step_size=0.3),
    "SGLD, all rows": bdl.SGLD(500, 1000, 4, 20, batch_size=None, step_size=0.5),
    "SGHMC, control variates": bdl.SGHMC(1000, 1000, 4, 20, batch_size=32, control_variates=True),
    "MCLMC, adjusted": bdl.MCLMC(600, 1000, 4, 4, adjusted=True),
}
