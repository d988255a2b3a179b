"""The cost of a draw: SGHMC per step; NUTS and HMC per effective draw, by three libraries.

Steps: a tanh network 13-100-1 on 455 rows, four chains, 32 rows per step. The figure is CPU time
per chain-step after compilation, in a process of its own: on one core with one thread, and with
XLA's default threads, which products of this size do not repay. The published torch code of SGHMC
takes 2.2 to 3.3 ms per step of one chain of this network.

Draws: effective draws (the smallest bulk ESS over all scalars) per second of CPU and of wall time,
of linear regression on 13 inputs. The peers are bayesdl's runner, NumPyro's two chain methods, and
BlackJAX's window adaptation, in one process on two devices, each after clearing all compiled
programs: once with compilation counted, and once without, from a second call that finds everything
compiled. What counts is the ratio to the better of NumPyro's two.

Chains: on an accelerator, chain-steps per second of SGHMC on the network with 4, 64 and 1024
chains.

    python -m benchmarks.sgmcmc [--repeats 3]
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
from arviz_stats.base import array_stats
from numpyro.infer import HMC, MCMC, NUTS

import bayesdl as bdl
from benchmarks.report import RESULTS, write
from inference.core.progress import Silent
from inference.mcmc.runner.chains import Run
from inference.mcmc.runner.layout import place

WARMUP, DRAWS, CHAINS = 500, 500, 4
PUBLISHED_MS = (2.2, 3.3)


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Return 455 rows of 13 correlated inputs, and a smooth function of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(455, 13)) @ (np.eye(13) + 0.3 * rng.normal(size=(13, 13)))
    return X, np.tanh(X[:, 0]) + 0.5 * X[:, 1] + 0.3 * rng.normal(size=455)


def build_problem(model: Any) -> Any:
    """Build the problem of a model with the data."""
    X, y = make_data()
    return model.problem(model.learn_schema(X, y), X, y)


def step_cost(repeats: int) -> dict[str, float]:
    """Measure CPU milliseconds per chain-step: the median of blocks of 50 draws of 50 steps."""
    problem = build_problem(bdl.BNN(hidden=(100,), likelihood=bdl.Normal(scale=0.3)))
    engine = bdl.SGHMC(batch_size=32)
    run = Run(engine, engine.sampler(problem), 50)
    states, _ = jax.block_until_ready(run.block(run.start(jax.random.key(0)), 0, 50))
    costs = []
    for _ in range(max(repeats, 5)):
        started = time.process_time()
        states, _ = jax.block_until_ready(run.block(states, 0, 50))
        costs.append(1000 * (time.process_time() - started) / (CHAINS * 50 * engine.thinning))
    return {"ms_per_chain_step": statistics.median(costs), "least": min(costs), "most": max(costs)}


def step_costs() -> dict[str, Any]:
    """Run `step_cost` in fresh processes: on one core, and with as many threads as XLA takes."""
    measure = "import json, benchmarks.sgmcmc as b; print(json.dumps(b.step_cost(5)))"
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    one_thread = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    found = {}
    for name, code, flags in (
        ("one core", one_core + measure, one_thread),
        ("default threads", measure, ""),
    ):
        environment = os.environ | {"XLA_FLAGS": flags}
        out = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        found[name] = json.loads(out.stdout.splitlines()[-1])
    return found


def smallest_ess(samples: dict[str, np.ndarray]) -> float:
    """Return the smallest effective sample size over all scalars of all sites."""
    return min(
        float(
            np.min(
                array_stats.ess(
                    np.asarray(v, float).reshape(*v.shape[:2], -1), chain_axis=0, draw_axis=1
                )
            )
        )
        for v in samples.values()
    )


def peers(problem: Any, engine: Any) -> dict[str, Any]:
    """Return functions that make a function of a seed, which returns samples by site.

    Their shape is (chain, draw, ...).
    """
    settings = {"num_warmup": WARMUP, "num_samples": DRAWS, "num_chains": CHAINS}
    nuts = isinstance(engine, bdl.NUTS)

    def kernel() -> Any:
        return (
            NUTS(problem.program)
            if nuts
            else HMC(problem.program, num_steps=engine.num_steps, trajectory_length=None)
        )

    def ours() -> Any:
        made = Run(engine, engine.sampler(problem), DRAWS)

        def run(seed: int) -> Any:
            states = made.init_chains(
                place(jax.random.split(jax.random.key(seed), CHAINS), made.layout)
            )
            return made.draws(states, -WARMUP, Silent(), None, None).samples

        return run

    def numpyro(method: str) -> Any:
        mcmc = MCMC(kernel(), chain_method=method, progress_bar=False, **settings)

        def run(seed: int) -> Any:
            mcmc.run(jax.random.key(seed), *problem.args)
            return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))

        return run

    def blackjax() -> Any:
        import blackjax

        density = problem.log_density()

        def chain(key: jax.Array) -> Any:
            start, warm, run = jax.random.split(key, 3)
            extra = {} if nuts else {"num_integration_steps": engine.num_steps}
            algorithm = blackjax.nuts if nuts else blackjax.hmc
            adapted, _ = blackjax.window_adaptation(algorithm, density, **extra).run(
                warm,
                jax.random.uniform(
                    start, density.ravel(density.prior_draw(start)).shape, minval=-2, maxval=2
                ),
                WARMUP,
            )
            step = algorithm(density, **adapted.parameters).step
            _, states = jax.lax.scan(
                lambda s, k: (step(k, s)[0],) * 2, adapted.state, jax.random.split(run, DRAWS)
            )
            return jax.lax.map(density.constrain, states.position)

        chains = jax.jit(jax.vmap(chain))
        return lambda seed: jax.tree.map(
            np.asarray, chains(jax.random.split(jax.random.key(seed), CHAINS))
        )

    return {
        "bayesdl": ours,
        "numpyro parallel": lambda: numpyro("parallel"),
        "numpyro vectorized": lambda: numpyro("vectorized"),
        "blackjax": blackjax,
    }


def efficiency(problem: Any, engine: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Measure effective draws per second by peer: the median over interleaved repeats."""
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for repeat in range(repeats):
        for name, make in peers(problem, engine).items():
            jax.clear_caches()
            times = [clocks()]
            run = make()
            first = run(2 * repeat)
            times.append(clocks())
            second = run(2 * repeat + 1)
            times.append(clocks())
            spent = np.diff(times, axis=0)
            rows.setdefault(name, []).append(
                (*(smallest_ess(first) / spent[0]), *(smallest_ess(second) / spent[1]))
            )
    kinds = [
        f"ess_per_{clock}_s{what}"
        for what in ("_with_compilation", "")
        for clock in ("cpu", "wall")
    ]
    return {
        name: dict(zip(kinds, np.median(values, axis=0).tolist(), strict=True))
        for name, values in rows.items()
    }


