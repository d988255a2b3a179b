"""Programs of textbooks and of NumPyro's own examples, in words of our own."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.experimental.ode import odeint
from numpyro.distributions.transforms import AffineTransform
from numpyro.infer.reparam import LocScaleReparam, TransformReparam

from programs.case import NO_MODE, Case, generator

rng = generator(1)
x = np.linspace(-1, 1, 20)
x_new = np.linspace(-1.5, 1.5, 7)


def line(x, y=None):
    a, b = numpyro.sample("a", dist.Normal(0, 5)), numpyro.sample("b", dist.Normal(0, 5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, sigma), obs=y)


def eight_schools(sigma, y=None):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


@numpyro.handlers.reparam(config={"theta": LocScaleReparam(0)})
def eight_schools_shifted(sigma, y=None):
    eight_schools(sigma, y)


def coin(n, y=None):
    p = numpyro.sample("p", dist.Beta(1, 1))
    with numpyro.plate("tosses", n):
        numpyro.sample("y", dist.Bernoulli(p), obs=y)


def minimal(y=None):
    """A likelihood without a plate."""
    numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0, 1)), 1), obs=y)


def horseshoe(X, y=None):
    tau = numpyro.sample("tau", dist.HalfCauchy(0.5))
    with numpyro.plate("columns", X.shape[1]):
        scale = numpyro.sample("lambda", dist.HalfCauchy(1))
        z = numpyro.sample("z", dist.Normal(0, 1))
    beta = numpyro.deterministic("beta", tau * scale * z)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def funnel(dim=3):
    y = numpyro.sample("y", dist.Normal(0, 3))
    numpyro.sample("x", dist.Normal(jnp.zeros(dim), jnp.exp(y / 2)).to_event(1))


@numpyro.handlers.reparam(config={"x": LocScaleReparam(0)})
def funnel_shifted(dim=3):
    funnel(dim)


def dual_moon():
    x = numpyro.sample("x", dist.Uniform(-4 * jnp.ones(2), 4 * jnp.ones(2)).to_event(1))
    norm = jnp.linalg.norm(x)
    energy = 0.5 * ((norm - 2) / 0.4) ** 2
    energy -= jnp.logaddexp(-0.5 * ((x[0] + 2) / 0.6) ** 2, -0.5 * ((x[0] - 2) / 0.6) ** 2)
    numpyro.factor("energy", -energy)


def proportions(made, shots, y=None):
    control = numpyro.sample("control", dist.Normal(0, 1))
    effect = numpyro.sample("effect", dist.Normal(0, 1))
    with numpyro.plate("cells", len(shots)):
        logits = control + effect * made
        numpyro.sample("y", dist.Binomial(shots, logits=logits), obs=y)


def oscillator(times, y=None):
    """Prey and predator; NumPyro's ODE example has the same form."""
    theta = numpyro.sample(
        "theta", dist.LogNormal(jnp.log(jnp.array([0.6, 0.03, 0.8, 0.03])), 0.1 * jnp.ones(4))
    )
    start = numpyro.sample("start", dist.LogNormal(jnp.log(10 * jnp.ones(2)), 0.5 * jnp.ones(2)))

    def slope(z, t, theta):
        u, v = z
        return jnp.stack([(theta[0] - theta[1] * v) * u, (-theta[2] + theta[3] * u) * v])

    z = odeint(slope, start, jnp.asarray(times, jnp.result_type(float)), theta, rtol=1e-5)
    sigma = numpyro.sample("sigma", dist.LogNormal(-1, 0.5))
    with numpyro.plate("kinds", 2), numpyro.plate("times", len(times)):
        numpyro.sample("y", dist.LogNormal(jnp.log(jnp.maximum(z, 1e-3)), sigma), obs=y)


def gaussian_process(x, y=None):
    """All rows in one multivariate normal, its noise included."""
    length = numpyro.sample("length", dist.LogNormal(-1, 0.5))
    noise = numpyro.sample("noise", dist.LogNormal(-1, 0.5))
    apart = (x[:, None] - x[None, :]) / length
    cov = jnp.exp(-0.5 * apart**2) + (noise**2 + 1e-5) * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), cov), obs=y)


def network(X, y=None, width=4):
    w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((X.shape[1], width)), 1).to_event(2))
    w2 = numpyro.sample("w2", dist.Normal(jnp.zeros((width, 1)), 1).to_event(2))
    precision = numpyro.sample("precision", dist.Gamma(3, 1))
    with numpyro.plate("rows", X.shape[0]):
        mean = (jnp.tanh(X @ w1) @ w2)[:, 0]
        numpyro.sample("y", dist.Normal(mean, precision**-0.5), obs=y)


def flat(x, y=None):
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + x, sigma), obs=y)


def transformed(x, y=None):
    with numpyro.handlers.reparam(config={"b": TransformReparam()}):
        b = numpyro.sample(
            "b", dist.TransformedDistribution(dist.Normal(0, 1), AffineTransform(1.0, 2.0))
        )
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 0.3), obs=y)


NO_DATA = r"observes|needs data"
y_line = 1 + 2 * x + 0.3 * rng.normal(size=20)
y_schools = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
sd_schools = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
X = rng.normal(size=(24, 3))
y_binary = (X[:, 0] + 0.3 * rng.normal(size=24) > 0).astype(int)
times = np.arange(6.0)
prey = np.exp(rng.normal(size=(6, 2)) * 0.1 + np.log(10))
ROWS_OF_TRAINING = r"shape|rows"

CASES = (
    Case("line", line, (x,), {"y": y_line}, (x_new,)),
    Case(
        "eight schools",
        eight_schools,
        (sd_schools,),
        {"y": y_schools},
        (sd_schools[:5],),
        refused={"predict new": ROWS_OF_TRAINING},
        may_refuse=NO_MODE,
    ),
    Case("eight schools, reparam", eight_schools_shifted, (sd_schools,), {"y": y_schools}),
    Case("coin", coin, (12,), {"y": rng.integers(0, 2, 12)}, (5,)),
    Case("no plate", minimal, (), {"y": rng.normal(size=15)}),
    Case("horseshoe", horseshoe, (X,), {"y": y_binary}, (X[:5] + 0.1,)),
    Case(
        "funnel",
        funnel,
        refused=dict.fromkeys(("predict", "loo", "check_predictive"), NO_DATA),
    ),
    Case(
        "funnel, reparam",
        funnel_shifted,
        refused=dict.fromkeys(("predict", "loo", "check_predictive"), NO_DATA),
    ),
    Case(
        "dual moon",
        dual_moon,
        refused=dict.fromkeys(("predict", "loo", "check_predictive"), NO_DATA),
    ),
    Case(
        "proportions",
        proportions,
        (np.array([0, 0, 1, 1]), np.array([20, 30, 25, 40])),
        {"y": np.array([5, 9, 14, 20])},
        (np.array([0, 1]), np.array([50, 10])),
    ),
    Case("ODE", oscillator, (times,), {"y": prey}),
    # rows left out are judged given the others
    Case("Gaussian process", gaussian_process, (x,), {"y": np.sin(3 * x)}, dense=False),
    Case("network", network, (X,), {"y": np.tanh(X[:, 0])}, (X[:4] * 1.1,), may_refuse=NO_MODE),
    Case("flat priors", flat, (x,), {"y": y_line}, (x_new,)),
    Case("transform reparam", transformed, (x,), {"y": y_line}, (x_new,)),
)
