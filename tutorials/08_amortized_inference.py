# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Amortized inference
#
# Most engines begin anew with each data set. A *prior-data fitted network* does its work beforehand: data sets are drawn
# from the model's own prior, and a transformer learns to predict their held-out targets. The loss is
#
# $$E\,[-\log q(y \mid x, D)] = E\,[-\log p(y \mid x, D)] + E\,[\mathrm{KL}(p \,\|\, q)],$$
#
# so what it is above its smallest value is the divergence from the exact predictive, on average over data sets of the
# prior (Müller and others 2022, arXiv:2112.10510). Afterwards a fit is one forward pass.

# %%
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

import bayesdl as bdl

# %% [markdown]
# ## Train in a minute
#
# A Gaussian process whose hyperparameters are known has an exact answer to compare with.

# %%
gp = bdl.GP(bdl.kernels.RBF(lengthscale=0.5, variance=1.0), bdl.Normal(0.1), standardize=False)
training = bdl.amortized.Training(
    steps=2000, max_rows=20, bars=100, width=32, layers=3, learning_rate=3e-3
)
pfn = bdl.PFN.train(gp, training, progress=False)
pfn

# %% [markdown]
# The certificate is measured on data sets that the network has not seen. At each number of rows it says how many nats
# are lost to the exact predictive (with its standard error), whether the probabilities are calibrated, and how often
# central intervals of 50, 80, 90 and 95 % hold the target. A network may be calibrated and still lose much, so look at
# the gap first.

# %%
for row in pfn.certificate["rows"]:
    gap, error = row["gap"]
    coverage = " ".join(f"{share:.2f}" for share in row["coverage"])
    print(
        f"{row['num_rows']:>3} rows: gap {gap:.3f} +- {error:.3f}, coverage {coverage}, p {row['p_uniform']:.2f}"
    )

# %% [markdown]
# ## One data set, both engines

# %%
rng = np.random.default_rng(3)
X = np.sort(rng.uniform(-2, 2, size=(8, 1)), axis=0)
y = np.sin(2.5 * X[:, 0]) + 0.1 * rng.normal(size=8)
grid = np.linspace(-2.5, 2.5, 120)[:, None]

fast = bdl.fit(gp, X, y, engine=pfn, progress=False)
exact = bdl.fit(gp, X, y, engine=bdl.ExactGP(), progress=False)

fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
for ax, name, post in zip(axes, ("network", "exact"), (fast, exact), strict=True):
    prediction = post.predict(grid)
    low, high = prediction.interval(0.9)
    ax.fill_between(grid[:, 0], low, high, alpha=0.25)
    ax.plot(grid[:, 0], prediction.mean)
    ax.plot(X[:, 0], y, "k.")
    ax.set(title=name, xlabel="x")
plt.show()

# %% [markdown]
# What the network saves is the time of a fit. Here the exact answer is cheap too; against a sampler the factor is in the
# hundreds.

# %%
seconds = {}
for name, engine in (("network", pfn), ("exact", bdl.ExactGP())):
    started = time.perf_counter()
    for _ in range(20):
        bdl.fit(gp, X, y, engine=engine, progress=False).predict(X).mean
    seconds[name] = (time.perf_counter() - started) / 20
print({name: f"{1000 * value:.1f} ms a fit with predictions" for name, value in seconds.items()})

# %% [markdown]
# ## Functions, not only points
#
# Rows are predicted one by one. Samples that vary together follow from the chain rule: draw one target, add it to the
# data, draw the next. Drawn rows count as data, so their number and that of the data should not exceed `max_rows`.

# %%
few = np.linspace(-2.5, 2.5, 12)[:, None]
draws = fast.predict(few).sample(5)
plt.figure(figsize=(5, 3))
plt.plot(few[:, 0], draws.T, alpha=0.7)
plt.plot(X[:, 0], y, "k.")
plt.xlabel("x")
plt.show()

# %% [markdown]
# ## A network that ships with bayesdl, against NUTS
#
# `bdl.PFN.pretrained("gp-regression")` knows Gaussian processes whose length scales (one a column), variance and noise
# are unknown. Its answer averages over them, which otherwise takes a sampler.

# %%
shipped = bdl.PFN.pretrained("gp-regression")
X_train, X_test = rng.normal(size=(40, 2)), rng.normal(size=(100, 2))


def truth(X):
    return np.sin(X[:, 0]) + 0.5 * X[:, 1]


y_train = truth(X_train) + 0.2 * rng.normal(size=40)
y_test = truth(X_test) + 0.2 * rng.normal(size=100)

amortized = bdl.fit(shipped.model, X_train, y_train, engine=shipped, progress=False)
sampled = bdl.fit(
    shipped.model,
    X_train,
    y_train,
    engine=bdl.NUTS(num_warmup=150, num_samples=150, num_chains=1),
    progress=False,
)
nll = {
    name: post.score(X_test, y_test)["nll"]
    for name, post in (("network", amortized), ("NUTS", sampled))
}
nll

# %% [markdown]
# The difference is the price of an answer in milliseconds. A network trained for one number of columns, and longer, pays
# less; where the price is too high, it is a first look before a sampler runs.
#
# It was trained to give the posterior of one latent site too, the noise (in units of the standardised target).

# %%
sigma = bdl.amortized.latent(amortized, "sigma")
print(f"network: {float(sigma.mean):.3f} +- {float(sigma.std):.3f}")
print(f"NUTS:    {sampled.samples['sigma'].mean():.3f} +- {sampled.samples['sigma'].std():.3f}")

# %% [markdown]
# ## Where it fails
#
# Outside its prior a network is as wrong as the prior is. Three things help. Inputs and targets outside the range of
# training warn; so do more rows. And `bdl.amortized.ood(post)` asks whether the targets, predicted one after the other, are as
# surprising as those of the prior would be at the same inputs.

# %%
print("data of the prior:   ", bdl.amortized.ood(fast))

wild = np.sign(np.sin(40 * X[:, 0])) * 2.5
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    unlike = bdl.amortized.ood(bdl.fit(gp, X, wild, engine=pfn, progress=False))
print("another kind of data:", unlike)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fast.predict(grid + 10)
print(caught[0].message)

# %% [markdown]
# In the last case, or where the gap is too large, fit the same model by another engine: the call is the same.

# %% tags=["check"]
rows = pfn.certificate["rows"]
assert all(row["gap"][0] < 0.25 for row in rows)
assert all(row["p_uniform"] > 1e-4 for row in rows)
assert np.abs(fast.predict(X).mean - exact.predict(X).mean).max() < 0.3
assert draws.shape == (5, 12)
prior = -np.mean(norm.logpdf(y_test, y_train.mean(), y_train.std()))
assert prior - nll["network"] > nll["network"] - nll["NUTS"]  # it knows most of what can be known
assert bdl.amortized.ood(fast).p > 0.01
assert unlike.p < 0.05
assert len(caught) == 1
