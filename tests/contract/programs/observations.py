"""What may be observed: several sites, masked and missing rows, censored rows, constant rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import cond

from programs.case import Case, generator

rng = generator(6)
x = np.linspace(-1, 1, 18)
y = 1 + x + 0.3 * rng.normal(size=18)


def masked(x, y=None, seen=None):
    a, b = numpyro.sample("a", dist.Normal(0, 5)), numpyro.sample("b", dist.Normal(0, 5))
    seen = True if seen is None else seen
    with numpyro.plate("rows", len(x)), handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(a + b * x, 0.3), obs=y)


def masked_distribution(x, y=None, seen=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        given = dist.Normal(a + x, 0.3)
        numpyro.sample("y", given if seen is None else given.mask(seen), obs=y)


def partly_seen(x, y=None, seen=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + x, 0.3), obs=y, obs_mask=seen)


def imputed(age, y=None):
    """Missing covariates are latent; the program looks for NaN in Python."""
    mu, sd = numpyro.sample("mu", dist.Normal(0, 1)), numpyro.sample("sd", dist.HalfNormal(1))
    missing = np.isnan(age)
    filled = jnp.asarray(np.where(missing, 0.0, age))
    if missing.any():
        values = numpyro.sample("values", dist.Normal(mu, sd).expand([int(missing.sum())]))
        filled = filled.at[np.nonzero(missing)[0]].set(values)
    with numpyro.plate("rows", len(age)):
        numpyro.sample("age_", dist.Normal(mu, sd).mask(~missing), obs=np.nan_to_num(age))
        numpyro.sample("y", dist.Normal(filled, 0.5), obs=y)


def two_targets(x, first=None, second=None):
    b = numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("first", dist.Normal(b * x, 0.5), obs=first)
        numpyro.sample("second", dist.Poisson(jnp.exp(0.3 * b * x)), obs=second)


def two_tables(x, z, y=None, w=None):
    """Two tables of different length share a parameter."""
    b = numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 0.5), obs=y)
    with numpyro.plate("others", len(z)):
        numpyro.sample("w", dist.Normal(b * z, 1.0), obs=w)


def censored(x, limit, y=None):
    """Rows that were cut off enter by a factor for each."""
    a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + x, 0.5), obs=y)
    tail = dist.Normal(a + limit, 0.5)
    numpyro.factor("cut", jnp.log1p(-tail.cdf(jnp.full(3, 1.5))).sum())


def weighted(x, y=None, weight=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    weight = 1.0 if weight is None else weight
    with numpyro.plate("rows", len(x)), handlers.scale(scale=weight):
        numpyro.sample("y", dist.Normal(a + x, 0.5), obs=y)


def known_row(x, y=None):
    """The density of the first row is the same for every draw."""
    a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jnp.where(jnp.arange(len(x)) == 0, x, a + x), 0.5), obs=y)


def derived(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    mean = numpyro.deterministic("mean", a + x)
    numpyro.deterministic("largest", jnp.max(mean))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def whole_data(y):
    """The one argument is the data."""
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("obs", dist.Normal(mu, 1), obs=y)


def branch(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    slope = cond(a > 0, lambda a: a, lambda a: -a, a)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


def conditioned(x, y=None):
    """The observations come by a handler."""

    def inner():
        a = numpyro.sample("a", dist.Normal(0, 2))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(a + x, 0.5))

    with handlers.condition(data={} if y is None else {"y": y}):
        inner()


seen = np.arange(18) % 6 != 2
filled = np.where(seen, y, -100.0)
age = np.where(np.arange(12) % 5 == 1, np.nan, rng.normal(size=12))

CASES = (
    Case("masked rows", masked, (x,), {"y": filled, "seen": seen}, (x[:5],)),
    Case("masked distribution", masked_distribution, (x,), {"y": filled, "seen": seen}, (x[:5],)),
    Case("rows partly seen", partly_seen, (x,), {"y": filled, "seen": seen}, (x[:5],)),
    Case("missing covariates", imputed, (age,), {"y": rng.normal(size=12)}, site="y"),
    Case(
        "two targets",
        two_targets,
        (x,),
        {"first": x, "second": rng.poisson(1, 18)},
        (x[:4],),
        site="second",
    ),
    Case(
        "two tables",
        two_tables,
        (x, x[:7]),
        {"y": x, "w": 2 * x[:7]},
        (x[:4], x[:2]),
        site="w",
    ),
    Case("cut-off rows by a factor", censored, (x, 0.7), {"y": y}, (x[:4], 0.7)),
    Case(
        "weighted rows",
        weighted,
        (x,),
        {"y": y, "weight": np.linspace(0.5, 2, 18)},
        (x[:4],),
        refused={"loo": "weights .* of 0.5 to 2"},
    ),
    Case("a row of known density", known_row, (x,), {"y": y}, (x[:4],)),
    Case("deterministic sites", derived, (x,), {"y": y}, (x[:4],)),
    Case("data alone", whole_data, (y,)),
    Case("a branch", branch, (x,), {"y": y}, (x[:4],)),
    Case("observations by a handler", conditioned, (x,), {"y": y}, (x[:4],)),
)
