"""Small models and settings for tests of prior-data fitted networks."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl

SMALL = {
    "max_rows": 10,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "hidden": 32,
    "bars": 50,
    "progress": False,
}


def train(model, *, start=None, checkpoint=None, progress=False, **settings):
    """Train a network, with the settings of its training by name."""
    training = bdl.amortized.Training(**settings)
    return bdl.PFN.train(model, training, start=start, checkpoint=checkpoint, progress=progress)


GP = bdl.GP(bdl.kernels.RBF(lengthscale=0.5, variance=1.0), bdl.Normal(0.1), standardize=False)


def normal_mean(X, y=None):
    """Rows say nothing but by their number: y ~ N(mu, 1), mu ~ N(0, 1)."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def with_offset(X, offset=None, y=None):
    """The same with a covariate that training leaves out."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    offset = jnp.zeros(X.shape[0]) if offset is None else offset
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + offset, 1.0), obs=y)


def mostly_five(X, y=None):
    """Most targets are the same number."""
    which = numpyro.sample("which", dist.Bernoulli(0.1).expand([X.shape[0]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(5.0, jnp.where(which == 1, 1.0, 1e-30)), obs=y)


def linear_program(X, y=None):
    """Bayesian linear regression, whose predictive is normal."""
    with numpyro.plate("columns", X.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ w, 0.5), obs=y)


CELLS = SMALL | {
    "num_inputs": 2,
    "kind": "cells",
    "width": 32,
    "hidden": 64,
    "learning_rate": 3e-3,
}


def unknown_scale(X, y=None):
    """sigma^2 is inverse-gamma over three orders of magnitude, so y given data is Student-t."""
    variance = numpyro.sample("variance", dist.InverseGamma(1.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(3.0, jnp.sqrt(variance)), obs=y)
