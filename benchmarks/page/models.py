"""Sections on models: how well predictions do on data."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.page.tables import Section, mean_and_error, read

ENGINES = {"nuts": "BNN, NUTS", "laplace": "BNN, Laplace", "vi": "BNN, VI", "gp": "GP"}
NAMES = {"the same, refined": "that blend, refined for each user"}


def sections() -> list[Section]:
    """Make the sections, in their order."""
    return [
        regression(),
        tables(),
        calibration(),
        functional_priors(),
        amortized(),
        small_tables(),
        exact_processes(),
        many_rows(),
        tensors(),
        recommenders(),
        sparse(),
        sparse_regression(),
    ]


def regression() -> Section:
    """Compare default models with a tuned MC-dropout network on UCI regression."""
    section = Section(
        "Regression at default settings",
        "python -m benchmarks.uci",
        "Mean test log-likelihood in nats (higher is better) of models at their default settings, "
        "over the first ten splits (wine: five), beside a tuned MC-dropout network (Gal and "
        "Ghahramani 2016) on the same splits. NUTS makes 300 + 300 draws.",
    )
    stored = read("uci")
    head = ["set", *ENGINES.values(), "MC dropout"]
    rows, wins = [], []
    for name, engines in stored["results"].items():
        against = stored["against peer"][name]
        values = {key: np.array([row["ll"] for row in engines[key]]) for key in ENGINES}
        cells = [mean_and_error(value) for value in values.values()]  # type: ignore[arg-type]
        rows.append([name, *cells, tuple(against["nuts"]["peer"])])  # type: ignore[arg-type]
        better = [f"{against[key]['wins']} of {len(value)}" for key, value in values.items()]
        wins.append([name, *better])
    section.table(head, rows, best="highest", ours=(1, 2, 3, 4))
    section.picture("uci", "Difference to MC dropout in test log-likelihood, with standard errors")
    section.parts.append("Splits on which each is better than the MC-dropout network:")
    section.table(head[:-1], wins)
    section.parts.append(
        "The GP's mean on wine is made by one split: 240 of the 1599 rows are repeated, and there "
        "maximum likelihood found the solution without noise that remembers them. Not all NUTS "
        "runs converged, and a run that did not scores its draws and not the posterior:"
    )
    diagnostics = []
    for name, engines in stored["results"].items():
        rhat = [row["rhat (worst)"] for row in engines["nuts"]]
        size = [row["ess (smallest)"] for row in engines["nuts"]]
        diagnostics.append([name, f"{min(rhat):.3f} to {max(rhat):.3f}", f"{min(size):.0f}"])
    section.table(["set", "worst R-hat of a split", "smallest ESS"], diagnostics)
    return section


def tables() -> Section:
    """Compare `bdl.Table()` with other libraries at their defaults."""
    section = Section(
        "Tables, at the defaults of each library",
        "python -m benchmarks.defaults",
        "Negative log-likelihood on held-out rows (lower is better), one split of each set, so "
        "that small differences mean nothing. A dash is a peer that was not run there.",
    )
    stored = read("defaults")
    names = [name for name in stored if isinstance(stored[name], dict) and "rows" in stored[name]]
    methods = list(dict.fromkeys(row["method"] for name in names for row in stored[name]["rows"]))
    methods.sort(key=lambda method: method != "bayesdl Table")
    for key, about in (("nll", "NLL"), ("cpu_s", "CPU seconds of fit and prediction")):
        rows = []
        for name in names:
            found = {row["method"]: float(row[key]) for row in stored[name]["rows"]}
            rows.append([name, *(found.get(method) for method in methods)])
        section.parts.append(f"{about}:")
        ours = (1,)
        section.table(["set", *methods], rows, best="lowest", ours=ours, form=".3g")
    return section


def calibration() -> Section:
    """Show coverage and width of intervals, raw, recalibrated and conformal."""
    section = Section(
        "Intervals: raw, recalibrated, conformal",
        "python -m benchmarks.calibration",
        "90 % intervals of one linear model of random features, fitted with NUTS. The columns are "
        "the raw posterior, `recalibrate()`, `conformal()` without held-out rows, and split "
        "conformal sets of a fit that leaves a quarter of the rows out (the score `absolute`). "
        "Coverage should be 0.9; the interval score weighs coverage and width (lower is better).",
    )
    stored = read("calibration")["results"]
    ways = ("raw", "recalibrated", "conformal", "split absolute")
    for key, best in (("coverage", None), ("score", "lowest")):
        rows = []
        for name, splits in stored.items():
            if name.startswith("sets "):
                cells = [mean_and_error([s["found"][way][key] for s in splits]) for way in ways]
                rows.append([name.removeprefix("sets "), *cells])
        section.parts.append("Coverage:" if key == "coverage" else "Interval score:")
        section.table(["set", *ways], rows, best=best)
    section.picture("calibration", "Coverage of 90 % intervals on four sets, with standard errors")
    return section


def functional_priors() -> Section:
    """Compare matched and unmatched priors."""
    section = Section(
        "Priors matched to functions",
        "python -m benchmarks.functional_priors",
        "Negative log-likelihood on test rows (lower is better) of networks whose weight prior "
        "is N(0, 1), matched to a Gaussian process, hierarchical, or hierarchical and matched, "
        "fitted with SGHMC; means over the splits that were run. R-hat is that of predictions: "
        "where it is far from 1 the chains have not converged, and the row compares draws.",
    )
    ways = ("fixed", "matched", "hierarchical", "matched hierarchical", "gp", "mc dropout")
    stored = read("functional_priors")
    rows, converged = [], []
    for name, splits in stored["uci"].items():
        known = [way for way in ways if way in splits[0]]
        found = {way: mean_and_error([split[way]["nll"] for split in splits]) for way in known}
        rows.append([name, *(found.get(way) for way in ways)])
        rhats = [max(split[way]["rhat_of_predictions"] for split in splits) for way in ways[:4]]
        converged.append([name, *map(float, rhats)])
    section.table(["set", *ways], rows, best="lowest", ours=(1, 2, 3, 4, 5))
    section.parts.append("Largest R-hat of predictions:")
    section.table(["set", *ways[:4]], converged, form=".2f")
    match = stored["match"]["1-D LayerGaussian"]
    section.parts.append(
        f"Matching a tanh network to an RBF process of one input takes {match['cpu_s']:.0f} CPU "
        f"seconds with compilation, and the functions' standard deviation is then "
        f"{match['sd_ratio']:.2f} times that of the process."
    )
    return section


def amortized() -> Section:
    """Compare trained networks with published code and with NUTS."""
    section = Section(
        "Prior-data fitted networks",
        "python -m benchmarks.pfn` and `python -m benchmarks.pfn_nuts",
        "The loss in nats for each target against the exact predictive (lower is better), after "
        "the training that the published code does, and data sets seen in a CPU second.",
    )
    stored = read("pfn")
    about = {"a": "a Gaussian process of one input", "b": "a Gaussian process of five inputs"}
    rows = [[about[k], float(stored[k]["gap"]), stored[k]["published"]["gap"]] for k in about]
    section.table(["nats lost", "bayesdl", "published code"], rows, best="lowest", ours=(1,))
    key = "data_sets_per_cpu_s"
    rows = [[about[k], float(stored[k][key]), float(stored[k]["published"][key])] for k in about]
    head = ["data sets in a CPU second", "bayesdl", "published code"]
    section.table(head, rows, best="highest", ours=(1,), form=".0f")
    stored = read("pfn_nuts")
    about = {"gp": "a process with unknown hyperparameters, 20 rows", "bnn": "a network, 40 rows"}
    rows = [
        [
            about[k],
            f"{stored[k]['gap'][0]:.3f} ± {stored[k]['gap'][1]:.3f}",
            f"{stored[k]['ms_per_task']:.2f}",
            f"{stored[k]['ms_per_task_nuts']:.0f}",
            f"{stored[k]['facts']['cpu_seconds'] / 60:.0f}",
        ]
        for k in about
    ]
    section.parts.append(
        "Against NUTS with 256 + 256 draws, compiled once. The network is faster after its "
        "training, and loses the nats of the first column:"
    )
    head = ["prior", "nats lost", "ms a task", "ms a task, NUTS", "CPU minutes of training"]
    section.table(head, rows)
    return section


def small_tables() -> Section:
    """Compare the classifier that ships with bayesdl with scikit-learn."""
    section = Section(
        "The classifier that ships with bayesdl",
        "python -m benchmarks.tabular",
        'Negative log-likelihood (lower is better) of `bdl.PFN.pretrained("tabular-'
        'classification")`, which was trained on one core, on tables of scikit-learn with that '
        "many training rows, means of five splits. It is a start, not yet a choice.",
    )
    stored = read("tabular")["tables"]
    methods = list(next(iter(stored.values())))
    rows = [[name, *(float(row[m]["nll"]) for m in methods)] for name, row in stored.items()]
    section.table(["set and rows", *methods], rows, best="lowest", ours=(1,))
    return section


def exact_processes() -> Section:
    """Compare the exact process with scikit-learn's."""
    section = Section(
        "Gaussian processes beside scikit-learn",
        "python -m benchmarks.exact_gp",
        "CPU seconds of a fit with three starts (lower is better), and mean test log density in "
        "nats (higher is better), over splits. bayesdl's first fit of a shape compiles besides, "
        "which is the last column.",
    )
    found = {name: part for name, part in read("exact_gp").items() if "splits" in part}
    times, densities = [], []
    for name, part in found.items():
        both = ("cpu_seconds", "sklearn_cpu_seconds"), ("log_density", "sklearn_log_density")
        seconds, nats = (
            [mean_and_error([split[key] for split in part["splits"]]) for key in keys]
            for keys in both
        )
        times.append([name, *seconds, f"{part['compiling_cpu_seconds']:.1f}"])
        densities.append([name, *nats])
    head = ["set", "bayesdl", "scikit-learn"]
    section.table([*head, "to compile"], times, best="lowest", ours=(1,), form=".1f")
    section.table(head, densities, best="highest", ours=(1,))
    return section


