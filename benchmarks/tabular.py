"""The shipped network for tables against classifiers that are fitted to each, with few rows.

The data are scikit-learn's iris, wine, breast cancer and digits (its first 8 principal components)
with 30, 100 and 300 training rows. Reported are AUC (one against the rest), NLL, calibration error
and CPU seconds of fit and prediction, as means over splits.

    python -m benchmarks.tabular [--splits 5]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayesdl as bdl
from benchmarks.report import write
from inference.distributions.calibration import expected_calibration_error

SIZES = (30, 100, 300)
LEAST_TEST = 45
MOST_TEST = 500
FLOOR = 1e-6  # of a probability, for the NLL of classifiers that give 0
PEERS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=2000)
    ),
    "random forest": lambda seed: RandomForestClassifier(n_estimators=300, random_state=seed),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(
        random_state=seed, min_samples_leaf=5
    ),
}


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return X and y of each table."""
    loaders = {
        "iris": load_iris,
        "wine": load_wine,
        "breast cancer": load_breast_cancer,
        "digits": load_digits,
    }
    found = {name: load(return_X_y=True) for name, load in loaders.items()}
    X, y = found["digits"]
    return found | {"digits": (PCA(8, random_state=0).fit_transform(X), y)}


def score_split(
    X: np.ndarray, y: np.ndarray, size: int, seed: int, pfn: bdl.PFN
) -> dict[str, dict[str, float]]:
    """Return the scores of all classifiers on one split."""
    held_out = min(MOST_TEST, len(y) - size)
    train, test = next(
        StratifiedShuffleSplit(1, train_size=size, test_size=held_out, random_state=seed).split(
            X, y
        )
    )
    labels = np.unique(y)
    absent = [
        int(np.flatnonzero(y == label)[0]) for label in labels if label not in y[train]
    ]  # each class is seen once
    train = np.unique([*train, *absent])
    test = np.setdiff1d(test, train)
    found = {}
    for name in ("PFN", *PEERS):
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "PFN":
                probs = (
                    bdl.fit(pfn.model, X[train], y[train].astype(int), engine=pfn, progress=False)
                    .predict(X[test])
                    .probs
                )
            else:
                probs = PEERS[name](seed).fit(X[train], y[train]).predict_proba(X[test])
        found[name] = scores(probs, y[test], labels) | {"cpu_s": time.process_time() - started}
    return found


def scores(probs: np.ndarray, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    index = np.searchsorted(labels, y)
    probs = np.clip(probs, FLOOR, 1)
    probs = probs / probs.sum(1, keepdims=True)
    auc = (
        roc_auc_score(index, probs[:, 1])
        if len(labels) == 2
        else roc_auc_score(index, probs, multi_class="ovr")
    )
    return {
        "auc": float(auc),
        "accuracy": float(np.mean(probs.argmax(1) == index)),
        "nll": float(-np.log(probs[np.arange(len(y)), index]).mean()),
        "ece": float(expected_calibration_error(probs.max(1), probs.argmax(1) == index)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=5)
    splits = parser.parse_args().splits
    pfn, results = bdl.PFN.pretrained("tabular-classification"), {}
    for name, (X, y) in tables().items():
        for size in SIZES:
            if len(y) - size < LEAST_TEST:
                continue
            runs = [score_split(X, y, size, seed, pfn) for seed in (0, *range(splits))][
                1:
            ]  # the first compiles
            means = {
                who: {
                    score: float(np.mean([run[who][score] for run in runs]))
                    for score in runs[0][who]
                }
                for who in runs[0]
            }
            results[f"{name} {size}"] = means
            for who, values in means.items():
                print(
                    f"{name:<14}{size:>5}  {who:<20}",
                    *(f"{k} {v:.3f}" for k, v in values.items()),
                    flush=True,
                )
    lost = [
        key
        for key, means in results.items()
        if means["PFN"]["nll"] > min(values["nll"] for values in means.values())
    ]
    print("PFN loses in NLL at:", lost)
    write(
        "tabular", {"splits": splits, "network": pfn.line, "tables": results, "loses_in_nll": lost}
    )


if __name__ == "__main__":
    main()
