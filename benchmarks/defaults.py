"""What a first call is worth: `bdl.fit(bdl.BNN(), X, y)` beside scikit-learn at its defaults.

Numbers are scored by NLL, CRPS, RMSE, coverage and width of 90 % intervals; classes by NLL,
accuracy, calibration error, and expected against actual rows of the last class. CPU seconds are of
fit and prediction, compilation included, on one thread. Splits 0 and 1; training rows are a random
part where there are more than MOST_TRAIN. A set takes up to some minutes, and is written at once.

    OMP_NUM_THREADS=1 python -m benchmarks.defaults [SET ...]
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayesdl as bdl
from benchmarks import reference_data
from benchmarks.report import run_parts
from inference.distributions.calibration import expected_calibration_error

SPLITS = (0, 1)
MOST_TRAIN, MOST_TEST = 2000, 1000
MOST_GP = 1000  # training rows of scikit-learn's Gaussian process
FLOOR = 1e-6  # of a probability, for classifiers that give 0
UCI = ("boston", "energy", "wine", "kin8nm")
CLASSES = {
    "iris": load_iris,
    "wine-classes": load_wine,
    "breast-cancer": load_breast_cancer,
    "digits": load_digits,
}
SETS = (*UCI, "diabetes", *CLASSES, "rare")

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""X and y to train on, X and y held out."""


def rare() -> tuple[np.ndarray, np.ndarray]:
    """Return 4,000 rows of five inputs, of which 1 % are positive."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    order = np.argsort(X[:, 0] + 0.5 * X[:, 1] ** 2 + rng.normal(size=4000))
    y = np.zeros(4000, int)
    y[order[-40:]] = 1
    return X, y


def split_of(name: str, split: int) -> Split:
    """Return a split of a set; those of UCI sets are the published ones."""
    rng = np.random.default_rng(split)
    if name in UCI:
        data = reference_data.uci(name)
        test = data["test"][split].astype(bool)
        X, y = data["X"], data["y"].ravel()
        train, test = np.flatnonzero(~test), np.flatnonzero(test)
    else:
        X, y = (
            rare()
            if name == "rare"
            else (CLASSES | {"diabetes": load_diabetes})[name](return_X_y=True)
        )
        stratify = None if name == "diabetes" else y
        size = 1000 if name == "rare" else 0.7
        train, test = train_test_split(
            np.arange(len(y)), train_size=size, stratify=stratify, random_state=split
        )
    train, test = (rng.permutation(part) for part in (train, test))
    train, test = train[:MOST_TRAIN], test[:MOST_TEST]
    return X[train], y[train], X[test], y[test]


def normal_scores(mean: np.ndarray, sd: np.ndarray | float, y: np.ndarray) -> dict[str, float]:
    """Return the scores of normal predictive distributions."""
    z, sd = (y - mean) / sd, np.broadcast_to(sd, y.shape)
    crps = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    half = norm.ppf(0.95)
    return {
        "nll": float(-np.mean(norm.logpdf(z) - np.log(sd))),
        "crps": float(crps.mean()),
        "rmse": float(np.sqrt(np.mean((y - mean) ** 2))),
        "coverage_90": float(np.mean(np.abs(z) <= half)),
        "width_90": float(np.mean(2 * half * sd)),
    }


def class_scores(probs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the scores of class probabilities; classes are 0, 1, ..."""
    probs = np.clip(probs, FLOOR, 1)
    probs = probs / probs.sum(1, keepdims=True)
    hits = probs.argmax(1) == y
    return {
        "nll": float(-np.log(probs[np.arange(len(y)), y]).mean()),
        "accuracy": float(hits.mean()),
        "ece": float(expected_calibration_error(probs.max(1), hits)),
        "expected_last": float(probs[:, -1].sum()),
        "actual_last": float((y == probs.shape[1] - 1).sum()),
    }


def ours(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict[str, Any]:
    """Return the scores of the default network with the engine that is chosen for it."""
    classes = y.dtype.kind == "i"
    two = classes and len(np.unique(y)) == 2
    likelihood = bdl.Bernoulli() if two else bdl.Categorical() if classes else bdl.Normal()
    post = bdl.fit(bdl.BNN(likelihood=likelihood), X, y, progress=False)
    prediction: Any = post.predict(X_new)
    engine = {"engine": type(post.engine).__name__}
    if classes:
        return engine | class_scores(np.asarray(prediction.probs), y_new)
    low, high = prediction.quantile([0.05, 0.95])
    return engine | {
        "nll": float(-np.mean(prediction.log_prob(y_new))),
        "crps": float(np.mean(prediction.crps(y_new))),
        "rmse": float(np.sqrt(np.mean((prediction.mean - y_new) ** 2))),
        "coverage_90": float(np.mean((low <= y_new) & (y_new <= high))),
        "width_90": float(np.mean(high - low)),
    }


def residual_sd(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Return the standard deviation of cross-validated residuals."""
    return float(np.std(y - cross_val_predict(model, X, y, cv=5)))


def regressors(seed: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the scikit-learn regressors, each a function of a split that gives scores."""

    def constant_sd(model: Any) -> Callable[..., dict[str, Any]]:
        def run(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict:
            sd = residual_sd(model, X, y)
            return normal_scores(model.fit(X, y).predict(X_new), sd, y_new)

        return run

    def process(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict:
        if len(y) > MOST_GP:
            return {}
        scaler = StandardScaler().fit(X)
        kernel = ConstantKernel() * RBF(np.ones(X.shape[1])) + WhiteKernel()
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
        model.fit(scaler.transform(X), y)
        mean, sd = model.predict(scaler.transform(X_new), return_std=True)
        return normal_scores(mean, sd, y_new)

    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    return {
        "ridge": constant_sd(ridge),
        "random forest": constant_sd(RandomForestRegressor(random_state=seed)),
        "histogram boosting": constant_sd(HistGradientBoostingRegressor(random_state=seed)),
        "Gaussian process": process,
    }


def classifiers(seed: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the scikit-learn classifiers, each a function of a split that gives scores."""

    def run(model: Any) -> Callable[..., dict[str, Any]]:
        return lambda X, y, X_new, y_new: class_scores(model.fit(X, y).predict_proba(X_new), y_new)

    logistic = make_pipeline(StandardScaler(), LogisticRegressionCV(max_iter=1000))
    return {
        "logistic regression": run(logistic),
        "random forest": run(RandomForestClassifier(random_state=seed)),
        "histogram boosting": run(HistGradientBoostingClassifier(random_state=seed)),
    }


def scores_on(name: str) -> dict[str, Any]:
    """Return the scores of all methods on all splits of a set."""
    rows = []
    for split in SPLITS:
        data = split_of(name, split)
        classes = data[1].dtype.kind == "i"
        methods = {"bayesdl": ours} | (classifiers(split) if classes else regressors(split))
        for method, run in methods.items():
            started = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(*data)
            if found:
                found["cpu_s"] = round(time.process_time() - started, 1)
                shown = {k: v if isinstance(v, str) else round(v, 4) for k, v in found.items()}
                rows.append({"method": method, "split": split, **shown})
                print(name, rows[-1], flush=True)
    return {"train_rows": len(data[1]), "test_rows": len(data[3]), "rows": rows}


def main() -> None:
    logging.getLogger("bayesdl").setLevel(logging.WARNING)
    run_parts("defaults", SETS, scores_on, __doc__)


if __name__ == "__main__":
    main()