def many_rows() -> Section:
    """Compare processes of many rows."""
    section = Section(
        "Gaussian processes of many rows",
        "python -m benchmarks.sparse_gp",
        "Mean test log density in nats (higher is better) at default settings on one split.",
    )
    found = {name: part for name, part in read("sparse_gp").items() if "SparseGP" in part}
    other = "GPyTorch SVGP"
    for key, head, best, form in (
        ("log_density", "set, nats", "highest", ".3f"),
        ("cpu_seconds", "set, CPU seconds", "lowest", ".0f"),
    ):
        rows = [
            [n, *(float(part[who][key]) for who in ("SparseGP", other))]
            for n, part in found.items()
        ]
        section.table([head, "`SparseGP`", other], rows, best=best, ours=(1,), form=form)
    return section


def tensors() -> Section:
    """Compare functional tensors with a lookup of the same day."""
    section = Section(
        "Functional tensors",
        "python -m benchmarks.funbat",
        "Root mean squared error on daily PM2.5 in Beijing by temperature, pressure and day "
        "(lower is better), beside a lookup: the mean of the same day, or interpolation between "
        "days where nobody saw the day.",
    )
    learned = read("funbat")["learned"]
    rows: list[list[Any]] = [
        [name, float(found["rmse"]), float(found["same_day_mean"])]
        for name, found in learned.items()
        if "rmse" in found
    ]
    cells = learned["100x100x300"]
    lookup = [fold["same_day_mean"] for fold in cells["folds"]]
    rows.append(["100 x 100 x 300 cells", float(cells["mean_rmse"]), float(np.mean(lookup))])
    section.table(["held out", "FunBaT", "lookup"], rows, best="lowest", ours=(1,))
    coverage = [[name, f["coverage_90"]] for name, f in learned.items() if "coverage_90" in f]
    section.parts.append("Coverage of 90 % intervals:")
    section.table(["held out", "coverage"], coverage)
    return section


