"""The variance of each estimator on a model like "attend, infer, repeat".

The model has three steps of a flip and ten numbers.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesdl.vi import MVD, Enum, Reinforce, elbo, expectation, iwelbo

STEPS, WHAT, PIXELS, HIDDEN, ROWS = 3, 10, 100, 64, 64


def layer(name, x, rows, columns, seed):
    start = jax.random.normal(jax.random.key(seed), (rows, columns)) / np.sqrt(rows)
    return x @ numpyro.param(f"{name} weights", start) + numpyro.param(
        f"{name} bias", jnp.zeros(columns)
    )


def decoded(z):
    return layer("decoder 2", jnp.tanh(layer("decoder 1", z, WHAT, HIDDEN, 0)), HIDDEN, PIXELS, 1)


def model(image):
    canvas = jnp.zeros(PIXELS)
    for t in range(STEPS):
        present = numpyro.sample(f"present {t}", dist.Bernoulli(0.5))
        what = numpyro.sample(f"what {t}", dist.Normal(jnp.zeros(WHAT), 1.0).to_event(1))
        canvas = canvas + present * decoded(what)
    numpyro.sample("image", dist.Normal(canvas, 0.3).to_event(1), obs=image)


def guide(image):
    hidden = jnp.tanh(layer("encoder 1", image, PIXELS, HIDDEN, 2))
    for t in range(STEPS):
        out = layer(f"encoder step {t}", hidden, HIDDEN, 1 + 2 * WHAT, 3 + t)
        numpyro.sample(f"present {t}", dist.Bernoulli(logits=out[0]))
        numpyro.sample(
            f"what {t}", dist.Normal(out[1 : 1 + WHAT], jnp.exp(out[1 + WHAT :] - 1)).to_event(1)
        )


def images():
    """Drawn from the model: each the sum of up to three patterns and noise."""
    rng = np.random.default_rng(0)
    patterns = (
        rng.normal(size=(ROWS, STEPS, WHAT)) @ rng.normal(size=(WHAT, PIXELS)) / np.sqrt(WHAT)
    )
    return jnp.asarray((rng.random((ROWS, STEPS, 1)) < 0.5) * patterns).sum(1) + 0.3 * rng.normal(
        size=(ROWS, PIXELS)
    )


@functools.cache
def variance(objective, estimator):
    """Return the variance of the gradient of the mean over a batch of 64 rows, from 60 keys.

    It is summed over the encoder's parameters.
    """
    chosen = {f"present {t}": estimator for t in range(STEPS)}
    E = expectation(objective, model, guide, estimators=chosen)
    X = images()
    params = E.init(jax.random.key(0), X[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without a baseline")
        gradient = jax.jit(jax.grad(lambda p, key: E.rows(key, p, X)))
        draws = [gradient(params, key) for key in jax.random.split(jax.random.key(1), 60)]
    flat = np.stack(
        [
            np.concatenate([np.ravel(g[name]) for name in sorted(g) if name.startswith("encoder")])
            for g in draws
        ]
    )
    return flat.var(0).sum()


TWO = iwelbo(2)


@pytest.mark.slow
def test_ratios():
    """Ratios are at least 8 of Reinforce to MVD, and 2 of MVD to Enum.

    They are at least 7 of Reinforce to leave-one-out with two particles.
    """
    assert variance(elbo, Reinforce(None)) / variance(elbo, MVD()) >= 8
    assert variance(elbo, MVD()) / variance(elbo, Enum()) >= 2
    assert variance(TWO, Reinforce(None)) / variance(TWO, Reinforce("loo")) >= 7
