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
# # Large data: stochastic-gradient MCMC
#
# Each step of NUTS needs the gradient of all rows, many times. With many rows one would rather look at a *minibatch* $B$,
# as in training a network. With $U(z) = -\log p(y, z)$,
#
# $$\nabla U(z) \approx -\nabla \log p(z) - \frac{N}{|B|} \sum_{i \in B} \nabla \log p(y_i \mid z) .$$
#
# The estimate is unbiased but noisy, and the noise is what this tutorial is about. We hold the samplers to a regression with
# 50,000 rows whose posterior is known exactly, make them go wrong, and then fit what they are made for: a network, and a
# posterior with two modes.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

import bayesdl as bdl
from bayesdl import plots

# %% [markdown]
# ## A regression with 50,000 rows
#
# The data stand in a plate, and the program takes its rows by the plate's index: that is all a minibatch needs.

# %%
N, NOISE = 50_000, 0.5
rng = np.random.default_rng(0)
base = rng.normal(size=(N, 3))
X = np.stack([np.ones(N), base[:, 0], 0.8 * base[:, 0] + 0.6 * base[:, 1], 3 * base[:, 2]], axis=1)
y = X @ [0.3, 1.0, -0.5, 0.2] + NOISE * rng.normal(size=N)


def regression(X, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]) as i:
        numpyro.sample("y", dist.Normal(X[i] @ w, NOISE), obs=None if y is None else y[i])


covariance = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(4))
exact_mean, exact_sd = covariance @ X.T @ y / NOISE**2, np.sqrt(np.diag(covariance))


def against_exact(post):
    w = post.samples["w"].astype(float)
    return {
        "sd ratio": w.std((0, 1)) / exact_sd,
        "shift of mean / sd": (w.mean((0, 1)) - exact_mean) / exact_sd,
    }


# %% [markdown]
# ## What a minibatch does to the momentum
#
# Hamiltonian Monte Carlo with friction $\gamma$ follows Langevin's equations for position $q$ and momentum $p$,
#
# $$dq = p\, dt, \qquad dp = -\nabla U\, dt - \gamma p\, dt + \sqrt{2 \gamma}\, dW .$$
#
# Friction takes out as much energy as the injected noise $dW$ brings in, so that $p \sim N(0, I)$ and $q$ follows the
# posterior. A minibatch brings noise $n$ besides, which nothing takes out: each step adds $h^2 \mathrm{Var}(n)$ to the
# variance of the momentum. It becomes too hot and the posterior too wide.
#
# `SGHMC` splits the batch in two halves. Half the difference of their gradients is a fresh draw $e$ with the covariance of
# $n$, whatever that is. Before each step the momentum is damped along it,
#
# $$p \leftarrow p - k\, e\, (e^\top p), \qquad 2k - k^2 |e|^2 = h^2 ,$$
#
# and friction and noise balance in every direction. Such a $k$ exists while the **noise ratio** $h^2 |e|^2$ is at most 1.
# Warm-up shortens steps for which it would be above 1/4 on average, and `diagnose` tells
#
# * the **noise ratio**, and the **clamp fraction**: the share of draws at which it was above 1 all the same;
# * the **momentum temperature** along the noise, which should be 1;
# * the factor by which steps were **shortened**.

# %%
plain = bdl.fit(
    regression, X, y=y, engine=bdl.SGHMC(1000, 300, 4, 50, batch_size=128), seed=0, progress=False
)
tired = plain.diagnose()
tired

# %% [markdown]
# The momentum is thermal, so nothing is biased. But noise makes steps short and adds friction, and the chains crawl: R-hat
# and ESS do not accept so few steps. One can run longer, or remove the noise.
#
# ## Control variates
#
# Near the mode the gradient of a row hardly changes. With the gradient of all rows known at an *anchor* $\hat z$, renewed
# now and then, only differences need a minibatch (Baker et al. 2019, [arXiv:1706.05439](https://arxiv.org/abs/1706.05439)),
#
# $$\nabla U(z) \approx \nabla U(\hat z) - \frac{N}{|B|} \sum_{i \in B}
# \bigl( \nabla \log p(y_i \mid z) - \nabla \log p(y_i \mid \hat z) \bigr) .$$

