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
# # Functional priors
#
# Nobody has an opinion on the weight between the third and the ninth unit of a network. Most of us have one on
# *functions*: how large they are, how fast they vary. A Gaussian process says just that. `bdl.match_prior` tunes the
# scales of a weight prior until the functions a network draws look like those of the process (Tran, Rossi, Milios and
# Filippone 2022, arXiv:2011.12829).

# %%
import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

# %% [markdown]
# ## What the usual prior believes
#
# Three hidden layers of 50 tanh units, unit normal weights, each layer divided by the root of its width. What do we
# expect instead? Smooth functions of size 1 that forget their past after a distance of about 0.6.

# %%
x = np.linspace(-6, 6, 100)[:, None]
network = bdl.BNN(hidden=(50, 50, 50), likelihood=bdl.Normal(scale=0.1), standardize=False)
target = bdl.GP(bdl.kernels.RBF(lengthscale=0.6, variance=1.0), standardize=False)

before = bdl.prior_report(network, to=target, inputs=x)
before

# %% [markdown]
# The report compares functions at 100 points. *Sliced W1* is a distance between the two distributions of functions; its
# floor is what it is between two sets of the target's own functions. The standard deviations are 20 % too large, and the
# correlations are wrong: the network's functions change too slowly.
#
# ## Matching
#
# No targets are needed, only inputs. The distance that is minimised is the energy distance
#
# $$2\,E\|f-g\| - E\|f-f'\| - E\|g-g'\|,$$
#
# with $f$ from the network and $g$ from the process: zero only where the two distributions are equal, and estimated
# without bias from a few draws.

#
# `pull` draws the scales weakly towards those one starts with. The energy distance looks at values, not at slopes: without
# a pull the inner weights grow to hundreds, and functions made of ever sharper steps are a little nearer in distance while
# they look like noise. The default pull is weak; here a stronger one buys smoothness.

# %%
prior = bdl.match_prior(network, to=target, inputs=x, pull=1e-3, progress=False)
print(prior)

# %%
after = bdl.prior_report(network.with_prior(prior), to=target, inputs=x)
after

# %%
after.plot(before=before)
plt.show()

# %% [markdown]
# The result is an ordinary prior: a number for the weights and one for the biases of each layer. It is not perfect, and
# the report says so: the p-value of equal distributions is small, because functions of tanh networks flatten far out and
# those of the process do not. `after.require(...)` stops a script where a prior is too far off.

# %%
try:
    after.require(sliced_w1_over_floor=1.5)
except bdl.PriorMismatch as error:
    print(error)

# %% [markdown]
# ## Does it matter for the posterior?
#
# The same twelve observations, the same network, the same engine; only the prior differs. The exact answer of the
# Gaussian process is beside them.

# %%
rng = np.random.default_rng(2)
X = np.concatenate([rng.uniform(-4, -1.5, 6), rng.uniform(1, 3.5, 6)])[:, None]
y = np.sin(2.0 * X[:, 0]) + 0.1 * rng.normal(size=len(X))

engine = bdl.HMC(num_warmup=200, num_samples=200, num_chains=2, num_steps=30, start="prior")
posteriors = {
    "unit normal weights": bdl.fit(network, X, y, engine=engine, progress=False),
    "matched weights": bdl.fit(network.with_prior(prior), X, y, engine=engine, progress=False),
    "the process itself": bdl.fit(
        bdl.GP(target.kernel, likelihood=bdl.Normal(scale=0.1), standardize=False),
        X,
        y,
        engine=bdl.ExactGP(),
        progress=False,
    ),
}

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), sharey=True, layout="constrained")
for panel, (name, post) in zip(axes, posteriors.items(), strict=True):
    post.predict(x).plot(x=x[:, 0], ax=panel)
    panel.plot(X[:, 0], y, "k.", ms=5)
    panel.set_title(name, y=1.12)
plt.show()

# %% [markdown]
# With unit weights the network is sure of itself in the gap and outside the data, where it has seen nothing. With matched
# weights its intervals open there, as those of the process do.
#
# ## Heavy tails: when we are not sure of the length scale either
#
# Hyperparameters of the process may have priors of their own, drawn anew for each function. The functions are then of
# very different sizes, which weights of one size cannot imitate; `LayerHierarchical` (a random scale per layer and
# function) and `ScaleFlow` (a normalising flow over all scales) can.

# %%
inputs = rng.normal(size=(200, 4))
model = bdl.BNN(hidden=(50,))
unsure = bdl.GP(bdl.kernels.RBF(ard=True))  # length scales and variance have log-normal priors
for family in (bdl.priors.LayerGaussian(), bdl.priors.LayerHierarchical()):
    matched = bdl.match_prior(model, to=unsure, inputs=inputs, family=family, progress=False)
    report = bdl.prior_report(model.with_prior(matched), to=unsure, inputs=inputs)
    ours, theirs = report.kurtosis
    print(f"{type(family).__name__:<18} excess kurtosis {ours:5.2f} (target {theirs:.2f})")
    print(f"{'':<18} sliced W1 {report.sliced_w1:.3f} (floor {report.floor:.3f})")

# %% [markdown]
# ## An exact case
#
# With one layer of sines whose frequencies follow the kernel's spectral density nothing needs to be matched: the
# covariance is exact at any width.

# %%
spectral = bdl.BNN(
    hidden=(200,),
    activation="sine",
    prior=bdl.priors.Spectral(target.kernel),
    likelihood=bdl.Normal(scale=0.1),
    standardize=False,
)
bdl.prior_report(spectral, to=target, inputs=x)

# %% [markdown]
# ## What was claimed above, checked

# %%
exact = bdl.prior_report(spectral, to=target, inputs=x)
gap = np.abs(x[:, 0]) < 0.5
spread = {name: post.predict(x).std[gap].mean() for name, post in posteriors.items()}
assert not before.close
assert before.sliced_w1 > 2 * after.sliced_w1
assert 0.9 < np.median(after.sd_ratio) < 1.1
assert exact.close and exact.sliced_w1 < 1.5 * exact.floor
assert spread["unit normal weights"] < spread["matched weights"]
assert report.kurtosis[0] > 1  # of the hierarchical family

# %% [markdown]
# ## To go on
#
# Match to a kernel of your own problem; try `family=bdl.priors.ScaleFlow()`; match a convolutional network,
# `bdl.BNN(network=bdl.ConvNet(...))`, on images.
