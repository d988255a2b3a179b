"""Programs with parameters of their own and with networks of other libraries."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from programs.case import Case, generator

rng = generator(8)
X = rng.normal(size=(20, 2))
y = np.tanh(X[:, 0]) + 0.2 * rng.normal(size=20)


def with_parameter(x, y=None):
    c = numpyro.param("c", jnp.zeros(()))
    w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(c + w * x, 0.5), obs=y)


def stax_network(X, y=None):
    from flax import linen as nn
    from numpyro.contrib.module import flax_module

    net = flax_module("net", nn.Dense(1), input_shape=(1, X.shape[1]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(net(jnp.asarray(X))[:, 0], sigma), obs=y)


def random_flax(X, y=None):
    from flax import linen as nn
    from numpyro.contrib.module import random_flax_module

    net = random_flax_module("net", nn.Dense(1), dist.Normal(0, 1), input_shape=(1, X.shape[1]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(net(jnp.asarray(X))[:, 0], 0.5), obs=y)


def random_equinox(X, y=None):
    import equinox as eqx
    import jax
    from numpyro.contrib.module import random_eqx_module

    layer = eqx.nn.Linear(X.shape[1], 1, key=jax.random.key(0))
    net = random_eqx_module("net", layer, dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jax.vmap(net)(jnp.asarray(X))[:, 0], 0.5), obs=y)


CASES = (
    Case("a parameter", with_parameter, (X[:, 0],), {"y": y}, (X[:4, 0],)),
    Case("flax module", stax_network, (X,), {"y": y}, (X[:4],), needs="flax"),
    Case("random flax module", random_flax, (X,), {"y": y}, (X[:4],), needs="flax"),
    Case("random Equinox module", random_equinox, (X,), {"y": y}, (X[:4],)),
)
