"""The overhead of the front door: NUTS through `bayesdl.fit` against the bare NumPyro program.

Model and settings are the same. Both run in this process on one device, alternating, compilation
included. The ratios are of wall times and of CPU times, each the median over repetitions of
(ours / theirs). The draws are the same to the bit, which is checked.

    python -m benchmarks.overhead
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=1")

import argparse
import statistics
import time

import jax
import numpy as np
from numpyro.infer import MCMC
from numpyro.infer import NUTS as NumPyroNUTS
from sklearn.datasets import load_diabetes

import bayesdl as bdl
from benchmarks.report import write

SETTINGS = {"num_warmup": 200, "num_samples": 200, "num_chains": 2}
STATS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")


def measure(function):
    """Return (wall seconds, CPU seconds, value)."""
    jax.clear_caches()
    wall, cpu = time.perf_counter(), time.process_time()
    value = function()
    return time.perf_counter() - wall, time.process_time() - cpu, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    X, y = load_diabetes(return_X_y=True)
    model = bdl.BNN(hidden=(10,))
    schema = model.learn_schema(X, y)

    def ours():
        return bdl.fit(
            model, X, y, engine=bdl.NUTS(chain_method="sequential", **SETTINGS), progress=False
        ).samples

    def theirs():
        problem = model.problem(schema, X, y)
        mcmc = MCMC(
            NumPyroNUTS(problem.program), chain_method="sequential", progress_bar=False, **SETTINGS
        )
        mcmc.run(jax.random.key(0), *problem.args, extra_fields=STATS)
        return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))

    rows = []
    for repeat in range(repeats):
        runs = {
            name: measure(f)
            for name, f in ([("ours", ours), ("numpyro", theirs)][:: 1 if repeat % 2 else -1])
        }
        same = all(np.array_equal(v, runs["ours"][2][k]) for k, v in runs["numpyro"][2].items())
        rows.append(
            {
                "wall_ours": runs["ours"][0],
                "wall_numpyro": runs["numpyro"][0],
                "wall_ratio": runs["ours"][0] / runs["numpyro"][0],
                "cpu_ours": runs["ours"][1],
                "cpu_numpyro": runs["numpyro"][1],
                "cpu_ratio": runs["ours"][1] / runs["numpyro"][1],
                "same_draws": same,
            }
        )
        print({k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
    medians = {k: statistics.median(row[k] for row in rows) for k in ("wall_ratio", "cpu_ratio")}
    print("median", {k: round(v, 3) for k, v in medians.items()})
    write("overhead", {"settings": SETTINGS, "rows": rows, "median": medians})


if __name__ == "__main__":
    main()
