"""Linear models with known posteriors, for the tests of checks."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import integrate, special

import bayesdl as bdl
from bayesdl.model.program import as_model
from inference.core.result import Draws

rng = np.random.default_rng(0)


X = rng.normal(size=(40, 2))


Y = 100 + 20 * (X @ [1.0, -0.5] + 0.3 * rng.normal(size=40))


Z = (X - X.mean(0)) / X.std(0)


DESIGN = np.c_[np.ones(40), Z / np.sqrt(2)]  # of the coefficients (bias, weights) with NTK scaling


NOISE = 6.0


LINEAR = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=NOISE))


def fit(model, *data, engine=bdl.Laplace(), **named):
    return bdl.fit(model, *data, engine=engine, progress=False, **named)


def pose(model, *data, draws=None, **named):
    """A posterior with these draws, arrays (chain, draw, ...) by site, or with arbitrary positive
    ones.
    """
    spec = as_model(model)
    schema = spec.learn_schema(*data, **named)
    problem = spec.problem(schema, *data, **named)
    some = np.random.default_rng(9)
    draws = draws or {
        site: np.exp(0.3 * some.normal(size=(2, 50, *shape)))
        for site, shape in problem.latents.items()
    }
    dtype = np.float64 if spec.double_precision else np.float32
    raw = Draws({site: np.asarray(values, dtype) for site, values in draws.items()}, {})
    return bdl.Posterior(spec, schema, problem, bdl.NUTS(), raw, 0)


def pose_linear(model, X, y, coefficients):
    """With draws of (bias, weights), shape (chain, draw, 1 + columns)."""
    return pose(
        model,
        X,
        y,
        draws={"layer0.bias": coefficients[..., :1], "layer0.weight": coefficients[..., None, 1:]},
    )


def exact_linear_posterior():
    """Mean and covariance of the coefficients of LINEAR given (X, Y), in standardised units."""
    precision = np.eye(3) + DESIGN.T @ DESIGN * (Y.std() / NOISE) ** 2
    y = (Y - Y.mean()) / Y.std()
    return np.linalg.solve(precision, DESIGN.T @ y * (Y.std() / NOISE) ** 2), np.linalg.inv(
        precision
    )


def mean_program(n, m0, t0, y=None):
    """y_i ~ N(mu, 1), mu ~ N(m0, t0^2)."""
    mu = numpyro.sample("mu", dist.Normal(m0, t0))
    with numpyro.plate("rows", n):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def mean_posterior(y, m0, t0):
    precision = len(y) + t0**-2
    return (y.sum() + m0 / t0**2) / precision, precision**-0.5


def mean_draws(y, m0, t0, shape=(4, 1000), seed=0):
    """Independent draws from the exact posterior of `mean_program`."""
    mean, sd = mean_posterior(y, m0, t0)
    return pose(
        mean_program,
        len(y),
        m0,
        t0,
        y=y,
        draws={"mu": np.random.default_rng(seed).normal(mean, sd, shape)},
    )


def distance(p, q, low, high):
    """Nguyen and Vreeken 2015: the root of the symmetrised divergence of cumulative distributions
    over its bound.
    """

    def integral(f):
        return integrate.quad(f, low, high, limit=200, epsabs=1e-13)[0]

    def divergence(x):
        half = (p(x) + q(x)) / 2
        return special.xlogy(p(x), p(x) / half) / np.log(2) + special.xlogy(
            q(x), q(x) / half
        ) / np.log(2)

    return np.sqrt(integral(divergence) / (integral(p) + integral(q)))
