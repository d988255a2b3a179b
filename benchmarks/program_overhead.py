"""The cost of the front door for NumPyro programs: `bayesdl.fit` against NumPyro's own MCMC.

Five programs with NUTS, the same settings and the same rows, in this process on one device, in
alternating order, compilation included (no cache on disk). The ratio is of CPU seconds, the median
over repetitions of (ours / theirs): everything from the program and its data to the draws in
memory, checks of the data included.

    python -m benchmarks.program_overhead [--repeats 3]
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.infer import MCMC
from numpyro.infer import NUTS as NumPyroNUTS

import bayesdl as bdl
from benchmarks.report import write

SETTINGS = {"num_warmup": 1000, "num_samples": 1000, "num_chains": 4}
STATS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
rng = np.random.default_rng(0)


def schools(sigma, y=None):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(sigma)):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * raw, sigma), obs=y)


def logistic(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 2).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def slopes(group, x, y=None, count=18):
    scale = numpyro.sample("scale", dist.HalfNormal(1).expand([2]).to_event(1))
    mean = numpyro.sample("mean", dist.Normal(0, 5).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("groups", count):
        raw = numpyro.sample("raw", dist.Normal(0, 1).expand([2]).to_event(1))
    b = mean + scale * raw
    with numpyro.plate("rows", len(group)):
        numpyro.sample("y", dist.Normal(b[group, 0] + b[group, 1] * x, sigma), obs=y)


def autoregression(y):
    a, b = numpyro.sample("a", dist.Normal(0, 0.5)), numpyro.sample("b", dist.Normal(0, 0.5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))

    def step(last, now):
        numpyro.sample("y", dist.Normal(a * last[0] + b * last[1], sigma), obs=now)
        return (now, last[0]), None

    scan(step, (y[1], y[0]), y[2:])


def counts(x, y=None):
    a, b = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("b", dist.Normal(0, 2))
    shape = numpyro.sample("shape", dist.Gamma(2, 0.5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.NegativeBinomial2(jnp.exp(a + b * x), shape), obs=y)


def cases() -> dict[str, tuple]:
    """Programs with their arguments and observations."""
    X = rng.normal(size=(1000, 8)).astype(np.float32)
    label = (rng.uniform(size=1000) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    group, x = np.repeat(np.arange(18), 10), np.tile(np.linspace(-1, 1, 10), 18).astype(np.float32)
    response = (rng.normal(size=18)[group] + x + 0.5 * rng.normal(size=180)).astype(np.float32)
    series = np.cumsum(0.1 * rng.normal(size=200)).astype(np.float32)
    sigma = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)
    effects = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
    return {
        "eight schools": (schools, (sigma,), {"y": effects}),
        "logistic regression": (logistic, (X,), {"y": label}),
        "varying slopes": (slopes, (group, x), {"y": response}),
        "autoregression by scan": (autoregression, (series,), {}),
        "counts": (counts, (X[:, 0],), {"y": rng.poisson(np.exp(1 + 0.5 * X[:, 0]))}),
    }


def ours(program, args, observed):
    engine = bdl.NUTS(chain_method="sequential", **SETTINGS)
    return bdl.fit(program, *args, **observed, engine=engine, progress=False).samples


def theirs(program, args, observed):
    mcmc = MCMC(NumPyroNUTS(program), chain_method="sequential", progress_bar=False, **SETTINGS)
    mcmc.run(jax.random.key(0), *args, **observed, extra_fields=STATS)
    return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))


def seconds(function, case) -> float:
    """CPU seconds of a run that compiles anew."""
    jax.clear_caches()
    started = time.process_time()
    function(*case)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats, results = parser.parse_args().repeats, {}
    for name, case in cases().items():
        rows = []
        for repeat in range(repeats):
            runs = [("ours", ours), ("numpyro", theirs)][:: 1 if repeat % 2 else -1]
            rows.append({label: seconds(function, case) for label, function in runs})
            rows[-1]["ratio"] = rows[-1]["ours"] / rows[-1]["numpyro"]
            print(name, {k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
        results[name] = {"median ratio": statistics.median(r["ratio"] for r in rows), "rows": rows}
    write("program_overhead", {"settings": SETTINGS, "programs": results})


if __name__ == "__main__":
    main()
