# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Programmable variational inference
#
# Variational inference turns a posterior into an optimisation: choose a *guide* $q(z; \phi)$ and maximise an *objective*,
# usually the evidence lower bound
#
# $$\mathrm{ELBO}(\phi) = \mathbb{E}_{q}\left[\log p(y, z) - \log q(z; \phi)\right] \le \log p(y) .$$
#
# Here an objective is a Python function of two distributions, the model `p` and the guide `q`; how the gradient passes a random
# choice is said at the choice. We write objectives of our own, see REINFORCE fail where the measure-valued derivative does
# not, and build a guide that no named family has.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax.scipy.special import logsumexp

import bayesdl as bdl
from bayesdl import vi

# %% [markdown]
# ## An objective in five lines
#
# `q.sim()` draws and gives the log density of the draw, `p.density(z)` evaluates the joint density with the data. With them
# the ELBO is two lines, and the importance-weighted bound with $K$ draws,
#
# $$\mathbb{E}\left[\log \tfrac{1}{K} \sum_k \frac{p(y, z_k)}{q(z_k)}\right] ,$$
#
# three. Both are in `bayesdl.vi` already; writing them again shows that nothing is hidden.


# %%
def elbo(p, q):
    z, log_q = q.sim()
    return p.density(z) - log_q


def importance_weighted(p, q):
    z, log_q = q.sim(10)
    return logsumexp(p.density(z, 10) - log_q) - jnp.log(10)


# %% [markdown]
# The model is the *noisy cone*: a point in the plane, and a noisy measurement of its squared distance from the origin. Its
# posterior is a ring. The guide is two independent normals, which can cover one side of the ring only.


# %%
def cone(z):
    x = numpyro.sample("x", dist.Normal(0, 10))
    y = numpyro.sample("y", dist.Normal(0, 10))
    r = x**2 + y**2
    numpyro.sample("z", dist.Normal(r, 0.1 + r / 100), obs=z)


def two_normals(z):
    for name, start in (("x", 1.0), ("y", 0.0)):
        loc = numpyro.param(f"{name} loc", start)
        numpyro.sample(name, dist.Normal(loc, jnp.exp(numpyro.param(f"{name} log scale", 0.0))))


LOG_EVIDENCE = -5.3232  # by quadrature


def fitted(guide, objective, steps=2000):
    engine = bdl.VI(
        guide=guide, objective=objective, steps=steps, num_particles=32, learning_rate=0.05
    )
    return bdl.fit(cone, 5.0, engine=engine, progress=False)


def bound(objective, guide, params, num=4000):
    """The objective at the fitted parameters, averaged over many draws."""
    E = vi.expectation(objective, cone, guide)
    return float(
        jax.jit(jax.vmap(lambda key: E(key, params, 5.0)))(
            jax.random.split(jax.random.key(7), num)
        ).mean()
    )


normals = fitted(two_normals, elbo)
weighted = fitted(two_normals, importance_weighted)

# %% [markdown]
# ## A guide with a hidden angle
#
# A better guide draws an angle $u$ and then a point near the circle. But the density of the point is an integral over the
# angle, and the ELBO needs that density. `vi.marginal` integrates $u$ out by importance sampling, with $N$ draws, in a way
# that keeps the objective a bound: hierarchical variational inference is `elbo(p, marginal(...))`, and its importance-weighted
# version differs in $N$ only.


# %%
def ring(z):
    u = numpyro.sample("u", dist.Uniform(0, 1))
    radius, scale = numpyro.param("radius", 2.0), jnp.exp(numpyro.param("log scale", 0.0))
    numpyro.sample("x", dist.Normal(radius * jnp.cos(2 * jnp.pi * u), scale))
    numpyro.sample("y", dist.Normal(radius * jnp.sin(2 * jnp.pi * u), scale))


ring_guide = vi.marginal(ring, keep=["x", "y"], N=50)
ringed = fitted(ring_guide, elbo)

bounds = {
    "two normals, ELBO": bound(elbo, two_normals, normals.raw.params),
    "two normals, 10 draws": bound(importance_weighted, two_normals, weighted.raw.params),
    "ring, ELBO, N = 50": bound(elbo, ring_guide, ringed.raw.params),
}
for name, value in bounds.items():
    print(f"{name:<24}{value:8.2f}   (log evidence {LOG_EVIDENCE:.2f})")

