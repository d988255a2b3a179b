"""Conformal and recalibrated predictions, and frozen predictors, on UCI regression.

    python -m benchmarks.calibration [--datasets boston energy wine kin8nm] [--splits 10]
                                     [--parts sets vi already forest digits speed]

"sets": of one fit of a linear model of random cosine features by `bdl.NUTS()`, the raw intervals,
those of conformal Bayes, recalibrated ones, and split conformal sets with the score "absolute" of
a fit that leaves a quarter of the rows out (the same numbers as MAPIE's). "vi": `bdl.BNN()` by
`bdl.VI()` on energy, raw against recalibrated and conformal, no new data. "already": posteriors
that are calibrated already, a network by `bdl.NUTS()` and a process by `bdl.ExactGP()`, which
recalibration should leave alone. "forest": a random forest with the heads of `bdl.Frozen`, next to
a constant normal and to the published loss of BayesCap, whose power is missing. "digits": naive
Bayes on digits with 300 rows, and a network that is calibrated already. "speed": 10,000 conformal
predictions from 1,000 rows and 1,000 draws.

Rows that benchmarks/results/calibration.json already has are kept; each is written as it is done.
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import stats
from scipy.optimize import minimize
from scipy.special import gammaln

import bayesdl as bdl
from benchmarks.reference_data import uci
from benchmarks.report import RESULTS, write

MOST_ROWS = 700  # training rows; wine and kin8nm have more
LEVEL = 0.9
FEATURES = 100
SOME = 300  # training rows of fits that are calibrated already


def split(data: dict, number: int) -> tuple[np.ndarray, ...]:
    """Return training and test rows of a split."""
    test = data["test"][number].astype(bool)
    X, y = data["X"], data["y"]
    kept = np.flatnonzero(~test)
    if len(kept) > MOST_ROWS:
        kept = np.sort(np.random.default_rng(number).choice(kept, MOST_ROWS, replace=False))
    return X[kept], y[kept], X[test], y[test]


def of_interval(interval: np.ndarray, y: np.ndarray) -> dict:
    """Return coverage, width and interval score of 90 % intervals."""
    low, high = interval
    width = high - low
    outside = np.maximum(np.maximum(low - y, y - high), 0)
    return {
        "coverage": float(np.mean(outside == 0)),
        "width": float(np.mean(width)),
        "score": float(np.mean(width + 2 / (1 - LEVEL) * outside)),
    }


def raw_and_calibrated(post: bdl.Posterior, X: np.ndarray, y: np.ndarray) -> dict:
    """Score raw, recalibrated and conformal predictions of one fit."""
    found = {}
    for name, one in (("raw", post), ("recalibrated", post.recalibrate())):
        pred = one.predict(X)
        found[name] = of_interval(pred.interval(LEVEL), y)
        found[name]["nll"] = float(-pred.log_prob(y).mean())
    found["conformal"] = of_interval(post.conformal(LEVEL).predict(X).interval(), y)
    return found


def features(X: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return random cosine features of rows, in the units of other rows."""
    rng = np.random.default_rng(0)
    scale = np.maximum(like.std(0), 1e-9)
    columns = (X - like.mean(0)) / scale
    weights = rng.normal(size=(X.shape[1], FEATURES)) / np.sqrt(X.shape[1])
    return np.cos(1.5 * columns @ weights + rng.uniform(0, 2 * np.pi, FEATURES))


def sets(data: dict, number: int) -> dict:
    """Compare conformal Bayes of all rows with split conformal sets of the same model."""
    X, y, new, target = split(data, number)
    X, new = features(X, X), features(new, X)
    engine = bdl.NUTS(num_warmup=200, num_samples=200, num_chains=2)
    fit = {"engine": engine, "progress": False, "seed": number}
    found = raw_and_calibrated(bdl.fit(bdl.BNN(hidden=()), X, y, **fit), new, target)
    held = np.random.default_rng(number).permutation(len(X)) < len(X) // 4
    part = bdl.fit(bdl.BNN(hidden=()), X[~held], y[~held], **fit)
    for score in ("absolute", "sd", "cdf"):
        made = part.conformal(LEVEL, X[held], y[held], score=score)
        found[f"split {score}"] = of_interval(made.predict(new).interval(), target)
    return found


def vi(data: dict, number: int) -> dict:
    """Compare the default network by VI with itself, recalibrated and conformal."""
    X, y, new, target = split(data, number)
    post = bdl.fit(bdl.BNN(), X, y, engine=bdl.VI(), progress=False, seed=number)
    return raw_and_calibrated(post, new, target)


