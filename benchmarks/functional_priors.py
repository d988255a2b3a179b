"""Functional priors: the speed and the accuracy of matching, and its worth on held-out data.

    match    a network's functions against those of a Gaussian process, in one dimension and on
             boston's inputs
    boston   10 splits with the fixed noise variance 0.1 of Tran et al. (2022, arXiv:2011.12829):
             N(0, 1) against matched
    uci      other sets with learned noise: fixed, hierarchical, matched and matched hierarchical
             priors by SGHMC, and a Gaussian process; next to the dropout network whose figures come
             with the data (Gal and Ghahramani 2016)
    digits   a small convolutional network on scikit-learn's digits

    python -m benchmarks.functional_priors [match boston uci digits] [--splits 10]
                                           [--datasets energy wine ...]

Parts that are not asked for keep their results in benchmarks/results/functional_priors.json.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
from arviz_stats.base.array import array_stats

import bayesdl as bdl
from bayesdl.posterior.streaming import means
from benchmarks.reference_data import uci
from benchmarks.report import RESULTS, write

TARGET = bdl.GP(bdl.kernels.RBF(ard=True))
ENGINE = bdl.SGHMC(num_warmup=10_000, num_samples=200, thinning=400, num_chains=4, start="prior")
# all rows of a small set at once: steps are three times as costly and can be ten times as long
SMALL = bdl.SGHMC(
    num_warmup=800,
    num_samples=200,
    thinning=25,
    num_chains=2,
    batch_size=None,
    step_size=0.2,
    friction=0.3,
    start="prior",
)
# settings of the matching in boston, uci and digits
MATCHING: dict[str, Any] = {"steps": 100, "num_functions": 64}
MOST_GP_ROWS = 2000


def match_model(model: bdl.BNN, X: np.ndarray, seed: int, **settings: Any) -> tuple[Any, float]:
    """Match a model's prior; return the prior and the CPU seconds it took."""
    started = time.process_time()
    prior = bdl.match_prior(
        model, to=TARGET, inputs=X, seed=seed, progress=False, **MATCHING, **settings
    )
    return prior, time.process_time() - started


def scores(model: Any, engine: Any, data: dict, split: int) -> dict[str, float]:
    """Return the scores of a fit to one split, and its CPU seconds."""
    test = data["test"][split]
    started = time.process_time()
    post = bdl.fit(
        model, data["X"][~test], data["y"][~test], engine=engine, progress=False, seed=split
    )
    X, y = data["X"][test], data["y"][test]
    prediction = post.predict(X)
    found = post.score(X, y)
    variance = prediction.std**2
    normal = 0.5 * np.log(2 * np.pi * variance) + (y - prediction.mean) ** 2 / (2 * variance)
    kept = {name: float(found[name]) for name in ("rmse", "nll", "crps", "coverage_90")}
    kept |= {"nll_of_moments": float(normal.mean()), "cpu_s": time.process_time() - started}
    if isinstance(engine, bdl.SGHMC):
        kept["rhat_of_predictions"] = rhat(prediction, engine.num_chains)
    return kept


def rhat(prediction: Any, num_chains: int) -> float:
    """Return the mean over rows of R-hat of the predicted mean."""
    values = np.asarray(prediction.stream.map(means, axis=1), float)
    chains = values.reshape(num_chains, -1, values.shape[-1])
    return float(np.mean(array_stats.rhat(chains, chain_axis=0, draw_axis=1)))


def match() -> dict:
    """Report on matched priors, each with the CPU seconds of its first run and compilation."""
    x = np.linspace(-6, 6, 100)[:, None]
    gp = bdl.GP(bdl.kernels.RBF(lengthscale=0.6, variance=1.0), standardize=False)
    line = bdl.BNN(hidden=(50, 50, 50), standardize=False)
    data = uci("boston")
    X, held = data["X"][~data["test"][0]], data["X"][data["test"][0]]
    boston = bdl.BNN(hidden=(100,))
    families = {
        "LayerGaussian": bdl.priors.LayerGaussian(),
        "LayerHierarchical": bdl.priors.LayerHierarchical(),
    }
    families |= {"ScaleFlow": bdl.priors.ScaleFlow()}
    cases = {"1-D LayerGaussian": (line, gp, x, families["LayerGaussian"])}
    cases |= {f"boston {name}": (boston, TARGET, X, family) for name, family in families.items()}
    results = {}
    for name, (model, target, inputs, family) in cases.items():
        started = time.process_time()
        prior = bdl.match_prior(model, to=target, inputs=inputs, family=family, progress=False)
        seconds = time.process_time() - started
        where = (
            {"num_functions": 4096}
            if inputs is x
            else {"at": held, "num_points": 70, "num_functions": 1024}
        )
        report = bdl.prior_report(model.with_prior(prior), to=target, inputs=inputs, **where)
        results[name] = {
            "cpu_s": seconds,
            "sd_ratio": float(np.median(report.sd_ratio)),
            "marginal_w1": float(report.marginal_w1.mean()),
            "correlation_error": report.correlation_error,
            "sliced_w1": report.sliced_w1,
            "floor": report.floor,
            "kurtosis": report.kurtosis,
        }
        print(name, {k: np.round(v, 3) for k, v in results[name].items()}, flush=True)
    return results