# %%
engine = bdl.SGHMC(1000, 500, 4, 20, batch_size=128, step_size=0.2, control_variates=True)
quiet = bdl.fit(regression, X, y=y, engine=engine, seed=0, progress=False)
trust = quiet.diagnose()
trust

# %% [markdown]
# The noise ratio is a fraction of what it was, at a far longer step. Against the closed form:

# %%
table = pd.concat(
    {
        name: pd.DataFrame(against_exact(post))
        for name, post in {"plain": plain, "control variates": quiet}.items()
    }
)
table.round(3)

# %% [markdown]
# ## The step size
#
# There is no accept step, so the step size biases the answer, for posteriors that are not normal by order $h^2$. Where no
# closed form is at hand, run again with half the step. `bdl.mcmc.halve_step` does so and compares within Monte Carlo error.

# %%
halving = bdl.mcmc.halve_step(quiet, progress=False)
halving

# %% [markdown]
# ## Going wrong
#
# A column of lognormal inputs, such as incomes, makes gradient noise with heavy tails: most batches say little, and a few throw
# the momentum out. Friction balances the noise of a typical batch, and cannot follow that. `diagnose` warns.

# %%
incomes = np.c_[X, np.exp(2 * rng.normal(size=N))]
hot = bdl.fit(
    regression,
    incomes,
    y=y,
    engine=bdl.SGHMC(500, 200, 4, 20, batch_size=16),
    seed=0,
    progress=False,
)
warning = hot.diagnose()
warning

# %% [markdown]
# The cure is a logarithm: inputs on a sensible scale help every sampler. Otherwise a larger batch, or control variates.
# (Another `temperature` than 1 is another posterior, as tutorial 4 shows; `diagnose` says that too.)
#
# The two good runs against the closed form:

# %%
_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
grid = exact_mean[1] + exact_sd[1] * np.linspace(-4, 4, 200)
density = (
    np.exp(-(((grid - exact_mean[1]) / exact_sd[1]) ** 2) / 2) / exact_sd[1] / np.sqrt(2 * np.pi)
)
for name, post in {"plain": plain, "control variates": quiet}.items():
    ax.hist(
        post.samples["w"][..., 1].ravel(),
        bins=50,
        range=(grid[0], grid[-1]),
        density=True,
        histtype="step",
        label=name,
    )
ax.plot(grid, density, "k--", lw=1, label="exact")
ax.set(xlabel="w[1]", yticks=[])
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A network
#
# Twenty thousand rows of a curve. Each chain starts where Adam ends, so that two chains are a deep ensemble of two with the
# noise of a posterior around each.

# %%
x = rng.uniform(-3, 3, 20_000)
target = np.sin(1.5 * x) + 0.3 * x + 0.3 * rng.normal(size=len(x))
network_engine = bdl.SGHMC(1000, 50, 2, 50, batch_size=256)
network = bdl.fit(
    bdl.BNN(hidden=(10,)), x[:, None], target, engine=network_engine, seed=0, progress=False
)
line = np.linspace(-3, 3, 100)
prediction = network.predict(line[:, None])
ax = plots.prediction(prediction, line)
ax.plot(x[:500], target[:500], "k.", ms=2, alpha=0.5)
plt.show()

# %%
unsure = network.diagnose()
unsure

# %% [markdown]
# With so many rows the posterior of the function is narrower than the difference between two modes, and R-hat says that the
# two chains are in different ones. The *predictions* are good, since the noise dominates them; for its small epistemic
# part one would run longer, with more chains.
#
# ## Two modes
#
# A hundred points from two equal clusters, $y_i \sim \frac12 N(m_1, 1) + \frac12 N(m_2, 1)$. The names of the clusters can be
# exchanged, so the posterior has two modes of the same weight. A chain of SGHMC finds one of them and stays.
#
# `CyclicalSGMCMC` (Zhang et al. 2020, [arXiv:1902.03932](https://arxiv.org/abs/1902.03932)) lets the step size fall along a
# cosine and starts again, cycle after cycle: long steps without injected noise to travel, driven by the noise of small
# batches, and short ones to sample. Draws are kept from the second part of each cycle.

# %%
cluster = rng.random(100) < 0.5
points = np.where(cluster, rng.normal(-1, 1, 100), rng.normal(1.5, 1, 100))


