"""The cost of programmability: a gradient step of a variational autoencoder, by three libraries.

They are bayesdl, hand-written JAX, and NumPyro's SVI. The network is 784-200-20 and back, data are
random binary vectors, and the objective is the mean over a batch. Costs are CPU seconds of
interleaved calls, as ratios; compile time is that of tracing and compiling the gradient from
nothing. Besides, it measures what exact enumeration of a chain of flips takes to compile.

    python -m benchmarks.vi [--rounds 40]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.infer import Trace_ELBO

from bayesdl.vi import Enum, elbo, expectation, iwelbo
from benchmarks.report import write

PIXELS, HIDDEN, LATENT, BATCH = 784, 200, 20, 256


def make_parameters() -> dict[str, jax.Array]:
    """Return the starting parameters by name."""
    shapes = {
        "e1": (PIXELS, HIDDEN),
        "e2": (HIDDEN, 2 * LATENT),
        "d1": (LATENT, HIDDEN),
        "d2": (HIDDEN, PIXELS),
    }
    keys = jax.random.split(jax.random.key(0), len(shapes))
    weights = {
        n: jax.random.normal(k, s) / np.sqrt(s[0])
        for (n, s), k in zip(shapes.items(), keys, strict=True)
    }
    return weights | {f"{n} bias": jnp.zeros(s[1]) for n, s in shapes.items()}


START = make_parameters()


def dense(get: Callable, name: str, x: jax.Array) -> jax.Array:
    return x @ get(name) + get(f"{name} bias")


def encode(get: Callable, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    out = dense(get, "e2", jnp.tanh(dense(get, "e1", x)))
    return out[..., :LATENT], jnp.exp(out[..., LATENT:] / 2)


def decode(get: Callable, z: jax.Array) -> jax.Array:
    return dense(get, "d2", jnp.tanh(dense(get, "d1", z)))


def param(name: str) -> Any:
    return numpyro.param(name, START[name])


def model(x: jax.Array) -> None:
    """The model of one image."""
    z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
    numpyro.sample("x", dist.Bernoulli(logits=decode(param, z)).to_event(1), obs=x)


def guide(x: jax.Array) -> None:
    """The guide of one image."""
    loc, scale = encode(param, x)
    numpyro.sample("z", dist.Normal(loc, scale).to_event(1))


def batch_model(X: jax.Array) -> None:
    """The model of a batch, as NumPyro's users write it."""
    with numpyro.plate("rows", len(X)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
        numpyro.sample("x", dist.Bernoulli(logits=decode(param, z)).to_event(1), obs=X)


def batch_guide(X: jax.Array) -> None:
    loc, scale = encode(param, X)
    with numpyro.plate("rows", len(X)):
        numpyro.sample("z", dist.Normal(loc, scale).to_event(1))


def by_hand(params: dict, key: jax.Array, X: jax.Array, K: int | None) -> jax.Array:
    """Return the mean bound over the rows, written out."""

    def log_weight(noise: jax.Array, loc: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
        z = loc + scale * noise
        logits = decode(params.__getitem__, z)
        likelihood = jnp.sum(x * logits - jax.nn.softplus(logits), -1)
        prior = -0.5 * jnp.sum(z**2 - noise**2, -1) + jnp.sum(jnp.log(scale), -1)
        return likelihood + prior

    loc, scale = encode(params.__getitem__, X)
    noise = jax.random.normal(key, (K or 1, *loc.shape))
    log_w = jax.vmap(log_weight, (0, None, None, None))(noise, loc, scale, X)
    return log_w[0].mean() if K is None else (logsumexp(log_w, 0) - jnp.log(K)).mean()


def peers(K: int | None) -> dict[str, Callable]:
    """Return the gradient of each peer as a function of (params, key, X)."""
    E = expectation(elbo if K is None else iwelbo(K), model, guide)
    functions: dict[str, Callable] = {
        "bayesdl": lambda params, key, X: E.rows(key, params, X),
        "by hand": functools.partial(by_hand, K=K),
    }
    if K is None:
        loss = Trace_ELBO()
        functions["numpyro"] = lambda params, key, X: (
            -loss.loss(key, params, batch_model, batch_guide, X) / len(X)
        )
    return {name: jax.grad(function) for name, function in functions.items()}


def compile_seconds(gradient: Callable, *args: Any) -> tuple[float, Any]:
    """Return the CPU seconds to trace and compile, and the compiled function."""
    jax.clear_caches()
    started = time.process_time()
    compiled = jax.jit(gradient).lower(*args).compile()
    return time.process_time() - started, compiled


def costs(K: int | None, rounds: int) -> dict[str, dict[str, float]]:
    """Measure each peer: CPU milliseconds a call and compile seconds.

    They are the median over interleaved rounds, and the least of five.
    """
    X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (BATCH, PIXELS)), float)
    key = jax.random.key(1)
    compiled, seconds, calls = {}, {}, {}
    for name, gradient in list(peers(K).items()) * 5:
        taken, compiled[name] = compile_seconds(gradient, START, key, X)
        seconds[name], calls[name] = min(taken, seconds.get(name, np.inf)), []
    for _ in range(rounds):
        for name, function in compiled.items():
            started = time.process_time()
            for _ in range(5):
                jax.block_until_ready(function(START, key, X))
            calls[name].append((time.process_time() - started) / 5)
    rows = {
        name: {"ms": 1000 * statistics.median(values), "compile_s": seconds[name]}
        for name, values in calls.items()
    }
    for row in rows.values():
        row |= {
            f"bayesdl_ratio_{key}": rows["bayesdl"][key] / row[key] for key in ("ms", "compile_s")
        }
    return rows


