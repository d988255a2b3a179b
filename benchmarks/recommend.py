"""Recommenders on MovieLens 1M by the protocol of Liang et al. (2018).

There are 500 validation and 500 test users. The parts are


    linear       popularity, EASE
    quality      Mult-VAE and Mult-DAE over seeds; other likelihoods; learned priors; blends
    schedule     beta relative to the planned updates against the published schedule, with the
                 published batches and epochs
    uncertainty  refinement, calibration of hits, coverage of their intervals
    cold         users of whom 0 to 20 items are known
    speed        CPU seconds of an epoch beside torch, with the rows sparse and dense; users scored
                 and ranked
    memory       a simulated catalogue of 40,981 items

    python -m benchmarks.recommend [linear quality schedule uncertainty cold speed memory]

Parts that are left out keep their entries in benchmarks/results/recommend.json. Times are those of
one thread: `speed` runs in its own process with OMP_NUM_THREADS=1 and
XLA_FLAGS=--xla_cpu_multi_thread_eigen=false.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import scipy.sparse

from bayesdl.recommend import (
    EASE,
    Anneal,
    Blend,
    HeldOut,
    MultDAE,
    MultVAE,
    PerUser,
    Popularity,
    evaluate,
)
from bayesdl.recommend.evaluation.metrics import hits_of_best, ndcg, standard_error
from bayesdl.recommend.hits import quantile_membership
from benchmarks.reference_data import movielens
from benchmarks.report import run_parts

SHORT: dict[str, Any] = {"batch_size": 100, "epochs": 40, "progress": False}
SEEDS = (0, 1, 2)
REFINE = 60
COLD = (0, 1, 2, 3, 5, 10, 20)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def split() -> tuple[Any, HeldOut, HeldOut]:
    data = movielens()
    return data["train"], *(
        HeldOut(data[f"{part}_foldin"], data[f"{part}_heldout"]) for part in ("val", "test")
    )  # type: ignore


def scores(model: Any, test: HeldOut, refine_steps: int = 0) -> dict[str, float]:
    """Return means over test users, and the standard error of NDCG@100."""
    table = evaluate(model, test, refine_steps=refine_steps).table().iloc[0]
    return {
        name: float(table[name]) for name in ("ndcg@100", "ndcg@100 se", "recall@20", "recall@50")
    }


def show(name: str, found: Any) -> Any:
    print(
        name, {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}, flush=True
    )
    return found


def linear() -> dict:
    train, validation, test = split()
    models = {"popularity": Popularity(), "ease 500": EASE(l2=500)}
    return {
        name: show(name, scores(model.fit(train, validation), test))
        for name, model in models.items()
    }


def fit_model(model: Any, train: Any, validation: HeldOut) -> tuple[Any, dict[str, float]]:
    """Fit a model, and return it with facts about the fit."""
    started = time.process_time()
    model.fit(train, validation)
    best = max(epoch["ndcg@100"] for epoch in model.history_)
    beta = model.beta_.share if isinstance(model.beta_, PerUser) else model.beta_
    return model, {
        "validation": best,
        "epoch": model.best_epoch_,
        "beta": beta,
        "cpu_s": time.process_time() - started,
    }


def published_beta(progress: float) -> float:
    """Return beta of the published schedule: 200,000 updates to beta = 1, stopped at 0.2.

    Here 200 epochs of 11 updates are planned.
    """
    return min(0.2, progress * 200 * 11 / 200_000)


def schedule() -> dict:
    train, validation, test = split()
    found: dict[str, Any] = {}
    for seed in SEEDS:
        models = {}
        for name, beta in (("relative", Anneal()), ("published", published_beta)):
            model = MultVAE(beta=beta, seed=seed, batch_size=500, epochs=200, progress=False)
            models[name], about = fit_model(model, train, validation)
            found[f"{name}, seed {seed}"] = show(
                f"{name}, seed {seed}", about | scores(model, test)
            )
        found[f"paired, seed {seed}"] = show(
            "paired", evaluate(models, test).paired("relative", "published")
        )
    gains = [found[f"paired, seed {seed}"]["difference"] for seed in SEEDS]
    found["mean paired difference"] = float(np.mean(gains))
    return found


CONFIGURATIONS: dict[str, Any] = {
    "mult-vae": lambda seed: MultVAE(beta=Anneal(), seed=seed, **SHORT),
    "mult-dae": lambda seed: MultDAE(seed=seed, **SHORT),
    "mult-vae, auto": lambda seed: MultVAE(seed=seed, **SHORT),
    "vamp prior": lambda seed: MultVAE(
        hidden=(), prior="vamp", beta=Anneal(), weight_decay=2e-5, seed=seed, **SHORT
    ),
    "mult-vae, bernoulli": lambda seed: MultVAE(
        likelihood="bernoulli", beta=Anneal(), seed=seed, **SHORT
    ),
    "mult-vae, poisson": lambda seed: MultVAE(
        likelihood="poisson", beta=Anneal(), seed=seed, **SHORT
    ),
    "mult-vae, gaussian": lambda seed: MultVAE(
        likelihood="gaussian", beta=Anneal(), seed=seed, **SHORT
    ),
    "composite prior": lambda seed: MultVAE(
        hidden=(), prior="composite", beta=PerUser(0.002), weight_decay=2e-5, seed=seed, **SHORT
    ),
}


def quality() -> dict:
    train, validation, test = split()
    found: dict[str, Any] = {}
    ease = EASE(l2=500).fit(train, validation)
    for name, make in CONFIGURATIONS.items():
        runs = []
        for seed in SEEDS if name in ("mult-vae", "mult-dae") else SEEDS[:1]:
            model, about = fit_model(make(seed), train, validation)
            runs.append(show(f"{name}, seed {seed}", about | scores(model, test)))
            if name == "mult-vae" and seed == 0:
                blend = Blend([ease, model]).fit(train, validation)
                found["blend of ease and mult-vae"] = show(
                    "blend", scores(blend, test) | {"weight": blend.weights_[1]}
                )
                found["the same, refined"] = show("blend, refined", scores(blend, test, REFINE))
            if "prior" in name:
                runs[-1]["refined"] = show("refined", scores(model, test, REFINE))
        found[name] = {"runs": runs} | {
            metric: float(np.mean([run[metric] for run in runs]))
            for metric in ("ndcg@100", "recall@20", "recall@50")
        }
    return found


def uncertainty() -> dict:
    """Measure calibration of Mult-VAE with each seed and the gain of refinement.

    EASE, popularity, and a blend of EASE with the first Mult-VAE are measured beside it.
    """
    train, validation, test = split()
    found: dict[str, Any] = {}
    for name, other in (("ease 500", EASE(l2=500)), ("popularity", Popularity())):
        found[name] = show(name, measure_hits(other.fit(train, validation), test, 0))
    for seed in SEEDS:
        model, _ = fit_model(MultVAE(beta=Anneal(), seed=seed, **SHORT), train, validation)
        if seed == 0:
            found["blend"] = show(
                "blend", measure_hits(Blend([EASE(l2=500), model]).fit(train, validation), test, 0)
            )
        plain, refined = (evaluate(model, test, refine_steps=steps) for steps in (0, REFINE))
        gain = refined.values["MultVAE"]["ndcg@100"] - plain.values["MultVAE"]["ndcg@100"]
        found[f"seed {seed}"] = show(f"seed {seed}", measure_hits(model, test, 0))
        model.calibrate(validation, refine_steps=REFINE)
        found[f"seed {seed}"] |= {
            "refined": show("refined", measure_hits(model, test, REFINE)),
            "paired gain of refinement": float(gain.mean()),
            "its se": standard_error(gain),
        }
        show("gain", {"gain": float(gain.mean())})
    runs = [found[f"seed {seed}"] for seed in SEEDS]
    found["mean of seeds"] = {
        key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key != "refined"
    }
    return found


def measure_hits(model: Any, test: HeldOut, refine_steps: int) -> dict[str, float]:
    """Measure expected over actual hits among 20, and the coverage of intervals of hits.

    Both are measured before and after the temperature. As hits are whole numbers, the 90 % interval
    has at least this probability; "its chance" is its exact probability under the distribution of
    hits. Between the quantiles .05 and .95 of this distribution, with ends counted by the share
    that makes it exact, should be 90 % of the users.
    """
    held = scipy.sparse.csr_array(test.held_out)
    n, users = np.diff(held.indptr), np.arange(held.shape[0])
    temperature = model.temperature_
    found = {"temperature": temperature}
    for name, T in (("before", 1.0), ("after", temperature)):
        model.temperature_ = T
        top = model.recommend(test.fold_in, k=20, refine_steps=refine_steps)
        actual = held.toarray()[users[:, None], top.items].sum(1).astype(int)
        distribution, (low, high) = top.hits_distribution(n), top.hits_interval(n)
        below = np.pad(np.cumsum(distribution, axis=1), ((0, 0), (1, 0)))
        exact = quantile_membership(distribution, 0.9)[users, actual]
        found |= {
            f"expected over actual hits, {name}": float(top.expected_hits(n).sum() / actual.sum()),
            f"coverage of the 90 % interval, {name}": float(
                ((low <= actual) & (actual <= high)).mean()
            ),
            f"its chance, {name}": float((below[users, high + 1] - below[users, low]).mean()),
            f"between the quantiles, {name}": float(exact.mean()),
        }
    model.temperature_ = temperature
    return found


def cold() -> dict:
    """Measure NDCG@100 when only k random items of each test user are shown."""
    train, validation, test = split()
    models = {
        "mult-vae": MultVAE(beta=Anneal(), **SHORT),
        "mult-dae": MultDAE(**SHORT),
        "ease 500": EASE(l2=500),
        "popularity": Popularity(),
    }
    for model in models.values():
        model.fit(train, validation)
    rows, rng = scipy.sparse.csr_array(test.fold_in), np.random.RandomState(0)
    orders = [rng.permutation(n) for n in np.diff(rows.indptr)]
    found: dict[str, Any] = {}
    for k in COLD:
        kept = np.concatenate(
            [rows.indptr[u] + order[:k] for u, order in enumerate(orders)]
        ).astype(int)
        data = np.zeros_like(rows.data)
        data[kept] = 1
        few = scipy.sparse.csr_array((data, rows.indices, rows.indptr), shape=rows.shape, copy=True)
        few.eliminate_zeros()
        found[str(k)] = {name: ranking(model, few, test) for name, model in models.items()}
        found[str(k)]["mult-vae, refined"] = ranking(models["mult-vae"], few, test, REFINE)
        show(f"{k} items", found[str(k)])
    return found


def ranking(model: Any, few: Any, test: HeldOut, refine_steps: int = 0) -> float:
    """Return NDCG@100 when only these rows are known.

    All that the users have in the fold-in is left out of the ranking.
    """
    held, values = scipy.sparse.csr_array(test.held_out), []
    for users, f in model.scores(few, refine_steps=refine_steps):
        hit = hits_of_best(f, scipy.sparse.csr_array(test.fold_in)[users], held[users], 100)
        values.append(ndcg(hit, np.diff(held[users].indptr), 100))
    return float(np.mean(np.concatenate(values)))


def run_in_process(part: str) -> dict:
    """Run a part with one thread, in its own process."""
    command = [sys.executable, "-m", "benchmarks.recommend_speed", part]
    done = subprocess.run(
        command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return show(part, json.loads(done.stdout.splitlines()[-1]))


def peak_gb() -> float:
    """Return the most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


PARTS: dict[str, Any] = {
    "linear": linear,
    "quality": quality,
    "schedule": schedule,
    "uncertainty": uncertainty,
    "cold": cold,
    "speed": lambda: run_in_process("speed"),
    "memory": lambda: run_in_process("memory"),
}


if __name__ == "__main__":
    run_parts("recommend", PARTS, lambda part: PARTS[part](), __doc__)