def mixture(y=None):
    m = numpyro.sample("m", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("rows", len(points)) as i:
        halves = dist.MixtureSameFamily(
            dist.Categorical(jnp.array([0.5, 0.5])), dist.Normal(m, 1.0)
        )
        numpyro.sample("y", halves, obs=None if y is None else y[i])


shared = {
    "num_warmup": 1000,
    "num_samples": 400,
    "num_chains": 4,
    "batch_size": 2,
    "start": "prior",
    "friction": 0.1,
}
modes = {
    "SGHMC": bdl.fit(mixture, y=points, engine=bdl.SGHMC(**shared), progress=False),
    "cyclical": bdl.fit(
        mixture,
        y=points,
        engine=bdl.CyclicalSGMCMC(**shared, step_size=0.2, num_cycles=40),
        progress=False,
    ),
}

# %%
side = np.linspace(-3, 3.5, 80)
one, two = (np.exp(-((points - side[:, None]) ** 2) / 2) for _ in range(2))
log_density = np.log(one[:, None] + two[None]).sum(-1) - (side[:, None] ** 2 + side**2) / 18
_, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharex=True, sharey=True, layout="constrained")
for ax, (name, post) in zip(axes, modes.items(), strict=True):
    ax.contour(
        side,
        side,
        np.exp(log_density - log_density.max()).T,
        levels=[0.01, 0.1, 0.5],
        colors="k",
        linewidths=0.6,
    )
    m = post.samples["m"][0]
    ax.plot(m[:, 0], m[:, 1], "-", lw=0.3, color="C0", alpha=0.5)
    ax.plot(m[:, 0], m[:, 1], ".", ms=3, color="C0")
    ax.set(
        title=f"{name}, one chain of {len(m)} draws", xlabel="m[0]", xlim=(-3, 3.5), ylim=(-3, 3.5)
    )
axes[0].set_ylabel("m[1]")
plt.show()

# %%
lower = {
    name: post.samples["m"][..., 0] < post.samples["m"][..., 1] for name, post in modes.items()
}
share = {name: first.mean(1) for name, first in lower.items()}
for name, first in lower.items():
    crossings = (first[:, 1:] != first[:, :-1]).sum(1)
    print(
        f"{name}: share of draws in one mode, by chain {share[name].round(2)}; crossings {crossings}"
    )

# %% [markdown]
# A rule of thumb: up to some ten thousand rows NUTS, exact and without settings. Beyond, `SGHMC` with control variates where
# the posterior has one mode, plain `SGHMC` for networks, with several chains; then `diagnose`, `bdl.mcmc.halve_step`, and scores on
# held-out rows.
#
# ## What we claimed

# %%
# minibatches: friction along the noise keeps the momentum thermal, at a noise ratio that warm-up saw to
assert abs(tired.facts["momentum temperature"] - 1) < 0.1
assert tired.facts["noise ratio (mean)"] < 0.35 and tired.facts["step size shortened to"] < 1

# control variates: hardly any noise, and the exact posterior within four standard errors of an sd and of a mean
ess = quiet.summary()["ess_bulk"].to_numpy(dtype=float)
comparison = against_exact(quiet)
assert trust.ok and trust.facts["noise ratio (mean)"] < tired.facts["noise ratio (mean)"] / 5
assert np.all(np.abs(comparison["sd ratio"] - 1) < 4 / np.sqrt(2 * ess))
assert np.all(np.abs(comparison["shift of mean / sd"]) < 4 / np.sqrt(ess))
assert halving.ok

# heavy tails of the noise heat the momentum, and it is said
assert not warning.ok and "too hot where gradient noise acts" in " ".join(warning.verdict)

# the network finds the curve, to a tenth of the noise or so, and the noise
truth = np.sin(1.5 * line) + 0.3 * line
assert np.sqrt(np.mean((prediction.mean - truth) ** 2)) < 0.1
assert abs(prediction.aleatoric.mean() - 0.3) < 0.03

# two modes: no chain of SGHMC crosses, every cyclical one does
assert set(share["SGHMC"]) <= {0.0, 1.0}
assert np.all((share["cyclical"] > 0) & (share["cyclical"] < 1))
