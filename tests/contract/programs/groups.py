"""Programs with groups: varying effects, nested plates, correlated effects, raw group codes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam

from programs.case import NO_MODE, Case, generator

rng = generator(2)


def centred(g, y=None, G=4):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.LogNormal(0, 0.5))
    with numpyro.plate("groups", G):
        z = numpyro.sample("z", dist.Normal(mu, tau))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)


def standardised(g, y=None, G=4):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.LogNormal(0, 0.5))
    with numpyro.plate("groups", G):
        z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(mu + tau * z[g], 0.3), obs=y)


def counted(g, y=None):
    """The number of groups is read from the data."""
    with numpyro.plate("groups", len(np.unique(g))):
        z = numpyro.sample("z", dist.Normal(0, 5))
    with numpyro.plate("rows", len(g)):
        numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)


def largest(g, y=None):
    with numpyro.plate("groups", int(np.max(g)) + 1):
        z = numpyro.sample("z", dist.Normal(0, 5))
    with numpyro.plate("rows", g.shape[0]):
        numpyro.sample("y", dist.Normal(z[g], 0.3), obs=y)


def batting(at_bats, hits=None):
    m = numpyro.sample("m", dist.Uniform(0, 1))
    kappa = numpyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with numpyro.plate("players", len(at_bats)):
        phi = numpyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        numpyro.sample("hits", dist.Binomial(at_bats, probs=phi), obs=hits)


def admission(department, male, applications, admitted=None):
    """NumPyro's example reads the number of departments in Python."""
    a, b = numpyro.sample("a", dist.Normal(0, 1)), numpyro.sample("b", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("departments", len(np.unique(department))):
        offset = numpyro.sample("offset", dist.Normal(0, 1))
    with numpyro.plate("cells", len(applications)):
        logits = a + sigma * offset[department] + b * male
        numpyro.sample("admitted", dist.Binomial(applications, logits=logits), obs=admitted)


@handlers.reparam(config={"district": LocScaleReparam(0)})
def mortality(age, district, population, deaths=None):
    alpha = numpyro.sample("alpha", dist.Normal(-3, 1))
    tau = numpyro.sample("tau", dist.HalfNormal(0.5))
    ages, districts = len(np.unique(age)), len(np.unique(district))
    with numpyro.plate("ages", ages):
        by_age = numpyro.sample("age", dist.Normal(0, 1))
    with numpyro.plate("districts", districts):
        by_district = numpyro.sample("district", dist.Normal(0, tau))
    with numpyro.plate("cells", len(population)):
        logits = alpha + by_age[age] + by_district[district]
        numpyro.sample("deaths", dist.Binomial(population, logits=logits), obs=deaths)


def varying_slopes(subject, x, y=None, subjects=5):
    mean = numpyro.sample("mean", dist.Normal(0, 2).expand([2]).to_event(1))
    tau = numpyro.sample("tau", dist.HalfNormal(1).expand([2]).to_event(1))
    lower = numpyro.sample("L", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("subjects", subjects):
        b = numpyro.sample("b", dist.MultivariateNormal(mean, scale_tril=tau[:, None] * lower))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b[subject, 0] + b[subject, 1] * x, 0.5), obs=y)


def crossed(row, column, y=None):
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("first", 3, dim=-2):
        u = numpyro.sample("u", dist.Normal(0, 1))
        with numpyro.plate("second", 2, dim=-1):
            w = numpyro.sample("w", dist.Normal(u, 0.5))
    with numpyro.plate("rows", len(row)):
        numpyro.sample("y", dist.Normal(w[row, column], sigma), obs=y)


def nested(y=None, shape=(4, 3)):
    """Data in a matrix, a plate for each axis."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("columns", shape[1], dim=-1):
        column = numpyro.sample("column", dist.Normal(0, 1))
        with numpyro.plate("rows", shape[0], dim=-2):
            numpyro.sample("y", dist.Normal(mu + column, 0.5), obs=y)


def minibatched(X, y=None, batch=None):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(X.shape[1]), 1).to_event(1))
    with numpyro.plate("rows", X.shape[0], subsample_size=batch):
        logits = numpyro.subsample(X, event_dim=1) @ w
        labels = None if y is None else numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=labels)


g = np.repeat(np.arange(4), 5)
y = np.array([0.0, 1, 2, 5])[g] + 0.3 * rng.normal(size=20)
department = np.repeat(np.arange(3), 2)
male = np.tile([0, 1], 3)
subject, time = np.repeat(np.arange(5), 4), np.tile(np.arange(4.0), 5)
X = rng.normal(size=(30, 2))
UNKNOWN = r"group|out of range|outside|index|shape"

CASES = (
    Case("varying means, centred", centred, (g,), {"y": y}, (np.array([3, 0, 1]),)),
    Case("varying means, standardised", standardised, (g,), {"y": y}, (np.array([3, 0, 1]),)),
    Case(
        "a group that was not there",
        centred,
        (g,),
        {"y": y},
        (np.array([3, 4, 9, -1]),),
        refused={"predict new": UNKNOWN},
    ),
    Case("groups counted by NumPy", counted, (g,), {"y": y}, (np.array([3, 2, 1, 0]),)),
    Case(
        "groups counted, fewer of them",
        counted,
        (g,),
        {"y": y},
        (np.array([0, 1]),),
        refused={"predict new": "shape"},
    ),
    Case("largest code", largest, (g,), {"y": y}, (np.array([0, 3]),)),
    Case(
        "baseball",
        batting,
        (np.array([45, 45, 40, 30, 20]),),
        {"hits": np.array([18, 15, 12, 7, 3])},
        (np.array([100, 100, 100, 90, 80]),),
        may_refuse=NO_MODE,
    ),
    Case(
        "admissions",
        admission,
        (department, male, np.array([80, 100, 60, 50, 40, 90])),
        {"admitted": np.array([60, 62, 20, 19, 4, 8])},
        (department, male, np.array([8, 10, 6, 5, 4, 9])),
    ),
    Case(
        "mortality",
        mortality,
        (np.tile(np.arange(2), 3), np.repeat(np.arange(3), 2), np.array([90, 80, 95, 70, 60, 99])),
        {"deaths": np.array([3, 9, 2, 8, 1, 12])},
        (np.tile(np.arange(2), 3), np.repeat(np.arange(3), 2), np.array([9, 8, 9, 7, 6, 9])),
    ),
    Case(
        "varying slopes",
        varying_slopes,
        (subject, time),
        {"y": 1 + time + 0.3 * rng.normal(size=20)},
        (np.array([0, 4]), np.array([2.5, 5.0])),
        may_refuse=NO_MODE,
    ),
    Case(
        "two factors",
        crossed,
        (np.repeat(np.arange(3), 4), np.tile(np.arange(2), 6)),
        {"y": rng.normal(size=12)},
        (np.array([2, 0]), np.array([1, 0])),
    ),
    Case("nested plates", nested, (), {"y": rng.normal(size=(4, 3))}),
    Case(
        "plate with minibatches",
        minibatched,
        (X,),
        {"y": (X[:, 0] > 0).astype(int)},
        (X[:5] * 0.9,),
    ),
)
