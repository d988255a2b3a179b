"""Programs and guides for the tests of programmable variational inference."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

KEY = jax.random.key(0)


def many(function, num=20_000, seed=1):
    return np.asarray(
        jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), num)), float
    )


def z_of(values, exact):
    return abs(values.mean() - exact) / (values.std() / np.sqrt(len(values)))


def label(y):
    """Which of two normals an observation is from."""
    z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)


def flip(*data):
    return numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.3)))


def flips(n):
    def guide():
        with numpyro.plate("flips", n):
            numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", jnp.zeros(n))))

    return guide


def count(p, q):
    return q.sim()[0]["z"].sum() ** 2.0


Y = np.array([0.2, 1.3, 0.9, 0.4, 1.1])


def mean_of_five(y):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)) as index:
        numpyro.sample("y", dist.Normal(m, 1.0), obs=y[index])


def normal_guide(y):
    scale = numpyro.param("scale", 1.0, constraint=dist.constraints.positive)
    numpyro.sample("m", dist.Normal(numpyro.param("loc", 0.0), scale))