# %%
grid = np.linspace(-4, 4, 200)
xx, yy = np.meshgrid(grid, grid)
squared = xx**2 + yy**2
scale = 0.1 + squared / 100
log_joint = -0.5 * (squared / 100 + ((5 - squared) / scale) ** 2) - np.log(scale)
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharex=True, sharey=True)
for ax, (name, post) in zip(
    axes,
    {"two normals, ELBO": normals, "two normals, 10 draws": weighted, "ring": ringed}.items(),
    strict=True,
):
    draws = post.sample(1000)
    ax.contour(
        xx,
        yy,
        np.exp(log_joint - log_joint.max()),
        levels=[0.05, 0.5],
        colors="0.6",
        linewidths=0.8,
    )
    ax.scatter(draws["x"], draws["y"], s=4, alpha=0.4)
    ax.set(title=name, xlabel="x", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
axes[0].set_ylabel("y")
fig.suptitle("Posterior (contours) and draws from the guide")
plt.show()

# %% [markdown]
# ## Discrete choices: when REINFORCE fails
#
# For a discrete choice there is no gradient through the draw. The score function (REINFORCE) works for anything,
#
# $$\nabla \mathbb{E}[k(z)] = \mathbb{E}[k(z)\, \nabla \log q(z)] ,$$
#
# but its variance grows with the size of $k$. The *measure-valued derivative* compares the objective at the draw with the
# objective at its neighbours, $\sum_v \nabla q(v)\,(k(v) - k(z))$, so whatever the two share cancels. Summing over all values,
# `Enum`, has no variance from the choice at all.
#
# A signal is a sum of 12 templates of which each may be present. The guide has a probability for each.

# %%
rng = np.random.default_rng(1)
TEMPLATES, LENGTH, NOISE = 12, 40, 0.5
templates = jnp.asarray(rng.normal(size=(TEMPLATES, LENGTH)))
present = jnp.asarray(rng.random(TEMPLATES) < 0.4)
signal = jnp.where(present[:, None], templates, 0.0).sum(0) + NOISE * jnp.asarray(
    rng.normal(size=LENGTH)
)


def mixture(signal):
    with numpyro.plate("templates", TEMPLATES):
        z = numpyro.sample("z", dist.Bernoulli(0.4))
    numpyro.sample("signal", dist.Normal(z @ templates, NOISE).to_event(1), obs=signal)


def flips(signal):
    logits = numpyro.param("logits", jnp.zeros(TEMPLATES))
    with numpyro.plate("templates", TEMPLATES):
        numpyro.sample("z", dist.Bernoulli(logits=logits))


estimators = {
    "REINFORCE": (elbo, vi.Reinforce(baseline=0.0)),
    "REINFORCE, leave-one-out": (vi.iwelbo(K=2), vi.Reinforce("loo")),
    "measure-valued": (elbo, vi.MVD()),
}
history, found = {}, {}
for name, (objective, estimator) in estimators.items():
    engine = bdl.VI(
        guide=flips,
        objective=objective,
        estimators={"z": estimator},
        steps=400,
        optimizer=optax.adam(0.1),
    )
    post = bdl.fit(mixture, signal, engine=engine, progress=False)
    history[name], found[name] = -post.raw.losses, 1 / (1 + np.exp(-post.raw.params["logits"]))


# %% [markdown]
# How large is the variance? `expectation` gives the objective as a function whose value and gradient are unbiased, so the
# spread of its gradient over keys can be measured.


# %%
def gradient_sd(objective, estimator, num=500):
    E = vi.expectation(objective, mixture, flips, estimators={"z": estimator})
    gradient = jax.jit(
        jax.vmap(jax.grad(lambda logits, key: E(key, {"logits": logits}, signal)), (None, 0))
    )
    return float(
        np.sqrt(
            gradient(jnp.full(TEMPLATES, -0.5), jax.random.split(jax.random.key(3), num))
            .var(0)
            .mean()
        )
    )


spread = {name: gradient_sd(*pair) for name, pair in estimators.items()}

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
for name, values in history.items():
    left.plot(
        np.convolve(values, np.ones(20) / 20, "valid"),
        label=f"{name} (gradient sd {spread[name]:.0f})",
    )
left.set(xlabel="step", ylabel="objective", title="Objective, mean of 20 steps", ylim=(-400, 0))
left.legend(fontsize=8)
for offset, (name, probs) in enumerate(found.items()):
    right.plot(np.arange(TEMPLATES) + 0.2 * (offset - 1), probs, "o", ms=4, label=name)
right.bar(np.arange(TEMPLATES), present, color="0.85", label="truly present")
right.set(xlabel="template", ylabel="q(z = 1)", title="Probability of each template")
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Is it unbiased?
#
# Every estimator claims the same mean. `check_unbiased` tests the claim for your own objective, model and guide: the mean of
# many gradients against the exact sum over all values where there are few enough, else against finite differences.


# %%
def small_mixture(signal):
    with numpyro.plate("templates", 3):
        z = numpyro.sample("z", dist.Bernoulli(0.4))
    numpyro.sample("signal", dist.Normal(z @ templates[:3], 2.0).to_event(1), obs=signal)


def small_flips(signal):
    logits = numpyro.param("logits", jnp.zeros(3))
    with numpyro.plate("templates", 3):
        numpyro.sample("z", dist.Bernoulli(logits=logits))


reports = {
    name: vi.check_unbiased(
        objective,
        small_mixture,
        small_flips,
        None,
        signal,
        estimators={"z": estimator},
        num_samples=5000,
    )
    for name, (objective, estimator) in estimators.items()
}
for name, report in reports.items():
    print(f"{name:<26}{report}")

# %% [markdown]
# What this tutorial claimed, checked:

# %%
assert all(value < LOG_EVIDENCE for value in bounds.values())
assert bounds["two normals, ELBO"] < bounds["two normals, 10 draws"]
assert bounds["two normals, ELBO"] < bounds["ring, ELBO, N = 50"] - 1
angles = np.arctan2(*(ringed.sample(1000)[name] for name in ("y", "x")))
assert np.abs(np.exp(1j * angles).mean()) < 0.1  # all around the ring
assert spread["REINFORCE"] > 5 * spread["measure-valued"]
assert ((found["measure-valued"] > 0.5) == np.asarray(present)).all()
assert history["REINFORCE"][-50:].mean() < history["measure-valued"][-50:].mean() - 10
assert all(report.ok for report in reports.values())
