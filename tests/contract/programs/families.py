"""Regressions of every family of targets: counts, classes, ranks, shares, durations, angles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from programs.case import Case, generator

rng = generator(3)
x = rng.normal(size=24)
x_new = np.array([-1.0, 0.0, 0.7])


def regression(given, link=lambda eta: eta):
    """Return a program of one covariate whose targets have the distribution `given(mean)`."""

    def program(x, y=None):
        a, b = numpyro.sample("a", dist.Normal(0, 1)), numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", given(link(a + b * x)), obs=y)

    return program


poisson = regression(dist.Poisson, jnp.exp)
negative_binomial = regression(lambda mean: dist.NegativeBinomial2(mean, 3.0), jnp.exp)
zero_inflated = regression(lambda mean: dist.ZeroInflatedPoisson(0.3, mean), jnp.exp)
gamma = regression(lambda mean: dist.Gamma(2.0, 2.0 / mean), jnp.exp)
weibull = regression(lambda scale: dist.Weibull(scale, 1.5), jnp.exp)
beta = regression(lambda mean: dist.Beta(5 * mean, 5 * (1 - mean)), jax.nn.sigmoid)
student = regression(lambda mean: dist.StudentT(4.0, mean, 0.5))
laplace = regression(lambda mean: dist.Laplace(mean, 0.5))
truncated = regression(lambda mean: dist.TruncatedNormal(mean, 1.0, low=0.0))
angle = regression(lambda mean: dist.VonMises(mean, 2.0))
geometric = regression(lambda logit: dist.GeometricLogits(logit))
lognormal = regression(lambda mean: dist.LogNormal(mean, 0.5))


def ordinal(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    cut = numpyro.sample(
        "cut",
        dist.TransformedDistribution(
            dist.Normal(jnp.zeros(3), 1).to_event(1), dist.transforms.OrderedTransform()
        ),
    )
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.OrderedLogistic(b * x, cut), obs=y)


def softmax(x, y=None):
    b = numpyro.sample("b", dist.Normal(jnp.zeros((2, 3)), 1).to_event(2))
    with numpyro.plate("rows", len(x)):
        logits = b[0] + jnp.asarray(x)[:, None] * b[1]
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)


def grid_of_classes(shape, y=None):
    """Five people answer four questions with one of three answers."""
    with numpyro.plate("questions", shape[1], dim=-1):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
        with numpyro.plate("people", shape[0], dim=-2):
            numpyro.sample("y", dist.Categorical(probs=p), obs=y)


def multinomial(total, y=None):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("rows", len(total)):
        numpyro.sample("y", dist.Multinomial(total, p, total_count_max=20), obs=y)


def vectors(x, y=None):
    b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 1).to_event(1))
    lower = numpyro.sample("L", dist.LKJCholesky(2, 1.0))
    with numpyro.plate("rows", len(x)):
        mean = jnp.asarray(x)[:, None] * b
        numpyro.sample("y", dist.MultivariateNormal(mean, scale_tril=lower), obs=y)


def independent(x, y=None):
    b = numpyro.sample("b", dist.Normal(jnp.zeros(2), 1).to_event(1))
    with numpyro.plate("rows", len(x)):
        mean = jnp.asarray(x)[:, None] * b
        numpyro.sample("y", dist.Normal(mean, 0.5).to_event(1), obs=y)


def shares(x, y=None):
    b = numpyro.sample("b", dist.Normal(jnp.zeros(3), 1).to_event(1))
    with numpyro.plate("rows", len(x)):
        alpha = jnp.exp(0.5 * jnp.asarray(x)[:, None] * b) * 3
        numpyro.sample("y", dist.Dirichlet(alpha), obs=y)


def mixture(y=None, n=24):
    """A mixture that sums its components itself."""
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-2.0, 2.0]), 1).to_event(1))
    with numpyro.plate("rows", n):
        parts = dist.MixtureSameFamily(dist.Categorical(w), dist.Normal(mu, 0.7))
        numpyro.sample("y", parts, obs=y)


counts = rng.poisson(np.exp(0.3 + 0.4 * x))
positive = rng.gamma(2.0, np.exp(0.3 * x))
inside = np.clip(rng.beta(2, 2, size=24), 0.02, 0.98)
real = 0.5 * x + 0.5 * rng.normal(size=24)
pair = np.stack([real, -real + 0.3 * rng.normal(size=24)], axis=1)
simplex = rng.dirichlet([3, 3, 3], size=24)


def case(name, program, y):
    return Case(name, program, (x,), {"y": y}, (x_new,))


CASES = (
    case("Poisson", poisson, counts),
    case("negative binomial", negative_binomial, counts),
    case("zero-inflated Poisson", zero_inflated, counts * (rng.uniform(size=24) > 0.3)),
    case("geometric", geometric, counts),
    case("gamma", gamma, positive),
    case("Weibull", weibull, positive),
    case("log-normal", lognormal, positive),
    case("beta", beta, inside),
    case("Student t", student, real),
    case("Laplace errors", laplace, real),
    case("truncated normal", truncated, np.abs(real)),
    case("angles", angle, np.arctan2(np.sin(real), np.cos(real))),
    case("ordered classes", ordinal, rng.integers(0, 4, 24)),
    case("classes", softmax, rng.integers(0, 3, 24)),
    Case("grid of classes", grid_of_classes, ((5, 4),), {"y": rng.integers(0, 3, (5, 4))}),
    Case(
        "multinomial",
        multinomial,
        (np.full(6, 10),),
        {"y": rng.multinomial(10, [0.2, 0.3, 0.5], size=6)},
        (np.array([5, 20]),),
    ),
    case("correlated pairs", vectors, pair),
    case("independent pairs", independent, pair),
    case("shares", shares, simplex),
    Case("mixture, summed by hand", mixture, (), {"y": np.where(x > 0, 2, -2) + 0.5 * real}),
)
