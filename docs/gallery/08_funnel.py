"""A funnel, and where chains diverge.

The centred form: small `tau` and effects near `mu` form a neck that the sampler does not enter.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl

sigma = jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])
y = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12])


def schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


engine = bdl.NUTS(num_warmup=500, num_samples=500, num_chains=4)
post = bdl.fit(schools, sigma, y=y, engine=engine, progress=False)
bdl.plots.pair(post, ["mu", "tau"])
