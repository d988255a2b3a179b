"""Discrete latent sites that are summed out, against sums written by hand and NumPyro's own.

For a mixture, a hidden Markov chain and nested plates:

    density           log density minus the sum by hand, relative, at three points
    responsibilities  p(s = k | y, z) minus Bayes' rule, the largest difference
    posterior         means under NUTS minus those of the program summed by hand, in standard errors
    gradient          time of log density and gradient over that of NumPyro's potential with
                      `config_enumerate`, alternating in this process: the median of many

    python -m benchmarks.enumeration [--no-fits]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base.array import array_stats
from jax.scipy.special import logsumexp
from numpyro.contrib.control_flow import scan
from numpyro.contrib.funsor import config_enumerate
from numpyro.infer.util import initialize_model

import bayesdl as bdl
from benchmarks.report import write
from inference.core.enumeration import discrete
from inference.core.problem import Problem

rng = np.random.default_rng(0)
SETTINGS = {"num_warmup": 500, "num_samples": 1000, "num_chains": 2}
STAY = jnp.array([[0.9, 0.1], [0.2, 0.8]])
OF_Z, OF_C = jnp.array([[0.9, 0.1], [0.3, 0.7]]), jnp.array([[0.2, 0.8], [0.6, 0.4]])
REPEATS = 200


def normal(y, mean):
    return dist.Normal(mean, 1.0).log_prob(y)


def means(count):
    """The means of the components, apart enough for one mode."""
    return numpyro.sample("mu", dist.Normal(3.0 * jnp.arange(count), 0.5).to_event(1))


def mixture(y):
    w, mu = numpyro.sample("w", dist.Dirichlet(jnp.ones(3))), means(3)
    with numpyro.plate("rows", len(y)):
        z = numpyro.sample("z", dist.Categorical(w))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def mixture_terms(y, w, mu):
    return normal(y[:, None], mu) + jnp.log(w)


def mixture_by_hand(y):
    w, mu = numpyro.sample("w", dist.Dirichlet(jnp.ones(3))), means(3)
    numpyro.factor("y", logsumexp(mixture_terms(y, w, mu), 1).sum())


def mixture_bayes(y, w, mu):
    return {"z": jax.nn.softmax(mixture_terms(y, w, mu))}


def chain(y):
    mu = means(2)

    def step(s, value):
        s = numpyro.sample("s", dist.Categorical(STAY[s]))
        numpyro.sample("y", dist.Normal(mu[s], 1.0), obs=value)
        return s, None

    scan(step, 0, y)


def forward(y, mu):
    """Log p(y up to t, s_t) for each t."""

    def step(alpha, value):
        alpha = logsumexp(alpha[:, None] + jnp.log(STAY), 0) + normal(value, mu)
        return alpha, alpha

    first = jnp.log(STAY[0]) + normal(y[0], mu)
    return jnp.concatenate([first[None], jax.lax.scan(step, first, y[1:])[1]])


def chain_by_hand(y):
    numpyro.factor("y", logsumexp(forward(y, means(2))[-1]))


def chain_bayes(y, mu):
    """Forward and backward."""

    def step(beta, value):
        beta = logsumexp(jnp.log(STAY) + normal(value, mu) + beta, 1)
        return beta, beta

    last = jnp.zeros(2)
    beta = jax.lax.scan(step, last, y[1:][::-1])[1][::-1]
    return {"s": jax.nn.softmax(forward(y, mu) + jnp.concatenate([beta, last[None]]))}


def nested(y):
    mu = means(2)
    c = numpyro.sample("c", dist.Bernoulli(0.4))
    with numpyro.plate("groups", y.shape[0], dim=-2):
        z = numpyro.sample("z", dist.Categorical(OF_C[c]))
        with numpyro.plate("rows", y.shape[1]):
            k = numpyro.sample("k", dist.Categorical(OF_Z[z]))
            numpyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)


def nested_terms(y, mu):
    """Log p(row | z), and log p(group | z) + log p(z | c), with axes (group, ..., c, z)."""
    rows = logsumexp(normal(y[:, :, None, None], mu) + jnp.log(OF_Z), 3)
    return rows, rows.sum(1)[:, None] + jnp.log(OF_C)


def nested_by_hand(y):
    groups = logsumexp(nested_terms(y, means(2))[1], 2).sum(0)
    numpyro.factor("y", logsumexp(groups + jnp.log(jnp.array([0.6, 0.4]))))


def nested_bayes(y, mu):
    _, groups = nested_terms(y, mu)
    c = jax.nn.softmax(logsumexp(groups, 2).sum(0) + jnp.log(jnp.array([0.6, 0.4])))
    z = jnp.einsum("c,gcz->gz", c, jax.nn.softmax(groups))
    of_row = jax.nn.softmax(normal(y[:, :, None, None], mu) + jnp.log(OF_Z))
    return {"c": c, "z": z, "k": jnp.einsum("gz,grzk->grk", z, of_row)}


class Case(NamedTuple):
    """A program, the same summed by hand, Bayes' rule for it, and data."""

    program: object
    by_hand: object
    bayes: object
    y: np.ndarray


