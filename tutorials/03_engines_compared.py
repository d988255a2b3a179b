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
# # One model, several engines
#
# A model is one thing, the way to compute its posterior another. Here one small Bayesian network is fitted by four
# engines, and a Gaussian process stands beside it as a model that has an exact answer. We compare what they predict, what
# it costs, and which of them tell us when they are wrong.
#
# | engine | what it computes |
# | --- | --- |
# | `NUTS` | draws from the posterior itself, exact in the limit of many draws |
# | `VI`, mean-field | the best normal distribution $q$ with a *diagonal* covariance |
# | `VI`, full-rank | the best normal distribution with any covariance |
# | `Laplace` | the normal distribution at the mode, with the curvature there; predicts with the linearised network |
# | `ExactGP` | the closed form, for a Gaussian process |

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import bayesdl as bdl
from bayesdl import plots

# %%
rng = np.random.default_rng(0)
NOISE = 0.2


def truth(x):
    return np.sin(2 * x) + 0.3 * x


def data(rows):
    x = np.where(rng.random(rows) < 0.5, rng.uniform(-2, -0.6, rows), rng.uniform(0.8, 2, rows))
    return x, truth(x) + NOISE * rng.normal(size=rows)


x, y = data(50)
x_test, y_test = data(200)
grid = np.linspace(-3, 3, 200)

# %% [markdown]
# ## Five fits, one call
#
# Only the engine changes. Variational inference turns inference into optimisation: among a family of distributions $q$ it
# finds the one with the largest *evidence lower bound*,
#
# $$\mathrm{ELBO}(q) = E_q[\log p(y, z) - \log q(z)] = \log p(y) - \mathrm{KL}(q \,\|\, p(z \mid y)) .$$
#
# The family decides how good the best can be.

# %%
network = bdl.BNN(hidden=(10,), prior=bdl.priors.Gaussian((4.0, 1.0)))
fits = {
    "NUTS": (
        network,
        bdl.NUTS(
            num_warmup=300, num_samples=300, num_chains=2, start="prior", chain_method="vectorized"
        ),
    ),
    "VI, mean-field": (network, bdl.VI(guide="mean-field", steps=3000)),
    "VI, full-rank": (network, bdl.VI(guide="full-rank", steps=3000)),
    "Laplace": (network, bdl.Laplace()),
    "exact GP": (bdl.GP(bdl.kernels.RBF()), bdl.ExactGP()),
}
posts = {
    name: bdl.fit(model, x[:, None], y, engine=engine, seed=0, progress=False)
    for name, (model, engine) in fits.items()
}

# %%
curves = {name: post.predict(grid[:, None]) for name, post in posts.items()}
_, axes = plt.subplots(1, 5, figsize=(17, 3.4), sharey=True, layout="constrained")
for ax, (name, curve) in zip(axes, curves.items(), strict=True):
    plots.prediction(curve, grid, ax)
    ax.plot(x, y, "k.", ms=3)
    ax.plot(grid, truth(grid), "k--", lw=1)
    ax.set_title(name, pad=20)
    ax.get_legend().remove()
    ax.set_ylim(-3, 3)
plt.show()

# %% [markdown]
# Near the data they agree roughly. In the gap and outside they do not: there the width of the band is the epistemic part,
# and it is what an approximation loses first. (`post.score(x_test, y_test)` gives more scores than this table.)

# %%
gap = (grid > -0.3) & (grid < 0.5)
log_prob, rows = {}, {}
for name, post in posts.items():
    prediction = post.predict(x_test[:, None])
    log_prob[name] = prediction.log_prob(y_test)
    low, high = prediction.interval(0.9)
    rows[name] = {
        "rmse": np.sqrt(np.mean((prediction.mean - y_test) ** 2)),
        "nll": -log_prob[name].mean(),
        "coverage 90 %": np.mean((low <= y_test) & (y_test <= high)),
        "epistemic sd in the gap": curves[name].epistemic[gap].mean(),
        "seconds": post.raw.info["seconds"],
    }
table = pd.DataFrame(rows).T
table.round(3)