def per_row_gradients(rounds: int) -> float:
    """Return how many times as long gradients of each row take as the gradient of the mean."""
    E = expectation(elbo, model, guide)
    X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (64, PIXELS)), float)
    keys = jax.random.split(jax.random.key(1), 64)
    mean = jax.jit(jax.grad(lambda params: E.rows(jax.random.key(1), params, X)))
    each = jax.jit(
        lambda params: jax.vmap(jax.grad(lambda p, k, x: E(k, p, x)), (None, 0, 0))(params, keys, X)
    )
    times: dict[str, list[float]] = {"mean": [], "each": []}
    for name, function in (("mean", mean), ("each", each)) * rounds:
        started = time.process_time()
        jax.block_until_ready(function(START))
        times[name].append(time.process_time() - started)
    return statistics.median(times["each"][1:]) / statistics.median(times["mean"][1:])


def enumeration(sites: int) -> dict[str, float]:
    """Measure the exact gradient through a chain of flips.

    Returns its number of equations, and the CPU seconds to trace and compile it.
    """

    def chain() -> None:
        u = 0.0
        for i in range(sites):
            u = numpyro.sample(f"z{i}", dist.Bernoulli(logits=numpyro.param("phi", 0.3) + 0.1 * u))

    def squared(p: Any, q: Any) -> jax.Array:
        return sum(q.sim()[0].values()) ** 2.0

    E = expectation(
        squared, lambda: None, chain, estimators={f"z{i}": Enum() for i in range(sites)}
    )
    gradient = jax.grad(lambda phi: E(jax.random.key(0), {"phi": phi}))
    seconds, _ = compile_seconds(gradient, 0.3)
    return {"equations": len(jax.make_jaxpr(gradient)(0.3).eqns), "compile_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    results: dict[str, Any] = {}
    for label, K in (("ELBO", None), ("IWELBO(5)", 5)):
        results[label] = costs(K, rounds)
        for name, row in results[label].items():
            print(
                f"{label:<12}{name:<10}"
                + "".join(f"{key} {value:8.3f}   " for key, value in row.items()),
                flush=True,
            )
    results["per_row_ratio"] = per_row_gradients(5)
    print(f"gradients of each row take {results['per_row_ratio']:.0f} times as long as the mean's")
    results["enumeration"] = {str(sites): enumeration(sites) for sites in (2, 4, 6, 8)}
    print("enumerated flips:", results["enumeration"])
    write("vi", {"batch": BATCH, "results": results})


if __name__ == "__main__":
    main()
