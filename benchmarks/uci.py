"""UCI regression: BNN fitted with NUTS, VI and Laplace, and GP, next to MC dropout.

The scores are RMSE and mean log likelihood on test data. The peer is the tuned one-layer dropout
network of Gal and Ghahramani (2016, arXiv:1506.02142), whose figures per split come with the data.
Models run at their default settings (`bdl.BNN()`: 50 tanh units, unit normal weights with NTK
scaling, learned noise; `bdl.GP()`: RBF with a length scale per input, type-II maximum likelihood).
NUTS draws fewer than by default to fit the time.

    python -m benchmarks.uci [--datasets boston energy wine] [--splits 20]
                             [--engines gp laplace vi nuts]

Splits that benchmarks/results/uci.json already has are kept; remove the file to start anew.
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import argparse
import json
import time
import warnings

import jax
import numpy as np

import bayesdl as bdl
from benchmarks.page.tables import mean_and_error
from benchmarks.reference_data import uci
from benchmarks.report import RESULTS, write

ENGINES = {
    "gp": (bdl.GP(), bdl.ExactGP()),
    "laplace": (bdl.BNN(), bdl.Laplace()),
    "vi": (bdl.BNN(), bdl.VI()),
    "nuts": (bdl.BNN(), bdl.NUTS(num_warmup=300, num_samples=300, num_chains=2, start="prior")),
}


def run_split(data: dict, split: int, name: str) -> dict:
    """Fit one engine to one split, and return its scores and diagnostics."""
    model, engine = ENGINES[name]
    test = data["test"][split]
    started = time.process_time()
    post = bdl.fit(
        model, data["X"][~test], data["y"][~test], engine=engine, progress=False, seed=split
    )
    scores = post.score(data["X"][test], data["y"][test])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = post.diagnose().facts if name == "nuts" else {}
    return {
        "split": split,
        "rmse": scores["rmse"],
        "ll": -scores["nll"],
        "crps": scores["crps"],
        "coverage_90": scores["coverage_90"],
        "cpu_s": time.process_time() - started,
        **facts,
    }


def print_table(results: dict) -> None:
    """Print means and standard errors over splits, wins over the peer, and worst diagnostics."""
    print(
        f"{'':<8}{'engine':<12}{'splits':>6}{'RMSE':>16}{'log-lik.':>18}{'beats peer':>12}"
        f"{'coverage 90':>13}{'CPU s':>8}{'worst R-hat':>13}{'smallest ESS':>14}"
    )
    for dataset, engines in results.items():
        peer = uci(dataset)
        for name, rows in engines.items():
            splits = [row["split"] for row in rows]
            rmse, ll = (np.array([row[k] for row in rows]) for k in ("rmse", "ll"))
            wins = int((ll > peer["mc_dropout_ll"][splits]).sum())
            error = [v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan for v in (rmse, ll)]
            cover, cpu = (np.mean([row[k] for row in rows]) for k in ("coverage_90", "cpu_s"))
            print(
                f"{dataset:<8}{name:<12}{len(rows):>6}{rmse.mean():>9.3f} ±{error[0]:>5.3f}"
                f"{ll.mean():>11.3f} ±{error[1]:>5.3f}"
                f"{f'{wins}/{len(rows)}':>12}{cover:>13.3f}{cpu:>8.1f}{worst_diagnostics(rows)}"
            )
        print(
            f"{dataset:<8}{'mc dropout':<12}{len(peer['test']):>6}"
            f"{peer['mc_dropout_rmse'].mean():>9.3f}       {peer['mc_dropout_ll'].mean():>11.3f}"
        )


def worst_diagnostics(rows: list[dict]) -> str:
    """Return the worst R-hat and the smallest effective sample size over splits that have them."""
    rhats, sizes = (
        [row[key] for row in rows if key in row] for key in ("rhat (worst)", "ess (smallest)")
    )
    return f"{max(rhats):>13.3f}{min(sizes):>14.0f}" if rhats else ""


def stored_results() -> dict:
    """Read the results of earlier runs: engines and datasets may be run one by one."""
    path = RESULTS / "uci.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def against_peer(results: dict) -> dict:
    """Compare log likelihoods with those of the MC-dropout network, by dataset.

    Means come with their standard errors over splits.
    """
    found = {}
    for dataset, engines in results.items():
        peer, found[dataset] = uci(dataset)["mc_dropout_ll"].astype(float), {}
        for name, rows in engines.items():
            theirs = peer[[row["split"] for row in rows]]
            better = np.array([row["ll"] for row in rows]) - theirs
            found[dataset][name] = {
                "peer": mean_and_error(theirs),
                "difference": mean_and_error(better),
                "wins": int((better > 0).sum()),
            }
    return found


def report(settings: dict, results: dict) -> dict:
    """Return what is written: settings, the comparison with the peer, and all results."""
    return {"settings": settings, "against peer": against_peer(results), "results": results}


def main() -> None:
    """Run the engines on the splits that have no results yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", default=["boston", "energy", "wine"])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    options = parser.parse_args()
    settings = {key: [str(model), str(engine)] for key, (model, engine) in ENGINES.items()}
    results = stored_results()
    for name in options.engines:
        for dataset in options.datasets:
            data = uci(dataset)
            for split in range(min(options.splits, len(data["test"]))):
                results = stored_results()
                rows = results.setdefault(dataset, {}).setdefault(name, [])
                if split in [row["split"] for row in rows]:
                    continue
                rows.append(run_split(data, split, name))
                print(dataset, name, {k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
                write("uci", report(settings, results))
                jax.clear_caches()
    write("uci", report(settings, results))
    print_table(results)


if __name__ == "__main__":
    main()
