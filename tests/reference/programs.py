"""The posteriors of posteriordb as plain NumPyro programs.

Latent sites are named as in posteriordb, whose indices start at 1: `beta[2]` there is `beta[1]`
here.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan


def flat_vector(name, size):
    """A vector with a flat prior."""
    return numpyro.sample(name, dist.ImproperUniform(dist.constraints.real_vector, (), (size,)))


def flat_scale(name):
    """A positive number with a flat prior."""
    return numpyro.sample(name, dist.ImproperUniform(dist.constraints.positive, (), ()))


def eight_schools(sigma, y=None):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(sigma)):
        z = numpyro.sample("theta_trans", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def kidscore(mom_hs, mom_iq, y=None):
    beta = flat_vector("beta", 4)
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = beta[0] + beta[1] * mom_hs + beta[2] * mom_iq + beta[3] * mom_hs * mom_iq
    with numpyro.plate("children", len(mom_hs)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def arma(times, y=None):
    """y_t = nu_t + err_t with nu_t = mu + phi y_{t-1} + theta err_{t-1}; before the first time
    stands y = mu, err = 0.

    The same recursion reads off the errors of a given y and simulates a new one.
    """
    mu, phi = numpyro.sample("mu", dist.Normal(0, 10)), numpyro.sample("phi", dist.Normal(0, 2))
    theta, sigma = (
        numpyro.sample("theta", dist.Normal(0, 2)),
        numpyro.sample("sigma", dist.HalfCauchy(2.5)),
    )

    def step(last, y_t):
        last_y, last_error = last
        nu = mu + phi * last_y + theta * last_error
        y_t = numpyro.sample("y", dist.Normal(nu, sigma), obs=y_t)
        return (y_t, y_t - nu), None

    scan(step, (mu, jnp.zeros_like(mu)), y, length=len(times))


def nes(ideology, race, age, education, gender, income, y=None):
    """Ages come in four groups, 1 to 4, of which the first is the baseline."""
    beta, sigma = flat_vector("beta", 9), flat_scale("sigma")
    mean = beta[0] + beta[1] * ideology + beta[2] * race
    mean = mean + beta[3] * (age == 2) + beta[4] * (age == 3) + beta[5] * (age == 4)
    mean = mean + beta[6] * education + beta[7] * gender + beta[8] * income
    with numpyro.plate("people", len(ideology)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def mesquite(diam1, diam2, canopy_height, total_height, density, group, y=None):
    """y is the logarithm of the weight."""
    beta, sigma = flat_vector("beta", 7), flat_scale("sigma")
    area = diam1 * diam2
    mean = (
        beta[0]
        + beta[1] * jnp.log(area * canopy_height)
        + beta[2] * jnp.log(area)
        + beta[3] * jnp.log(diam1 / diam2)
    )
    mean = mean + beta[4] * jnp.log(total_height) + beta[5] * jnp.log(density) + beta[6] * group
    with numpyro.plate("bushes", len(group)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def gaussian_process(x, y=None):
    """The noise has variance sigma, not its square."""
    rho, alpha = (
        numpyro.sample("rho", dist.Gamma(25, 4)),
        numpyro.sample("alpha", dist.HalfNormal(2)),
    )
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    K = alpha**2 * jnp.exp(-((x[:, None] - x[None, :]) ** 2) / (2 * rho**2))
    numpyro.sample(
        "y", dist.MultivariateNormal(jnp.zeros(len(x)), K + sigma * jnp.eye(len(x))), obs=y
    )


def linear_regression(X, y=None):
    rows, columns = X.shape
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([columns]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10))
    with numpyro.plate("rows", rows):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def mixture(rows, y=None):
    """The two means are independent normal variables restricted to mu[1] < mu[2]: a flat prior on
    that set times a factor.
    """
    mu = numpyro.sample("mu", dist.ImproperUniform(dist.constraints.ordered_vector, (), (2,)))
    numpyro.factor("mu_prior", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    shape = (len(rows), 2)  # spelt out, as NumPyro's mixtures promote ranks otherwise
    weights = dist.Categorical(jnp.broadcast_to(jnp.stack([theta, 1 - theta]), shape))
    components = dist.Normal(jnp.broadcast_to(mu, shape), jnp.broadcast_to(sigma, shape))
    with numpyro.plate("rows", len(rows)):
        numpyro.sample("y", dist.MixtureSameFamily(weights, components), obs=y)


def earnings(z, male, y=None):
    """z is the standardised height, y the logarithm of the earnings."""
    beta, sigma = flat_vector("beta", 4), flat_scale("sigma")
    mean = beta[0] + beta[1] * z + beta[2] * male + beta[3] * z * male
    with numpyro.plate("people", len(z)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def fields(d, *names):
    """Fields of posteriordb's data as arrays."""
    return tuple(np.array(d[name], float) for name in names)


def nes_data(d):
    inputs = fields(d, "real_ideo", "race_adj", "age_discrete", "educ1", "gender", "income")
    return inputs, {"y": np.array(d["partyid7"], float)}


def mesquite_data(d):
    inputs = fields(d, "diam1", "diam2", "canopy_height", "total_height", "density", "group")
    return inputs, {"y": np.log(d["weight"])}


def earnings_data(d):
    height, male = fields(d, "height", "male")
    return ((height - height.mean()) / height.std(ddof=1), male), {"y": np.log(d["earn"])}


# name in posteriordb -> (program, function from its data to (args, kwargs) of the program)
CASES = {
    "eight_schools-eight_schools_noncentered": (
        eight_schools,
        lambda d: (fields(d, "sigma"), {"y": np.array(d["y"], float)}),
    ),
    "kidiq-kidscore_interaction": (
        kidscore,
        lambda d: (fields(d, "mom_hs", "mom_iq"), {"y": np.array(d["kid_score"], float)}),
    ),
    "arma-arma11": (arma, lambda d: ((np.arange(d["T"]),), {"y": np.array(d["y"])})),
    "nes1980-nes": (nes, nes_data),
    "mesquite-logmesquite_logvas": (mesquite, mesquite_data),
    "gp_pois_regr-gp_regr": (gaussian_process, lambda d: (fields(d, "x"), {"y": np.array(d["y"])})),
    "sblrc-blr": (linear_regression, lambda d: (fields(d, "X"), {"y": np.array(d["y"])})),
    "low_dim_gauss_mix-low_dim_gauss_mix": (
        mixture,
        lambda d: ((np.arange(d["N"]),), {"y": np.array(d["y"])}),
    ),
    "earnings-logearn_interaction_z": (earnings, earnings_data),
}