def recommenders() -> Section:
    """Compare recommenders on MovieLens 1M."""
    section = Section(
        "Recommendations",
        "python -m benchmarks.recommend",
        "MovieLens 1M by the published protocol, 500 test users: NDCG@100 (higher is better). All "
        "of them are bayesdl's own; rows of several seeds show their mean.",
    )
    stored = read("recommend")
    found = {**stored["linear"], **stored["quality"]}
    rows = []
    for name, result in found.items():
        error = result.get("ndcg@100 se") or result["runs"][0]["ndcg@100 se"]
        rows.append(
            [
                NAMES.get(name, name),
                (float(result["ndcg@100"]), float(error)),
                float(result["recall@20"]),
            ]
        )
    rows.sort(key=lambda row: -row[1][0])
    section.table(["model", "NDCG@100", "Recall@20"], rows)
    section.picture("recommend", "NDCG@100 of recommenders on MovieLens 1M, with standard errors")
    speed = stored["speed"]
    section.parts.append("CPU seconds of an epoch of Mult-VAE:")
    keys = ("bayesdl", "torch sparse", "torch dense")
    row = ["an epoch", *(float(speed[f"{key}, cpu s an epoch"]) for key in keys)]
    section.table(["", *keys], [row], best="lowest", ours=(1,), form=".2f")
    return section