def already(data: dict, number: int) -> dict:
    """Recalibrate posteriors that are calibrated already, from fewer rows for the time it takes."""
    X, y, new, target = split(data, number)
    order = np.random.default_rng(number).permutation(len(X))
    X, y = X[order], y[order]
    fit = {"progress": False, "seed": number}
    engine = bdl.NUTS(num_warmup=150, num_samples=150, num_chains=2)
    network = bdl.fit(bdl.BNN(hidden=(10,)), X[:SOME], y[:SOME], engine=engine, **fit)
    # a process gives no draws: a part of the rows is held out
    held = slice(SOME, SOME + SOME // 3)
    process = bdl.fit(bdl.GP(), X[:SOME], y[:SOME], engine=bdl.ExactGP(), **fit)
    found = {}
    for name, raw, made in (
        ("network by NUTS", network, network.recalibrate()),
        ("process", process, process.recalibrate(X[held], y[held])),
    ):
        both = [-float(one.predict(new).log_prob(target).mean()) for one in (raw, made)]
        found[name] = {"nll raw": both[0], "nll recalibrated": both[1]}
    return found


def published_loss(f: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Minimise the loss that BayesCap's code has: its residual lacks the power beta."""
    size = np.abs(y - f)

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        return float(
            np.mean(size * beta / alpha) + np.log(alpha) + gammaln(1 / beta) - np.log(beta)
        )

    alpha, beta = np.exp(minimize(loss, np.zeros(2), method="Nelder-Mead").x)
    return float(alpha), float(beta)


def forest(data: dict, number: int) -> dict:
    """Compare heads on a random forest that was trained on two thirds of the rows."""
    from sklearn.ensemble import RandomForestRegressor

    X, y, new, target = split(data, number)
    held = np.random.default_rng(number).permutation(len(X)) < len(X) // 3
    trees = RandomForestRegressor(200, random_state=number).fit(X[~held], y[~held])
    f, f_new = trees.predict(X[held]), trees.predict(new)
    constant = stats.norm(f_new, np.std(y[held] - f))
    alpha, beta = published_loss(f, y[held])
    cap = stats.gennorm(beta, f_new, alpha)
    found = {}
    for name, one in (("constant normal", constant), ("published BayesCap", cap)):
        found[name] = of_interval(np.stack(one.interval(LEVEL)), target)
        found[name]["nll"] = float(-one.logpdf(target).mean())
    for head in ("generalised", "normal"):
        engine = bdl.NUTS(num_warmup=200, num_samples=200, num_chains=2)
        post = bdl.fit(
            bdl.Frozen(trees, head=head), X[held], y[held], engine=engine, progress=False
        )
        pred = post.predict(new)
        found[head] = of_interval(pred.interval(LEVEL), target)
        found[head]["nll"] = float(-pred.log_prob(target).mean())
    return found


def digits(_: dict, number: int) -> dict:
    """Calibrate naive Bayes, and a network that is calibrated already, with 300 rows."""
    from sklearn.datasets import load_digits
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(number).permutation(len(X))
    train, held, new = order[:900], order[900:1200], order[1200:]
    found = {}
    for name, model in (
        ("naive Bayes", GaussianNB(var_smoothing=1e-4)),
        ("network", MLPClassifier((50,), alpha=1e-2, max_iter=300, random_state=number)),
    ):
        model.fit(X[train] / 16, y[train])
        raw = np.maximum(model.predict_proba(X[new] / 16), 1e-12)
        post = bdl.fit(bdl.Frozen(model), X[held] / 16, y[held], engine="laplace", progress=False)
        probs = post.predict(X[new] / 16).probs
        rows = np.arange(len(new)), y[new]
        found[name] = {
            "raw": float(-np.log(raw[rows]).mean()),
            "temperature": float(-np.log(probs[rows]).mean()),
        }
    return found


def _time_sets() -> dict:
    """Time 10,000 conformal predictions, and measure the memory of the whole process."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(1000, 8)), rng.normal(size=(10_000, 8))
    y = X[:, 0] + 0.5 * rng.standard_t(3, size=1000)
    post = bdl.fit(bdl.BNN(), X, y, engine=bdl.Laplace(), progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    sets = post.conformal(LEVEL).predict(new)
    low, high = sets.interval()
    seconds = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fewest, share = float(np.min(sets.ess())), float(np.mean(np.isfinite(high - low)))
    return {
        "adding one in": {"cpu_s": seconds, "fewest draws": fewest, "finite": share},
        "megabytes": {"after the fit": before / 1024, "in all": after / 1024},
    }


def speed(_: dict, number: int) -> dict:
    """Time conformal predictions in a process of their own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_time_sets).result()


PARTS: dict[str, Callable[[dict, int], dict]] = {
    "sets": sets,
    "vi": vi,
    "already": already,
    "forest": forest,
    "digits": digits,
    "speed": speed,
}


# of parts that take long, or that have no splits
MOST_SPLITS = {"already": 3, "speed": 1}


def print_table(results: dict) -> None:
    """Print means over the splits."""
    for key, rows in results.items():
        print(f"\n{key}: {len(rows)} splits")
        for name in rows[0]["found"]:
            numbers = [row["found"][name] for row in rows]
            parts = [f"{k} {np.mean([n[k] for n in numbers]):.3f}" for k in numbers[0]]
            errors = (
                [np.std([n["coverage"] for n in numbers], ddof=1) / len(rows) ** 0.5]
                if ("coverage" in numbers[0] and len(rows) > 1)
                else []
            )
            parts += [f"se of coverage {error:.3f}" for error in errors]
            print(f"  {name:<22}{'   '.join(parts)}")


def main() -> None:
    """Run what has no results yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", default=["boston", "energy", "wine", "kin8nm"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    path = RESULTS / "calibration.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for part in options.parts:
        alone = {"digits": ["digits"], "vi": ["energy"], "speed": ["rows"]}
        for name in alone.get(part, options.datasets):
            data = {} if part in ("digits", "speed") else uci(name)
            rows = results.setdefault(f"{part} {name}", [])
            for number in range(min(options.splits, MOST_SPLITS.get(part, options.splits))):
                if any(row["split"] == number for row in rows):
                    continue
                started = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = PARTS[part](data, number)
                seconds = round(time.process_time() - started, 1)
                rows.append({"split": number, "found": found, "cpu_s": seconds})
                write("calibration", {"results": results})
    print_table({key: rows for key, rows in results.items() if rows})


if __name__ == "__main__":
    main()
