"""Series: autoregressions, state-space models, volatility, hidden states."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

from programs.case import NO_MODE, Case, generator

rng = generator(4)


def ar2(y):
    """An AR(2) whose past is the data themselves."""
    a, b = numpyro.sample("a", dist.Normal(0, 0.5)), numpyro.sample("b", dist.Normal(0, 0.5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("times", len(y) - 2):
        numpyro.sample("next", dist.Normal(a * y[1:-1] + b * y[:-2], sigma), obs=y[2:])


def ar2_scan(y0, T, y=None):
    """An AR(2) by scan; each step observes its own value."""
    a, b = numpyro.sample("a", dist.Normal(0, 0.5)), numpyro.sample("b", dist.Normal(0, 0.5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))

    def step(carry, _):
        last, before = carry
        now = numpyro.sample("y", dist.Normal(a * last + b * before, sigma))
        return (now, last), now

    with numpyro.handlers.condition(data={"y": y} if y is not None else {}):
        scan(step, (y0[1], y0[0]), None, length=T)


def ar1_unrolled(y):
    """A scalar site for each time."""
    a = numpyro.sample("a", dist.Normal(0, 0.5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    for t in range(1, len(y)):
        numpyro.sample(f"y_{t}", dist.Normal(a * y[t - 1], sigma), obs=y[t])


def volatility(returns=None, n=15):
    step = numpyro.sample("step", dist.Exponential(10.0))
    s = numpyro.sample("s", dist.GaussianRandomWalk(step, num_steps=n))
    nu = numpyro.sample("nu", dist.Exponential(0.1))
    with numpyro.plate("days", n):
        numpyro.sample("returns", dist.StudentT(nu, 0.0, jnp.exp(s)), obs=returns)


def local_level(T, y=None):
    """A random walk plus noise, one latent for each time."""
    drift = numpyro.sample("drift", dist.HalfNormal(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))

    def step(level, _):
        level = numpyro.sample("level", dist.Normal(level, drift))
        numpyro.sample("y", dist.Normal(level, noise))
        return level, None

    with numpyro.handlers.condition(data={} if y is None else {"y": y}):
        scan(step, jnp.zeros(()), None, length=T)


def smoothing(T, y=None):
    """Holt's linear trend, the level and trend updated by each value that is seen."""
    alpha, beta = (
        numpyro.sample("alpha", dist.Beta(2, 2)),
        numpyro.sample("beta", dist.Beta(2, 5)),
    )
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))

    def step(carry, t):
        level, trend = carry
        mean = level + trend
        seen = numpyro.sample("y", dist.Normal(mean, sigma))
        new = alpha * seen + (1 - alpha) * mean
        return (new, beta * (new - level) + (1 - beta) * trend), mean

    with numpyro.handlers.condition(data={} if y is None else {"y": y}):
        scan(step, (jnp.zeros(()), jnp.zeros(())), jnp.arange(T))


def vector_ar(Y):
    """A VAR(1) with correlated errors."""
    A = numpyro.sample("A", dist.Normal(jnp.zeros((2, 2)), 0.5).to_event(2))
    scale = numpyro.sample("scale", dist.HalfNormal(jnp.ones(2)).to_event(1))
    lower = numpyro.sample("L", dist.LKJCholesky(2, 1.0))
    with numpyro.plate("times", len(Y) - 1):
        mean = Y[:-1] @ A.T
        tril = scale[:, None] * lower
        numpyro.sample("next", dist.MultivariateNormal(mean, scale_tril=tril), obs=Y[1:])


def hmm_semisupervised(states, words, num_states=2, num_words=3):
    """A hidden Markov model whose states were seen."""
    with numpyro.plate("from", num_states):
        transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones(num_states)))
        emission = numpyro.sample("emission", dist.Dirichlet(jnp.ones(num_words)))
    with numpyro.plate("steps", len(states) - 1):
        numpyro.sample("states", dist.Categorical(transition[states[:-1]]), obs=states[1:])
    with numpyro.plate("words_", len(words)):
        numpyro.sample("words", dist.Categorical(emission[states]), obs=words)


series = np.cumsum(rng.normal(size=14)) * 0.3
pairs = rng.normal(size=(12, 2))
states = np.array([0, 0, 1, 1, 0, 1, 0, 0, 1, 1])
words = (states + rng.integers(0, 2, 10)) % 3

CASES = (
    Case("AR(2)", ar2, (series,)),
    Case("AR(2) by scan", ar2_scan, (series[:2], 12), {"y": series[2:]}, conditions=True),
    Case(
        "AR(1), a site for each time",
        ar1_unrolled,
        (series,),
        site="y_3",
        refused={"loo": "at least two rows"},
    ),
    Case(
        "stochastic volatility",
        volatility,
        (),
        {"returns": 0.1 * rng.normal(size=15)},
        may_refuse=NO_MODE,
    ),
    Case(
        "local level by scan",
        local_level,
        (10,),
        {"y": series[:10]},
        conditions=True,
        may_refuse=NO_MODE,
    ),
    Case("Holt's trend by scan", smoothing, (10,), {"y": series[:10]}, conditions=True),
    Case("VAR(1)", vector_ar, (pairs,)),
    Case("HMM with states seen", hmm_semisupervised, (states, words), site="words"),
)
