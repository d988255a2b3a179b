"""Sparse subspace VI beside dense mean-field VI: memory, operations, time, accuracy.

Dense mean-field VI is `SSVI(density=1)`, the same code with whole matrices, in the same run. The
parts are

    cost        784-1024-1024-10, 5 %: bytes stored, with Adam, and needed by XLA for a moment;
                operations of the products
    speed       the same network: CPU time of a training step, interleaved, 25th percentiles, as
                ratios to dense
    robustness  MNIST, 50,000 images, 784-256-256-10: accuracy on the other 10,000 over learning
                rates and initial scales
    mnist       60,000 images, both with their best cell of `robustness`, on the test set; three
                seeds
    ablation    the same at 2 %: a fixed mask, random growth, random removal
    small       the ablation where data are few: 10,000 images, 20 epochs, the output layer sparse
                too, Adam at 0.001
    uci         mean test log-likelihood at 20 % density
    digits      a small convolutional network on scikit-learn's digits, 10 %

The KL divergence is multiplied by 0.1 on MNIST, in both.

    python -m benchmarks.sparse [PART ...]
"""

from __future__ import annotations

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

import bayesdl as bdl
from benchmarks.reference_data import mnist, uci
from benchmarks.report import RESULTS, run_parts
from inference.sparse import costs
from inference.sparse.engine import SSVI
from inference.sparse.training import runs
from inference.sparse.training.training import Training, build_training

BATCH = 128
BETA = 0.1
EPOCHS = 10
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SCALES = (0.001, 0.02, 0.2)
SEEDS = (0, 1, 2)
LARGE = {
    "dense": {"density": 1.0},
    "transient": {"kernel": "transient"},
    "fan_in": {"structure": "fan_in", "kernel": "fan_in"},
    "block:16": {"structure": "block:16", "kernel": "blocks"},
    "block:32": {"structure": "block:32", "kernel": "blocks"},
    "auto fan_in": {"structure": "fan_in"},
    "auto block:16": {"structure": "block:16"},
}
UCI = ("boston", "energy", "wine", "kin8nm", "naval")
UCI_SPLITS = 3


def perceptron(width: int) -> bdl.BNN:
    """Make 784-width-width-10 with ReLU, weights N(0, 1 / fan_in)."""
    return bdl.BNN(
        hidden=(width, width),
        activation="relu",
        scaling="standard",
        prior=bdl.priors.Gaussian(fan_in=True),
        likelihood=bdl.Categorical(),
        standardize=False,
    )


def large_problem() -> tuple:
    """Make 784-1024-1024-10 with random rows: the cost of a step does not depend on the data."""
    rng = np.random.default_rng(0)
    X, y = rng.random((1024, 784), dtype=np.float32), rng.integers(0, 10, 1024)
    model = perceptron(1024)
    return model, model.learn_schema(X, y), X, y


def make_trainings(density: float) -> dict:
    """Make a run of each kind on the large network."""
    model, schema, X, y = large_problem()
    problem = model.problem(schema, X, y)
    engines = {
        name: SSVI(**{"density": density, "batch_size": BATCH} | settings)
        for name, settings in LARGE.items()
    }
    return {
        name: build_training(engine, problem, jax.random.key(0)) for name, engine in engines.items()
    }


def problem_data(training: Training) -> tuple:
    problem = training.sites.problem
    return jax.tree.map(jnp.asarray, (problem.args, dict(problem.kwargs)))


def cost(_: str) -> dict:
    """Measure bytes and operations at 5 %."""
    rows = {}
    for name, training in make_trainings(0.05).items():
        run = runs.TrainingRun(training, None)
        data, state = problem_data(training), jax.jit(training.initial_state)(jax.random.key(0))
        block = run.compile("step", training.step, runs.int32(0), state, data)
        run.compile("exchange", training.exchange, state, runs.int32(0), runs.float32(0.1), data)
        layout, engine = training.layout, training.engine
        places = training.output_rows(state, data)
        work = costs.count_operations(
            layout, places, engine.every, engine.growth_batches, engine.rate
        )
        stored = runs.count_bytes((state.params, state.index))
        rows[name] = {
            "density": sum(costs.count_active(layout, state.index).values())
            / costs.count_weights(layout),
            "stored": stored,
            "persistent": stored + runs.count_bytes(state.optimizer),
            "temporary": run.temporary,
            "operations": (work["step"] + work["exchanges_per_step"]) / work["dense"],
            "xla_operations": block.cost_analysis()["flops"],
            "kernels": dict(layout.kernels),
        }
    dense = rows["dense"]
    print(
        f"{'':<12}{'density':>9}{'stored':>9}{'with Adam':>11}{'XLA temp':>10}{'exchange':>10}"
        f"{'operations':>12}{'by XLA':>8}"
    )
    for name, row in rows.items():
        ratios = [row[key] / dense[key] for key in ("stored", "persistent")]
        temp = [row["temporary"][key] / dense["temporary"]["step"] for key in ("step", "exchange")]
        row["ratios"] = dict(
            zip(("stored", "persistent", "step", "exchange"), ratios + temp, strict=True)
        )
        row["ratios"]["xla_operations"] = row["xla_operations"] / dense["xla_operations"]
        print(
            f"{name:<12}{row['density']:>9.4f}{ratios[0]:>9.4f}{ratios[1]:>11.4f}{temp[0]:>10.2f}{temp[1]:>10.2f}"
            f"{row['operations']:>12.4f}{row['ratios']['xla_operations']:>8.4f}"
        )
    return rows


