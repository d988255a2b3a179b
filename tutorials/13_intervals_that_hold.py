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
# # Intervals that hold
#
# A 90 % interval of a Bayesian model holds 90 % *if the model is right*. Conformal prediction gives sets that hold what they say for rows that are
# exchangeable with those that calibrate, whatever the model: the price is that it speaks of the average over rows, not of each.
#
# With $n$ scores $s_i$ of rows and the score of a new one exchangeable, the new one is at most the $k$-th smallest,
# $k = \lceil (n+1)(1-\alpha) \rceil$, with probability $k/(n+1) \ge 1-\alpha$. Nine rows are enough for 90 %.

# %%
import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (700, 1))
noise = np.where(X[:, 0] > 0, 1.0, 0.2)
y = np.sin(2 * X[:, 0]) + noise * rng.standard_t(3, size=700)
train, held, new = slice(0, 150), slice(150, 350), slice(350, 700)

# %% [markdown]
# ## A model that is wrong
#
# The noise has heavy tails and differs from row to row; the model is a line with normal noise of one scale, which is fixed too small.

# %%
line = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.5))
post = bdl.fit(line, X[train], y[train], engine=bdl.Laplace(), progress=False)
low, high = post.predict(X[new]).interval(0.9)
raw = np.mean((low <= y[new]) & (y[new] <= high))
print(f"the model's own 90 % intervals hold {100 * raw:.0f} %")

# %% [markdown]
# ## From one fit, with no data held out
#
# Add the new row with a candidate $y$ by importance weights $w_s \propto p(y \mid x, z_s)$ of the draws, and rank its density among those of the
# training rows (Fong and Holmes 2021). The set is the candidates that are not among the lowest.

# %%
sets = post.conformal(0.9).predict(X[new])
own = sets.contains(y[new]).mean()
print(f"adding one in: {100 * own:.0f} %, at least {sets.ess().min():.0f} effective draws")

# %% [markdown]
# ## With held-out rows, and within groups
#
# Held-out rows give the guarantee for any model. It is one of the average: rows with little noise get more than they need, those with much noise get
# too little. Groups mend that where one knows them.

# %%
made = post.conformal(0.9, X[held], y[held], score="absolute")
split = made.predict(X[new]).contains(y[new])
loud = X[:, 0] > 0
groups = post.conformal(0.9, X[held], y[held], score="absolute", groups=loud[held])
grouped = groups.predict(X[new], groups=loud[new]).contains(y[new])
for name, hits in (("split", split), ("in groups", grouped)):
    quiet_share, loud_share = hits[~loud[new]].mean(), hits[loud[new]].mean()
    print(f"{name:<10} all {hits.mean():.2f}   quiet {quiet_share:.2f}   loud {loud_share:.2f}")

# %%
order = np.argsort(X[new, 0])
low, high = groups.predict(X[new], groups=loud[new]).interval()
plt.fill_between(X[new, 0][order], low[order], high[order], alpha=0.3, label="90 %, in groups")
plt.plot(X[new, 0], y[new], ".", color="black", ms=3)
plt.legend()
plt.show()

# %% [markdown]
# ## A whole distribution
#
# A conformal predictive system is the model's mean with the distribution of held-out residuals around it: every level is right, not only one.

# %%
system = post.conformal(0.9, X[held], y[held], system=True).predict(X[new])
levels = system.cdf(y[new])

# %% [markdown]
# ## Checks

# %%
error = np.sqrt(0.09 * (1 / 350 + 1 / 200))
assert raw < 0.85
assert own > 0.9 - 4 * error
assert abs(split.mean() - 0.9) < 4 * error
assert split[~loud[new]].mean() > split[loud[new]].mean()
assert abs(grouped[loud[new]].mean() - 0.9) < 6 * error
assert abs(np.mean(levels <= 0.5) - 0.5) < 0.15
