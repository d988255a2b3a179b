"""What a first call is worth: `bdl.BNN()` and `bdl.Table()` beside other libraries at defaults.

Numbers are scored by NLL, CRPS, RMSE, coverage and width of 90 % intervals; classes by NLL,
accuracy, calibration error, and expected against actual rows of the last class. CPU seconds are of
fit and prediction, compilation included, on one thread; memory is the largest the process has had.
Training rows are a random part where there are more than MOST_TRAIN. Each row is written at once,
and a row that is there is not computed again. Peers that are not installed are left out (`pip
install ngboost catboost`), and so are sets of packages that are not (`palmerpenguins`,
`vega_datasets`).

    OMP_NUM_THREADS=1 python -m benchmarks.defaults [SET ...] [--splits 2] [--methods NAME ...]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import logging
import resource
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
from benchmarks.report import RESULTS, write
from inference.distributions.calibration import expected_calibration_error

MOST_TRAIN, MOST_TEST = 2000, 1000
MOST_GP = 1000  # training rows of scikit-learn's Gaussian process
FLOOR = 1e-6  # of a probability, for classifiers that give 0
UCI = ("boston", "energy", "wine", "kin8nm", "naval", "protein")
CLASSES = {
    "iris": load_iris,
    "wine-classes": load_wine,
    "breast-cancer": load_breast_cancer,
    "digits": load_digits,
}
MIXED = ("penguins", "penguins-mass", "cars")  # categories, and cells that are missing
SETS = (*UCI, "diabetes", *CLASSES, "rare", *MIXED)

Split = tuple[Any, np.ndarray, Any, np.ndarray]
"""X and y to train on, X and y held out."""


def rare() -> tuple[np.ndarray, np.ndarray]:
    """Return 4,000 rows of five inputs, of which 1 % are positive."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    order = np.argsort(X[:, 0] + 0.5 * X[:, 1] ** 2 + rng.normal(size=4000))
    y = np.zeros(4000, int)
    y[order[-40:]] = 1
    return X, y


def mixed(name: str) -> tuple[Any, np.ndarray]:
    """Return a table with categories and missing cells, as the package that ships it has it."""
    if name == "cars":
        table = importlib.import_module("vega_datasets").data.cars()
        table = table.drop(columns="Name").dropna(subset="Miles_per_Gallon")
        return table.drop(columns="Miles_per_Gallon"), table.Miles_per_Gallon.to_numpy()
    table = importlib.import_module("palmerpenguins").load_penguins()
    if name == "penguins":
        return table.drop(columns="species"), table.species.astype("category").cat.codes.to_numpy()
    table = table.dropna(subset="body_mass_g")
    return table.drop(columns="body_mass_g"), table.body_mass_g.to_numpy()


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
            else mixed(name)
            if name in MIXED
            else (CLASSES | {"diabetes": load_diabetes})[name](return_X_y=True)
        )
        stratify = y if y.dtype.kind == "i" else None
        size = 1000 if name == "rare" else 0.7
        train, test = train_test_split(
            np.arange(len(y)), train_size=size, stratify=stratify, random_state=split
        )
    train, test = (rng.permutation(part) for part in (train, test))
    train, test = train[:MOST_TRAIN], test[:MOST_TEST]
    rows = X.iloc if hasattr(X, "iloc") else X
    return rows[train], y[train], rows[test], y[test]