def cases() -> dict[str, Case]:
    state = np.cumsum(rng.random(300) < 0.15) % 2
    kind = rng.integers(0, 3, 1000)
    rows = rng.integers(0, 2, (40, 20))
    return {
        "mixture": Case(
            mixture, mixture_by_hand, mixture_bayes, 3.0 * kind + rng.normal(size=1000)
        ),
        "hidden Markov chain": Case(
            chain, chain_by_hand, chain_bayes, 3.0 * state + rng.normal(size=300)
        ),
        "nested plates": Case(
            nested, nested_by_hand, nested_bayes, 3.0 * rows + rng.normal(size=(40, 20))
        ),
    }


def check_density(problem: Problem, by_hand: Problem, bayes) -> dict[str, float]:
    """The relative error of the log density, and that of responsibilities, at three points."""
    ours, theirs = (one.log_density() for one in (problem, by_hand))
    pair = jax.jit(lambda u: (ours(u), theirs(u)))
    draws = jax.jit(lambda key: by_hand.prior_draw(key))
    share = jax.jit(lambda z: discrete.probabilities(problem, z))
    errors, far = [], []
    for seed in range(3):
        z = draws(jax.random.key(seed))
        a, b = map(float, pair(ours.ravel(jax.jit(problem.unconstrained)(z))))
        errors.append(abs(a / b - 1))
        names = [name for name in ("w", "mu") if name in z]
        wanted = bayes(jnp.asarray(problem.args[0]), *(z[name] for name in names))
        found = share(z)
        far += [
            float(np.abs(np.reshape(found[name], v.shape) - v).max()) for name, v in wanted.items()
        ]
    return {"density, relative error": max(errors), "responsibilities, error": max(far)}


def time_gradient(problem: Problem, program) -> dict[str, float]:
    """The time of log density and gradient over that of NumPyro's own enumeration."""
    y = problem.args[0]
    info = initialize_model(jax.random.key(0), config_enumerate(program), model_args=(y,))
    at = info.param_info.z
    ours = jax.jit(jax.value_and_grad(lambda z: -problem.log_density_at(z)))
    theirs = jax.jit(jax.value_and_grad(info.potential_fn))
    a, b = (jax.block_until_ready(f(at))[0] for f in (ours, theirs))
    seconds: dict[str, list[float]] = {"ours": [], "numpyro": []}
    pairs = [("ours", ours), ("numpyro", theirs)]
    for repeat in range(REPEATS):
        for name, function in pairs[:: 1 if repeat % 2 else -1]:
            started = time.perf_counter()
            jax.block_until_ready(function(at))
            seconds[name].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    return {
        "same density": bool(np.isclose(a, b, rtol=1e-5)),
        "gradient, milliseconds": 1000 * min(seconds["ours"]),
        "gradient, milliseconds of NumPyro": 1000 * min(seconds["numpyro"]),
        "gradient, ratio of the fastest": min(seconds["ours"]) / min(seconds["numpyro"]),
        "gradient, median ratio": statistics.median(ratios),
    }


def compare_posteriors(case: Case) -> dict[str, float]:
    """The largest difference of posterior means, in standard errors."""
    # a chain that starts anywhere may stay in the mode with the components exchanged
    engine = bdl.NUTS(start="prior", **SETTINGS)
    posts = [
        bdl.fit(program, case.y, engine=engine, progress=False, seed=seed)
        for seed, program in enumerate((case.program, case.by_hand))
    ]
    worst = 0.0
    for name in posts[1].problem.latents:
        one, two = (p.samples[name].reshape(2, SETTINGS["num_samples"], -1) for p in posts)
        for i in range(one.shape[2]):
            variances = [
                x[..., i].var() / array_stats.ess(x[..., i], chain_axis=0, draw_axis=1)
                for x in (one, two)
            ]
            gap = one[..., i].mean() - two[..., i].mean()
            worst = max(worst, float(abs(gap) / np.sqrt(sum(variances))))
    return {"posterior means, standard errors": worst}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-fits", action="store_true")
    options = parser.parse_args()
    results = {}
    for name, case in cases().items():
        y = case.y.astype(np.float32)
        problem, by_hand = Problem(case.program, (y,)), Problem(case.by_hand, (y,))
        results[name] = check_density(problem, by_hand, case.bayes)
        results[name] |= time_gradient(problem, case.program)
        if not options.no_fits:
            results[name] |= compare_posteriors(case._replace(y=y))
        print(name, results[name], flush=True)
    write("enumeration", {"settings": SETTINGS, "repeats": REPEATS, "cases": results})


if __name__ == "__main__":
    main()
