"""Predictions for groups that were not in the data: their intervals hold what they say.

    z_j ~ N(mu, tau^2),   y_ij ~ N(z_j, 1),   mu ~ N(0, 2^2),   tau ~ |N(0, 1)|

Data sets are simulated from the model; each is fitted by NUTS (side by side, compiled once), and
rows of new groups are predicted by `post.predict(..., new_levels="sample")`:

    coverage   the share of new rows inside their 90 % intervals, over all simulations
    sd         with many groups, the predictive sd of a new row over sqrt(tau^2 + 1)

    python -m benchmarks.new_groups [--simulations 200]
"""

from __future__ import annotations

import argparse
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl.model.program import Program
from benchmarks.report import write
from inference.core.result import Draws

ENGINE = bdl.NUTS(num_warmup=300, num_samples=300, num_chains=1, chain_method="vectorized")
GROUPS, ROWS, NEW = 10, 4, 20


def model(group, y=None, count=GROUPS):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    tau = numpyro.sample("tau", dist.HalfNormal(1))
    with numpyro.plate("groups", count):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
    z = mu + tau * raw
    with numpyro.plate("rows", len(group)):
        numpyro.sample("y", dist.Normal(z[group], 1), obs=y)


def posteriors(simulations: int, groups: int, mu: np.ndarray, tau: np.ndarray, seed: int):
    """Yield the posterior of each of many simulated data sets."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), ROWS)
    z = mu[:, None] + tau[:, None] * rng.normal(size=(simulations, groups))
    y = (z[:, group] + rng.normal(size=(simulations, len(group)))).astype(np.float32)
    spec = Program(model)
    schema, problem = spec.learn(group, y=y[0], count=groups)
    samples, _ = ENGINE.infer_many(problem, {"y": y}, key=jax.random.key(seed))
    for i in range(simulations):
        draws = Draws({name: value[i][None] for name, value in samples.items()}, {})
        yield bdl.Posterior(spec, schema, problem, ENGINE, draws, i)


def coverage(simulations: int) -> dict[str, float]:
    rng = np.random.default_rng(1)
    mu, tau = 2 * rng.normal(size=simulations), np.abs(rng.normal(size=simulations))
    new = GROUPS + np.arange(NEW)
    held, ratios = [], []
    for i, post in enumerate(posteriors(simulations, GROUPS, mu, tau, seed=2)):
        prediction = post.predict(new, count=GROUPS + NEW, new_levels="sample")
        low, high = prediction.interval(0.9)
        # rows of new groups of the same data set
        y = mu[i] + tau[i] * rng.normal(size=NEW) + rng.normal(size=NEW)
        held.append(float(((low <= y) & (y <= high)).mean()))
        exact = np.sqrt(post.samples["mu"].var() + np.mean(post.samples["tau"] ** 2) + 1)
        ratios.append(float(prediction.std.mean() / exact))
    return {
        "simulations": simulations,
        "new rows of each": NEW,
        "coverage of 90 % intervals": float(np.mean(held)),
        "its standard error": float(np.std(held) / np.sqrt(simulations)),
        "sd over that of the draws of mu and tau": float(np.mean(ratios)),
    }


def many_groups() -> dict[str, float]:
    """The predictive sd of a new row, where the data pin mu and tau down."""
    truth, groups = 1.5, 300
    (post,) = posteriors(1, groups, np.zeros(1), np.array([truth]), seed=3)
    prediction = post.predict(groups + np.arange(NEW), count=groups + NEW, new_levels="sample")
    # tau is known to about tau / sqrt(2 groups)
    return {
        "groups": groups,
        "sd over sqrt(tau^2 + 1)": float(prediction.std.mean() / np.hypot(truth, 1)),
        "standard error": float(truth**2 / (truth**2 + 1) / np.sqrt(2 * groups)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {"coverage": coverage(options.simulations), "many groups": many_groups()}
    for name, values in results.items():
        print(name, values)
    write("new_groups", {"engine": ENGINE.as_data(), **results})


if __name__ == "__main__":
    main()