def sparse() -> Section:
    """Compare sparse with dense variational networks on MNIST."""
    section = Section(
        "Sparse networks",
        "python -m benchmarks.sparse",
        "MNIST (784-256-256-10, ten epochs, KL times 0.1), `SSVI` with a share of the weights "
        "beside dense mean-field VI by the same code, three seeds.",
    )
    stored = read("sparse")
    names = ("dense", "0.1", "0.05", "0.02")
    for key, best in (("accuracy", "highest"), ("nll", "lowest"), ("ece", "lowest")):
        cells = [mean_and_error([run[key] for run in stored["mnist"][name]]) for name in names]
        head = [key, "dense", "10 % of weights", "5 %", "2 %"]
        section.table(head, [["", *cells]], best=best, ours=(2, 3, 4), form=".4f")
    worst = {
        k: min(run["accuracy"] for run in stored["robustness"][k].values())
        for k in ("sparse", "dense")
    }
    section.parts.append(
        f"The worst accuracy over four learning rates and three initial scales is "
        f"{worst['sparse']:.3f} with 5 % of the weights and {worst['dense']:.3f} dense. "
        "Training steps of a network 784-1024-1024-10, times as fast as a dense step (CPU time; "
        "below 1 is slower):"
    )
    patterns = ("transient", "fan_in", "block:16", "block:32")
    rows = [
        [density, *(float(speed[p]["faster_cpu"]) if p in speed else None for p in patterns)]
        for density, speed in stored["speed"].items()
    ]
    section.table(["density", *patterns], rows, form=".2f")
    return section


def sparse_regression() -> Section:
    """Compare sparse with dense networks of the default size."""
    section = Section(
        "Sparse networks of the default size",
        "python -m benchmarks.sparse uci",
        "Mean test log-likelihood in nats (higher is better) with 20 % of the 450 to 750 weights "
        "of a default network. Two of these sets need all of so small a network.",
    )
    rows = [
        [name, mean_and_error(found["dense"]), mean_and_error(found["0.2"])]
        for name, found in read("sparse")["uci"].items()
    ]
    section.table(["set", "dense VI", "SSVI, 20 %"], rows, best="highest", ours=(2,))
    return section
