"""What a line believes before the data.

Data drawn from the prior, with the observed ones.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w[0] + w[1] * x, sigma), obs=y)


x = jnp.linspace(-1, 1, 40)
y = 0.5 + x + 0.2 * np.random.default_rng(0).normal(size=40)
prior = bdl.prior_predictive(line, x, y=jnp.asarray(y), num_samples=300)
bdl.plots.prior_predictive(prior)
