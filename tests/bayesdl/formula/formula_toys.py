"""Small tables, and one formula of each kind."""

import numpy as np
import pandas as pd

import bayesdl as bdl

NUTS = bdl.NUTS(num_warmup=60, num_samples=40, num_chains=2)


def table(rows=60):
    """Columns of every kind, and responses for every likelihood."""
    random = np.random.default_rng(1)
    x, z = random.normal(size=rows), random.uniform(1, 3, size=rows)
    g = random.choice(list("abcde"), size=rows)
    h = random.integers(0, 3, size=rows)
    dose = random.integers(0, 4, size=rows)
    eta = 0.5 * x + 0.3 * (g == "a")
    trials = random.integers(5, 15, size=rows)
    counts = random.poisson(np.exp(0.5 + eta))
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "g": g,
            "h": h,
            "dose": pd.Categorical(
                np.array(["none", "low", "mid", "high"])[dose],
                categories=["none", "low", "mid", "high"],
                ordered=True,
            ),
            "n": trials,
            "y": 100 + 20 * eta + 5 * random.normal(size=rows),
            "count": counts,
            "zeros": counts * random.integers(0, 2, size=rows),
            "hits": random.binomial(trials, 1 / (1 + np.exp(-eta))),
            "event": random.integers(0, 2, size=rows),
            "share": random.uniform(0.1, 0.9, size=rows),
            "time": np.exp(eta + 0.4 * random.normal(size=rows)),
            "lost": random.uniform(size=rows) < 0.3,
            "grade": pd.Categorical(
                random.choice(["poor", "fair", "good"], size=rows),
                categories=["poor", "fair", "good"],
                ordered=True,
            ),
            "kind": random.choice(["cat", "dog", "eel"], size=rows),
        }
    )


CATALOGUE = {
    "straight line": bdl.Formula("y ~ x"),
    "nothing but a mean": bdl.Formula("y ~ 1"),
    "factors and interactions": bdl.Formula("y ~ x * g + C(h, contr.sum)"),
    "no intercept": bdl.Formula("y ~ 0 + g + x"),
    "splines": bdl.Formula("y ~ bs(z, df=4) + poly(x, 2) + log(z)"),
    "groups": bdl.Formula("y ~ x + (1 | g)"),
    "slopes": bdl.Formula("y ~ x + (x | g)"),
    "slopes, centred": bdl.Formula("y ~ x + (x | g)", centred=True),
    "independent slopes": bdl.Formula("y ~ x + (x || g)"),
    "independent slopes, centred": bdl.Formula("y ~ x + (x || g)", centred=True),
    "nested": bdl.Formula("y ~ x + (1 | g / h)"),
    "two terms of a group": bdl.Formula("y ~ x + (1 | g) + (0 + x | g)"),
    "smooth": bdl.Formula("y ~ s(z) + x"),
    "process": bdl.Formula("y ~ gp(h) + x"),
    "monotone": bdl.Formula("y ~ mo(dose) + x"),
    "scale": bdl.Formula("y ~ x", "sigma ~ x + (1 | g)"),
    "student": bdl.Formula("y ~ x", likelihood="student_t"),
    "bernoulli": bdl.Formula("event ~ x", likelihood="bernoulli"),
    "probit": bdl.Formula("event ~ x", likelihood="bernoulli", link="probit"),
    "binomial": bdl.Formula("hits | trials(n) ~ x + (1 | g)", likelihood="binomial"),
    "cloglog": bdl.Formula("hits | trials(n) ~ x", likelihood="binomial", link="cloglog"),
    "poisson": bdl.Formula("count ~ x + offset(log(z))", likelihood="poisson"),
    "softplus": bdl.Formula("count ~ x", likelihood="poisson", link="softplus"),
    "negative binomial": bdl.Formula("count ~ x", likelihood="negative_binomial"),
    "zeros": bdl.Formula("zeros ~ x", likelihood="zero_inflated_poisson"),
    "zeros by x": bdl.Formula("zeros ~ x", "zi ~ x", likelihood="zero_inflated_negative_binomial"),
    "gamma": bdl.Formula("time ~ x", likelihood="gamma"),
    "beta": bdl.Formula("share ~ x", likelihood="beta"),
    "lognormal": bdl.Formula("time ~ x", likelihood="lognormal"),
    "weibull": bdl.Formula("time | cens(lost) ~ x", likelihood="weibull"),
    "censored lognormal": bdl.Formula("time | cens(lost) ~ x", likelihood="lognormal"),
    "censored gamma": bdl.Formula("time | cens(lost) ~ x", likelihood="gamma"),
    "censored normal": bdl.Formula("time | cens(lost) ~ x"),
    "groups of classes": bdl.Formula("kind ~ x + (1 | g)", likelihood="categorical"),
    "smooth scale": bdl.Formula("y ~ x", "sigma ~ s(z) + mo(dose) + offset(log(z))"),
    "ordered": bdl.Formula("grade ~ x + (1 | g)", likelihood="ordered"),
    "categorical": bdl.Formula("kind ~ x", likelihood="categorical"),
    "given priors": bdl.Formula("y ~ x + (x | g)", priors={"cor_g": 4.0, "sigma": 3.0}),
}
