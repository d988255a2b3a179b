"""Prior-data fitted networks against compiled NUTS, on data sets of their own priors.

    gp     1-D Gaussian process, Matern-5/2, unknown hyperparameters (length scale Gamma(3, 6),
           variance Gamma(2, 0.15), noise variance Gamma(1.1, 20), as in Mueller et al. 2022), 20
           rows, NUTS with 256 + 256 draws
    bnn    tanh network of 3 inputs and 5 hidden units with unknown noise, 40 rows, NUTS with 500 +
           1000 draws

NUTS is NumPyro's, compiled once with the data as arguments, which is how to use it for many data
sets; a new `MCMC` for each data set is reported too and not claimed. The predictive of its draws is
the mixture of the distributions of y given each draw.

    python -m benchmarks.pfn_nuts [gp bnn]

Run it on one core for comparable CPU seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.infer import MCMC, NUTS
from numpyro.infer.hmc import hmc
from numpyro.infer.util import initialize_model

import bayesdl as bdl
from bayesdl.model.table import AbstractTableModel, RowPredictive, TableProgram
from benchmarks.report import run_parts
from inference.amortized.certificate import score_queries
from inference.amortized.tasks import simulate
from inference.core.keys import tagged_key
from inference.exact.gp import GPPredictive

NOISE = dist.TransformedDistribution(dist.Gamma(1.1, 20.0), dist.transforms.PowerTransform(0.5))
SETTINGS: dict[str, dict[str, Any]] = {
    "gp": {
        "model": bdl.GP(
            bdl.kernels.Matern52(lengthscale=dist.Gamma(3.0, 6.0), variance=dist.Gamma(2.0, 0.15)),
            bdl.Normal(NOISE),
            standardize=False,
        ),
        "train": {
            "inputs": "uniform",
            "max_rows": 30,
            "steps": 54_000,
            "learning_rate": 3e-3,
            "normalize": True,
        },
        "rows": 20,
        "draws": (256, 256),
        "tasks": 200,
    },
    "bnn": {
        "model": bdl.BNN(hidden=(5,), standardize=False),
        "train": {
            "num_inputs": 3,
            "max_rows": 40,
            "steps": 40_000,
            "learning_rate": 3e-3,
            "normalize": True,
            "latents": ("sigma",),
        },
        "rows": 40,
        "draws": (500, 1000),
        "tasks": 100,
    },
}


def compiled_nuts(
    program: Callable, predictive_of: Callable, warmup: int, samples: int
) -> Callable:
    """Compile a function (key, X, y, X_new, y_new) -> log p(y_new | X_new, X, y) by NUTS."""

    def run(
        key: jax.Array, X: jax.Array, y: jax.Array, X_new: jax.Array, y_new: jax.Array
    ) -> jax.Array:
        starting, sampling = jax.random.split(key)
        info = initialize_model(starting, program, model_args=(X, y), dynamic_args=True)
        init, step = hmc(potential_fn_gen=info.potential_fn, algo="NUTS")
        state = init(info.param_info, num_warmup=warmup, rng_key=sampling, model_args=(X, y))

        def advance(state: Any, _: None) -> tuple:
            state = step(state, model_args=(X, y))
            return state, state.z

        state, _ = jax.lax.scan(advance, state, None, length=warmup)
        _, draws = jax.lax.scan(advance, state, None, length=samples)
        latents = jax.vmap(info.postprocess_fn(X, y))(draws)
        predictive = predictive_of(X, y)

        def log_prob(z: dict) -> jax.Array:
            return predictive(z, key, X_new).distribution.log_prob(y_new)

        log_p = jax.lax.map(log_prob, latents, batch_size=64)
        return logsumexp(log_p, 0) - jnp.log(samples)

    return jax.jit(run)


def predictive_function(model: AbstractTableModel, num_inputs: int) -> Callable:
    """Return a function from training data to the predictive of new rows given a draw."""
    if isinstance(model, bdl.GP):
        schema = model.learn_schema(
            np.arange(2.0)[:, None] + np.arange(num_inputs), y=np.arange(2.0)
        )
        return lambda X, y: GPPredictive(model.structure(schema), X, y)
    predictive = RowPredictive(*TableProgram(model, 1).split_params(), {})
    return lambda X, y: predictive


def run_part(name: str) -> dict:
    """Train a network and compare it."""
    setting = SETTINGS[name]
    model, rows, tasks = setting["model"], setting["rows"], setting["tasks"]
    pfn = bdl.PFN.train(model, bdl.amortized.Training(**setting["train"]))
    queries = pfn.tasks.num_queries
    batch = simulate(pfn.tasks, tagged_key(jax.random.key(1), "nuts"), tasks)
    batch = batch._replace(num_rows=jnp.full(tasks, rows, jnp.int32))
    ours = np.asarray(score_queries(pfn.network, batch, queries, pfn.grids.target)[0], float)
    started = time.process_time()
    for _ in range(5):
        jax.block_until_ready(score_queries(pfn.network, batch, queries, pfn.grids.target))
    ours_seconds = (time.process_time() - started) / (5 * tasks)

    theirs, seconds = [], []
    program = TableProgram(model, 1)
    with jax.enable_x64(model.double_precision):
        data = [jnp.asarray(np.asarray(part, np.float64)) for part in (batch.X, batch.y)]
        nuts = compiled_nuts(
            program, predictive_function(model, data[0].shape[-1]), *setting["draws"]
        )
        for task in range(tasks):
            X, y = (part[task] for part in data)
            started = time.process_time()
            given = X[:rows], y[:rows], X[-queries:], y[-queries:]
            theirs.append(np.asarray(nuts(jax.random.key(task), *given), float))
            seconds.append(time.process_time() - started)
        X, y = (part[0][:rows] for part in data)
        naive = naive_seconds(program, X, y, *setting["draws"])
    lost = np.array(theirs).mean(1) - ours.mean(1)
    compiled = float(np.mean(seconds[1:]))  # the first compiles
    found = {
        "nll": float(-ours.mean()),
        "nll_nuts": float(-np.mean(theirs)),
        "gap": [float(lost.mean()), float(lost.std() / np.sqrt(tasks))],
        "ms_per_task": 1000 * ours_seconds,
        "ms_per_task_nuts": 1000 * compiled,
        "speed_ratio": compiled / ours_seconds,
        "speed_ratio_to_a_new_mcmc_each_time": naive / ours_seconds,
        "tasks": tasks,
        "facts": {k: v for k, v in pfn.facts.items() if k != "losses"},
        "certificate": pfn.certificate,
    }
    print({k: v for k, v in found.items() if k != "certificate"}, flush=True)
    for row in (*pfn.certificate["rows"], *pfn.certificate["latents"]):
        print(row, flush=True)
    return found


def naive_seconds(
    program: Callable, X: jax.Array, y: jax.Array, warmup: int, samples: int
) -> float:
    """Return the CPU seconds of a new `MCMC` for one data set."""
    started = time.process_time()
    mcmc = MCMC(NUTS(program), num_warmup=warmup, num_samples=samples, progress_bar=False)
    mcmc.run(jax.random.key(0), X, y)
    jax.block_until_ready(mcmc.get_samples())
    return time.process_time() - started


if __name__ == "__main__":
    run_parts("pfn_nuts", SETTINGS, run_part, __doc__)
