"""The CPU time of an exact Gaussian process against scikit-learn's, with as many restarts.

Both maximise the evidence of an RBF kernel with one length scale per input and normal noise, from
three starts, in one thread. Each library fits two splits: the first fit of bayesdl compiles, so
that its time less that of an equal second fit is what compiling takes.

    python -m benchmarks.exact_gp [--sets boston energy] [--splits 2]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

import bayesdl as bdl
from benchmarks import reference_data
from benchmarks.report import write

RESTARTS = 3


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and its CPU seconds."""
    started = time.process_time()
    value = run()
    return value, time.process_time() - started


def fit_bayesdl(X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Fit bdl.GP() with ExactGP."""
    engine = bdl.ExactGP(num_restarts=RESTARTS)
    return bdl.fit(bdl.GP(), X, y, engine=engine, seed=seed, progress=False)


def fit_sklearn(X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Fit the same model with scikit-learn, the inputs standardised."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel() * RBF(np.ones(X.shape[1])) + WhiteKernel()
    model = GaussianProcessRegressor(
        kernel, n_restarts_optimizer=RESTARTS - 1, normalize_y=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of length scales at their bounds
        return model.fit((X - X.mean(0)) / X.std(0), y)


def compare(name: str, split: int) -> dict[str, float]:
    """Return times and scores of both libraries on one split."""
    data = reference_data.uci(name)
    X, y, test = data["X"], data["y"], data["test"][split]
    train = ~test
    post, seconds = timed(lambda: fit_bayesdl(X[train], y[train], split))
    model, sk_seconds = timed(lambda: fit_sklearn(X[train], y[train], split))
    shift, scale = X[train].mean(0), X[train].std(0)
    mean, sd = model.predict((X[test] - shift) / scale, return_std=True)
    return {
        "rows": int(train.sum()),
        "columns": X.shape[1],
        "cpu_seconds": seconds,
        "sklearn_cpu_seconds": sk_seconds,
        "log_evidence": post.raw.info["log_evidence"],
        "sklearn_log_evidence": float(model.log_marginal_likelihood_value_),
        "log_density": float(post.predict(X[test]).log_prob(y[test]).mean()),
        "sklearn_log_density": float(stats.norm.logpdf(y[test], mean, sd).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["boston", "energy"])
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    rows = {}
    for name in options.sets:
        # compiled by a first fit of rows of the same shape
        first = compare(name, 0)
        found = [compare(name, split) for split in range(options.splits)]
        total = {key: float(np.sum([row[key] for row in found])) for key in found[0]}
        rows[name] = {
            "splits": found,
            "compiling_cpu_seconds": first["cpu_seconds"] - found[0]["cpu_seconds"],
            "ratio": total["cpu_seconds"] / total["sklearn_cpu_seconds"],
        }
        print(name, rows[name])
    write("exact_gp", rows)


if __name__ == "__main__":
    main()