def speed(_: str) -> dict:
    """Measure the CPU time of a step (the optimiser included), interleaved, over densities."""
    return {f"{density:g}": speed_at(density) for density in (0.05, 0.1, 0.3, 0.6)}


def speed_at(density: float, rounds: int = 25, steps: int = 3) -> dict:
    compiled = {}
    for name, training in make_trainings(density).items():
        data, state = problem_data(training), jax.jit(training.initial_state)(jax.random.key(0))
        made = jax.jit(training.step).lower(runs.int32(0), state, data).compile()
        compiled[name] = (made, state, data, dict(training.layout.kernels))
    times: dict[str, list] = {name: [] for name in compiled}
    for _ in range(rounds):
        for name, (step, state, data, _) in compiled.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for i in range(steps):
                state, _ = step(runs.int32(i), state, data)
            jax.block_until_ready(state)
            times[name].append(
                [(time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps]
            )
    low = {name: np.percentile(values, 25, axis=0) for name, values in times.items()}
    rows = {
        name: {
            "cpu_ms": 1e3 * cpu,
            "wall_ms": 1e3 * wall,
            "faster_cpu": low["dense"][0] / cpu,
            "faster_wall": low["dense"][1] / wall,
        }
        for name, (cpu, wall) in low.items()
    }
    for name, row in rows.items():
        row["kernels"] = compiled[name][3]
        print(
            f"{density:<6g}{name:<12}{row['cpu_ms']:>8.2f} CPU ms {row['faster_cpu']:>6.2f}x, "
            f"wall {row['faster_wall']:>6.2f}x"
        )
    return rows


def fit_and_score(images: tuple, seed: int = 0, **settings) -> dict:
    """Fit once, and return scores on held-out images."""
    X, y, X_test, y_test = images
    started = time.process_time()
    engine = SSVI(
        **{
            "steps": EPOCHS * len(X) // BATCH,
            "batch_size": BATCH,
            "beta": BETA,
            "num_samples": 16,
            "growth_batches": 4,
        }
        | settings
    )
    try:
        post = bdl.fit(perceptron(256), X, y, engine=engine, seed=seed, progress=False)
    except ValueError as error:  # a cell of the grid that diverges counts as guessing
        return {"accuracy": 0.1, "error": str(error)}
    row = {"cpu_s": time.process_time() - started, "density": bdl.sparse.report(post).density}
    scores = post.score(X_test, y_test)
    row |= {name: float(scores[name]) for name in ("accuracy", "nll", "brier", "ece")}
    print(seed, settings, {k: round(v, 4) for k, v in row.items()}, flush=True)
    jax.clear_caches()
    return row


def robustness(_: str) -> dict:
    """Measure the accuracy on 10,000 held-out training images."""
    d = mnist()
    images = (
        d["X_train"][:50_000],
        d["y_train"][:50_000],
        d["X_train"][50_000:],
        d["y_train"][50_000:],
    )
    found = {}
    for kind, density in (("sparse", 0.05), ("dense", 1.0)):
        found[kind] = {
            f"{rate:g}, {scale:g}": fit_and_score(
                images, density=density, learning_rate=rate, initial_scale=scale
            )
            for rate in RATES
            for scale in SCALES
        }
        worst = min(found[kind].values(), key=lambda row: row["accuracy"])["accuracy"]
        print(f"{kind}: worst {worst:.4f}")
    return found


def best_cell(kind: str) -> dict:
    """Return the learning rate and initial scale that were best on held-out training images."""
    cells = json.loads((RESULTS / "sparse.json").read_text())["robustness"][kind]
    rate, scale = max(cells, key=lambda cell: cells[cell]["accuracy"]).split(", ")
    return {"learning_rate": float(rate), "initial_scale": float(scale)}


def score_on_test(_: str) -> dict:
    """Score on the test set."""
    d = mnist()
    images = d["X_train"], d["y_train"], d["X_test"], d["y_test"]
    found = {
        "dense": [fit_and_score(images, seed, density=1.0, **best_cell("dense")) for seed in SEEDS]
    }
    for density in (0.1, 0.05, 0.02):
        found[f"{density:g}"] = [
            fit_and_score(images, seed, density=density, **best_cell("sparse")) for seed in SEEDS
        ]
    print_means(found)
    return found


def ablation(_: str) -> dict:
    """Compare variants at 2 %, on the test set."""
    d = mnist()
    images = d["X_train"], d["y_train"], d["X_test"], d["y_test"]
    kinds = {"ssvi": {}, "static mask": {"rate": 0.0}, "random growth": {"growth": "random"}}
    kinds |= {
        "random removal": {"removal": "random"},
        "erk": {"allocation": "erk"},
        "global": {"allocation": "global"},
    }
    found = {
        name: [
            fit_and_score(images, seed, density=0.02, **best_cell("sparse") | settings)
            for seed in SEEDS
        ]
        for name, settings in kinds.items()
    }
    print_means(found)
    return found


def small(_: str) -> dict:
    """Compare variants at 2 % on the test set, learned from 10,000 images."""
    d = mnist()
    images = d["X_train"][:10_000], d["y_train"][:10_000], d["X_test"], d["y_test"]
    settings = {"density": 0.02, "steps": 20 * 10_000 // BATCH, "every": 25, "dense_output": False}
    settings |= {"learning_rate": 1e-3, "initial_scale": 0.01}
    kinds = {"ssvi": {}, "static mask": {"rate": 0.0}, "random growth": {"growth": "random"}}
    kinds |= {"random removal": {"removal": "random"}, "erk": {"allocation": "erk"}}
    found = {
        name: [fit_and_score(images, seed, **settings | other) for seed in SEEDS]
        for name, other in kinds.items()
    }
    print_means(found)
    return found


def print_means(found: dict) -> None:
    for name, rows in found.items():
        means = {key: np.mean([row[key] for row in rows]) for key in ("accuracy", "nll", "ece")}
        print(f"{name:<16}" + "".join(f"{key:>10} {value:.4f}" for key, value in means.items()))


def uci_sets(_: str) -> dict:
    """Measure the mean test log-likelihood with one hidden layer of 50 units, true ELBO."""
    found = {}
    for name in UCI:
        data = uci(name)
        data["X"] = data["X"][:, data["X"].std(0) > 0]  # naval has two constant columns
        rows = {"dense": [], "0.2": []}
        for split in range(UCI_SPLITS):
            test = data["test"][split]
            for kind, density in (("dense", 1.0), ("0.2", 0.2)):
                post = bdl.fit(
                    bdl.BNN(),
                    data["X"][~test],
                    data["y"][~test],
                    engine=SSVI(density=density),
                    seed=split,
                    progress=False,
                )
                rows[kind].append(-float(post.score(data["X"][test], data["y"][test])["nll"]))
                jax.clear_caches()
        found[name] = rows
        gap = np.array(rows["0.2"]) - np.array(rows["dense"])
        print(
            f"{name:<10}dense {np.mean(rows['dense']):.3f}  20 % {np.mean(rows['0.2']):.3f}  "
            f"difference {gap.mean():+.3f} +- {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}",
            flush=True,
        )
    return found


def digits(_: str) -> dict:
    """Score a convolutional network on 8x8 digits, 1,297 to learn from and 500 to test."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X, order = X / 16, np.random.default_rng(0).permutation(len(X))
    train, test = order[:-500], order[-500:]
    net = bdl.ConvNet(image=(8, 8), channels=(16, 32))
    model = bdl.BNN(network=net, likelihood=bdl.Categorical(), standardize=False)
    found = {}
    for kind, density in (("dense", 1.0), ("0.1", 0.1)):
        rows = []
        for seed in SEEDS:
            post = bdl.fit(
                model,
                X[train],
                y[train],
                engine=SSVI(density=density, steps=5000),
                seed=seed,
                progress=False,
            )
            scores = post.score(X[test], y[test])
            rows.append({name: float(scores[name]) for name in ("accuracy", "nll", "ece")})
            print(kind, seed, rows[-1], flush=True)
        found[kind] = rows
    print_means(found)
    return found


PARTS = {
    "cost": cost,
    "speed": speed,
    "robustness": robustness,
    "mnist": score_on_test,
    "ablation": ablation,
    "small": small,
    "uci": uci_sets,
    "digits": digits,
}


if __name__ == "__main__":
    run_parts("sparse", PARTS, lambda part: PARTS[part](part), __doc__)