def clocks() -> tuple[float, float]:
    """Return CPU seconds of this process, and wall seconds."""
    return time.process_time(), time.perf_counter()


def against_numpyro(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return our effective draws per second as a multiple of the better of NumPyro's methods."""
    return {
        kind: ours / max(rows["numpyro parallel"][kind], rows["numpyro vectorized"][kind])
        for kind, ours in rows["bayesdl"].items()
    }


def many_chains() -> dict[str, float]:
    """Measure chain-steps of SGHMC per wall second by number of chains."""
    problem, found = build_problem(bdl.BNN(hidden=(100,), likelihood=bdl.Normal(scale=0.3))), {}
    for chains in (4, 64, 1024):
        engine = bdl.SGHMC(batch_size=32, num_chains=chains, start="prior")
        run = Run(engine, engine.sampler(problem), 50)
        states, _ = jax.block_until_ready(run.block(run.start(jax.random.key(0)), 0, 50))
        started = time.perf_counter()
        jax.block_until_ready(run.block(states, 0, 50))
        found[str(chains)] = chains * 50 * engine.thinning / (time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--steps-only",
        action="store_true",
        help="measure the cost of a step and keep the other figures",
    )
    arguments = parser.parse_args()
    repeats = arguments.repeats
    warnings.simplefilter("ignore")
    settings = {"num_warmup": WARMUP, "num_samples": DRAWS, "num_chains": CHAINS}
    linear = build_problem(bdl.BNN(hidden=()))
    kept = RESULTS / "sgmcmc.json"
    results: dict[str, Any] = (
        json.loads(kept.read_text())["results"] if arguments.steps_only else {}
    )
    runs = (
        ("NUTS, linear regression", linear, bdl.NUTS(**settings)),
        ("HMC, linear regression", linear, bdl.HMC(num_steps=10, **settings)),
    )
    for label, problem, engine in () if arguments.steps_only else runs:
        results[label] = efficiency(problem, engine, repeats)
        for name, row in results[label].items():
            print(
                f"{label:<28}{name:<22}" + "".join(f"{value:>10.1f}" for value in row.values()),
                flush=True,
            )
        results[label]["ratio to the better of numpyro"] = against_numpyro(results[label])
        print(
            f"{label:<28}{'ratio to numpyro':<22}",
            results[label]["ratio to the better of numpyro"],
            flush=True,
        )
    if jax.default_backend() != "cpu":
        results["SGHMC, chain-steps per second by number of chains"] = many_chains()
    results["SGHMC step"] = step_costs() | {"published_ms": PUBLISHED_MS}
    print("SGHMC, ms of CPU per chain-step:", results["SGHMC step"])
    write("sgmcmc", {"settings": settings, "results": results})


if __name__ == "__main__":
    main()