# %% [markdown]
# **Mean-field is too smooth, and too sure of it.** $\mathrm{KL}(q \,\|\, p)$ is large where $q$ puts mass and $p$ does
# not, so $q$ hides inside $p$. With a diagonal covariance it must fit inside along the axes of the weights, and the
# posterior of a network is long and thin across them. It is then cheaper to leave some units at their prior with outgoing
# weights near zero. What these units should have explained is taken for noise: the error and the NLL rise, intervals near
# the data cover too much, and in the gap, where nothing forces it to be honest, the epistemic part is too small.
#
# **Full-rank is better near the data** as it can follow the thin directions, and just as sure in the gap: it is still one
# normal distribution inside one of many modes.
#
# **Laplace** is wide in the gap: the linearised network is not bounded as tanh is.
#
# **The Gaussian process** is another prior on functions, and so its band in the gap is another answer, not an error.
#
# ## Which of them know?
#
# For an approximation, draw $z_s \sim q$ and form importance weights $p(y, z_s) / q(z_s)$. If $q$ covers the posterior they
# are even. If a few draws carry all the weight it does not. The *Pareto shape* $\hat k$ of their tail measures this (Yao et
# al. 2018, [arXiv:1802.02538](https://arxiv.org/abs/1802.02538)): below 0.7 the approximation is close to the posterior,
# above it is not. `diagnose` reports it, and warns.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the verdicts are printed instead
    verdicts = {name: post.diagnose() for name, post in posts.items()}
for name, verdict in verdicts.items():
    print(f"{name}: {verdict.verdict[0]}")

# %% [markdown]
# The weights of a network have many modes, as hidden units can be exchanged and mirrored. No single normal distribution
# covers them, so a large $\hat k$ is the rule for networks, and the question is whether the *predictions* are good. For
# that there are held-out data, and NUTS on a part of them. Laplace is judged against the model it predicts with, the
# network linearised in its weights.
#
# When $q$ can be right, it is, and $\hat k$ says so. A network without hidden layers is Bayesian linear regression:

# %%
engine = bdl.VI(guide="full-rank", num_particles=10)
straight = bdl.fit(bdl.BNN(hidden=()), x[:, None], y, engine=engine, seed=0, progress=False)
straight_verdict = straight.diagnose()
straight_verdict

# %% [markdown]
# ## Let the library choose
#
# `engine="auto"` is the default. It looks at the model and the size of the data, and says what it chose and why: the closed
# form where there is one, NUTS where the data are small enough, variational inference beyond.

# %%
chosen = bdl.fit(bdl.GP(), x[:, None], y, engine="auto", seed=0, progress=False)
chosen

# %% [markdown]
# A rule of thumb: NUTS for anything small or important; Laplace for a fast answer with sensible bands; variational
# inference for large data, where its test scores are what you are after; a Gaussian process where there are few inputs and
# a few thousand rows.
#
# ## What we claimed

# %%
# near the data: NUTS covers 90 %, within four standard errors. Two errors add up: that of 200 test rows, and that of a
# noise learned from 50 rows, which is off by 1 / sqrt(2 * 50) = 10 % and moves the coverage by 2 * 1.645 * phi(1.645) of that
phi = np.exp(-(1.645**2) / 2) / np.sqrt(2 * np.pi)
error = np.hypot(np.sqrt(0.9 * 0.1 / len(y_test)), 2 * 1.645 * phi / np.sqrt(2 * len(y)))
assert abs(table.loc["NUTS", "coverage 90 %"] - 0.9) < 4 * error

# near the data: mean-field predicts worse than NUTS, row by row, by more than four standard errors
loss = log_prob["NUTS"] - log_prob["VI, mean-field"]
assert loss.mean() > 4 * loss.std() / np.sqrt(len(loss))

# in the gap: mean-field is surer than NUTS, and Laplace less sure
epistemic = table["epistemic sd in the gap"]
assert epistemic["VI, mean-field"] < epistemic["NUTS"] < epistemic["Laplace"]

# Pareto k tells: mean-field is not close to the posterior of the network, and a normal q is close to that of a line
assert verdicts["VI, mean-field"].facts["pareto k"] > 0.7
assert not verdicts["VI, mean-field"].ok
assert straight_verdict.facts["pareto k"] < 0.7

# the choice
assert isinstance(chosen.engine, bdl.ExactGP)