def plain(X: Any, X_new: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a table as peers take it.

    Categories are zeros and ones, dates are days, and gaps are training medians.
    """
    if not hasattr(X, "iloc"):
        return X, X_new
    import pandas as pd

    both = pd.concat([X, X_new])
    for name in both.select_dtypes("datetime"):
        both[name] = (both[name] - both[name].min()) / pd.Timedelta(days=1)
    both = pd.get_dummies(both, dummy_na=True).astype(float)
    both = both.fillna(both[: len(X)].median()).fillna(0.0).to_numpy()
    return both[: len(X)], both[len(X) :]


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


def ours(kind: type) -> Callable[..., dict[str, Any]]:
    """Return the function of a split that scores a model of ours with the engine chosen for it."""

    def run(X: Any, y: np.ndarray, X_new: Any, y_new: np.ndarray) -> dict[str, Any]:
        classes = y.dtype.kind == "i"
        two = classes and len(np.unique(y)) == 2
        likelihood = bdl.Bernoulli() if two else bdl.Categorical() if classes else bdl.Normal()
        post = bdl.fit(kind(likelihood=likelihood), X, y, progress=False)
        prediction: Any = post.predict(X_new)
        engine = {"engine": repr(post)}
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

    return run


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
    } | boosted(seed, classes=False)


def classifiers(seed: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the scikit-learn classifiers, each a function of a split that gives scores."""

    def run(model: Any) -> Callable[..., dict[str, Any]]:
        return lambda X, y, X_new, y_new: class_scores(model.fit(X, y).predict_proba(X_new), y_new)

    logistic = make_pipeline(StandardScaler(), LogisticRegressionCV(max_iter=1000))
    return {
        "logistic regression": run(logistic),
        "random forest": run(RandomForestClassifier(random_state=seed)),
        "histogram boosting": run(HistGradientBoostingClassifier(random_state=seed)),
    } | boosted(seed, classes=True)


def boosted(seed: int, classes: bool) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return NGBoost and CatBoost with uncertainty, where they are installed."""

    def ngboost(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict:
        library = importlib.import_module("ngboost")
        if not classes:
            model = library.NGBRegressor(random_state=seed, verbose=False).fit(X, y)
            found = model.pred_dist(X_new).params
            return normal_scores(found["loc"], found["scale"], y_new)
        k = importlib.import_module("ngboost.distns").k_categorical(len(np.unique(y)))
        model = library.NGBClassifier(Dist=k, random_state=seed, verbose=False).fit(X, y)
        return class_scores(model.predict_proba(X_new), y_new)

    def catboost(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict:
        library = importlib.import_module("catboost")
        settings = {"random_seed": seed, "verbose": False, "allow_writing_files": False}
        settings["thread_count"] = 1
        if classes:
            model = library.CatBoostClassifier(**settings).fit(X, y)
            return class_scores(model.predict_proba(X_new), y_new)
        settings["loss_function"] = "RMSEWithUncertainty"
        mean, variance = library.CatBoostRegressor(**settings).fit(X, y).predict(X_new).T
        return normal_scores(mean, np.sqrt(variance), y_new)

    both = {"NGBoost": ("ngboost", ngboost), "CatBoost": ("catboost", catboost)}
    return {name: run for name, (of, run) in both.items() if importlib.util.find_spec(of)}


def score(name: str, split: int, method: str) -> dict[str, Any] | None:
    """Return the scores of a method on a split of a set; None where it does not apply."""
    X, y, X_new, y_new = split_of(name, split)
    peers = classifiers(split) if y.dtype.kind == "i" else regressors(split)
    run = OURS.get(method) or peers.get(method)
    if run is None:
        return None
    if method not in OURS:
        X, X_new = plain(X, X_new)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(X, y, X_new, y_new)
    if not found:
        return None
    found["cpu_s"] = round(time.process_time() - started, 1)
    found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shown = {k: v if isinstance(v, str) else round(v, 4) for k, v in found.items()}
    sizes = {"train_rows": len(y), "test_rows": len(y_new)}
    return {"method": method, "split": split, **sizes, **shown}


OURS = {"bayesdl": ours(bdl.BNN), "bayesdl Table": ours(bdl.Table)}
METHODS = (*OURS, *dict.fromkeys((*regressors(0), *classifiers(0))))


def main() -> None:
    """Compute the rows that are not there yet."""
    logging.getLogger("bayesdl").setLevel(logging.WARNING)
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    for split, name, method in itertools.product(
        range(options.splits), options.sets, options.methods
    ):
        path = RESULTS / "defaults.json"
        stored = json.loads(path.read_text()) if path.exists() else {}
        results = {one: stored[one] for one in SETS if one in stored}
        rows = results.setdefault(name, {"rows": []})["rows"]
        if any(row["method"] == method and row["split"] == split for row in rows):
            continue
        try:
            found = score(name, split, method)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        except ValueError as error:
            if method in OURS:
                raise
            print(f"{name}: {method} fails: {error}")
            continue
        if found:
            print(name, found, flush=True)
            rows.append(found)
            write("defaults", results)


if __name__ == "__main__":
    main()