def boston(splits: int) -> dict:
    """Compare fixed and matched priors, with the literature's fixed noise."""
    data, rows = uci("boston"), []
    for split in range(splits):
        X, y = data["X"][~data["test"][split]], data["y"][~data["test"][split]]
        model = bdl.BNN(hidden=(100,), likelihood=bdl.Normal(scale=float(np.sqrt(0.1) * y.std())))
        prior, seconds = match_model(model, X, split)
        row = {"split": split, "match_cpu_s": seconds, "prior": [prior.weight, prior.bias]}
        row["fixed"] = scores(model.with_prior(bdl.priors.LayerGaussian()), SMALL, data, split)
        row["matched"] = scores(model.with_prior(prior), SMALL, data, split)
        rows.append(row)
        print(
            split,
            *(
                f"{n} rmse {row[n]['rmse']:.3f} nll {row[n]['nll_of_moments']:.3f}"
                for n in ("fixed", "matched")
            ),
            flush=True,
        )
    summary = {
        f"{name} {score}": float(np.mean([row[name][score] for row in rows]))
        for name in ("fixed", "matched")
        for score in ("rmse", "nll_of_moments", "nll", "crps", "coverage_90")
    }
    summary["cpu_s"] = float(sum(row["match_cpu_s"] + row["matched"]["cpu_s"] for row in rows))
    print(summary)
    return {"rows": rows, "summary": summary}


def run_dataset(name: str, splits: int) -> list[dict]:
    """Compare all priors on a data set, with learned noise."""
    data, rows = uci(name), []
    # naval has two columns that are constant
    data["X"] = data["X"][:, np.ptp(data["X"], axis=0) > 0]
    for split in range(splits):
        X = data["X"][~data["test"][split]]
        model, row = bdl.BNN(hidden=(100,)), dict[str, Any](split=split)
        families = {
            "fixed": bdl.priors.LayerGaussian(),
            "hierarchical": bdl.priors.LayerHierarchical(),
        }
        for label, family in families.items():
            prior, seconds = match_model(model, X, split, family=family)
            row[label] = scores(model.with_prior(family), ENGINE, data, split)
            key = "matched" if label == "fixed" else "matched hierarchical"
            row[key] = scores(model.with_prior(prior), ENGINE, data, split) | {
                "match_cpu_s": seconds
            }
        if len(X) <= MOST_GP_ROWS:
            row["gp"] = scores(bdl.GP(), bdl.ExactGP(), data, split)
        row["mc dropout"] = {
            "rmse": float(data["mc_dropout_rmse"][split]),
            "nll": -float(data["mc_dropout_ll"][split]),
        }
        rows.append(row)
    print_table(name, rows)
    return rows


def print_table(name: str, rows: list[dict]) -> None:
    """Print means over splits."""
    for label in [key for key in rows[0] if key != "split"]:
        cells = {
            k: np.mean([row[label][k] for row in rows])
            for k in ("rmse", "nll", "crps", "coverage_90")
            if k in rows[0][label]
        }
        print(
            f"{name:<9}{label:<22}" + "".join(f"{k} {v:8.4f}   " for k, v in cells.items()),
            flush=True,
        )


def digits() -> dict:
    """Score fixed and matched priors on images, with 900 digits to learn from."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X, order = (X / 16).reshape(-1, 8, 8), np.random.default_rng(0).permutation(len(X))
    train, test = order[:900], order[900:]
    net = bdl.ConvNet(image=(8, 8), channels=(8, 16))
    model = bdl.BNN(network=net, likelihood=bdl.Categorical(), prior=bdl.priors.LayerGaussian())
    # inputs are 64 standardised numbers
    target = bdl.GP(bdl.kernels.RBF(lengthscale=8.0, variance=8.0))
    started = time.process_time()
    prior: Any = bdl.match_prior(
        model, to=target, inputs=X[train], num_targets=10, progress=False, **MATCHING
    )
    results: dict[str, Any] = {
        "match_cpu_s": time.process_time() - started,
        "prior": [prior.weight, prior.bias],
    }
    engine = bdl.SGHMC(num_warmup=2000, num_samples=100, thinning=20, num_chains=2, batch_size=64)
    for name, one in {"fixed": bdl.priors.LayerGaussian(), "matched": prior}.items():
        started = time.process_time()
        post = bdl.fit(model.with_prior(one), X[train], y[train], engine=engine, progress=False)
        found = post.score(X[test], y[test])
        results[name] = {k: float(v) for k, v in found.items()} | {
            "cpu_s": time.process_time() - started
        }
        print(name, results[name], flush=True)
    return results


def main() -> None:
    """Run the parts and write their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["match", "boston", "uci", "digits"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--datasets", nargs="+", default=["energy", "wine", "kin8nm", "naval"])
    options = parser.parse_args()
    # short chains: their figures are read as predictions, not as posteriors
    warnings.simplefilter("ignore")
    path = RESULTS / "functional_priors.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results = {k: v for k, v in results.items() if k in ("match", "boston", "uci", "digits")}
    for part in options.parts:
        if part == "match":
            results[part] = match()
        elif part == "boston":
            results[part] = boston(options.splits)
        elif part == "uci":
            for name in options.datasets:
                results[part] = results.get(part, {}) | {name: run_dataset(name, options.splits)}
                # written at once, as a data set takes long
                write("functional_priors", results)
        elif part == "digits":
            results[part] = digits()
        else:
            parser.error(f"unknown part {part!r}: expected match, boston, uci or digits")
        write("functional_priors", results)


if __name__ == "__main__":
    main()
