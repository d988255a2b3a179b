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
# # Functional tensors
#
# Some tables are tensors in disguise: each row has a few indexes, such as a temperature, a pressure and a day, and a
# value. A tensor
# decomposition explains the values by factors of each index. Here the indexes are real numbers, so factors become
# *functions*:
#
# $$ y_n = \sum_{j=1}^R u_j(a_n)\, v_j(b_n)\, w_j(t_n) + e_n, \qquad u_j, v_j, w_j \sim \mathrm{GP}. $$
#
# This is FunBaT (Fang et al. 2024, arXiv:2311.04829) in its CP form. A Matern process is Markov: it can be written as
# a linear state-space
# model, and a Kalman smoother handles a thousand days as easily as ten. Given all other functions, those of one index
# are
# a linear Gaussian problem, which the smoother solves exactly; going around the indexes climbs a bound on the evidence.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import bayesdl as bdl

# %% [markdown]
# ## Data whose functions we know
#
# Two products of three functions, seen at 1,500 of the 40 x 30 x 120 possible places, with noise of standard
# deviation 0.3.

# %%
rng = np.random.default_rng(0)
temperature, pressure, day = np.linspace(-5, 30, 40), np.linspace(980, 1040, 30), np.arange(120.0)


def truth(a, b, t):
    """The values without noise: a seasonal product, and a slow one."""
    first = (1 + 0.03 * a) * np.sin((b - 980) / 15) * np.sin(t / 9)
    second = np.cos(a / 12) * np.exp(-(((b - 1010) / 20) ** 2)) * (1 - t / 80)
    return first + second


table = pd.DataFrame(
    {
        "temperature": rng.choice(temperature, 1500),
        "pressure": rng.choice(pressure, 1500),
        "day": rng.choice(day, 1500),
    }
)
f = truth(table["temperature"], table["pressure"], table["day"])
y = f + 0.3 * rng.normal(size=1500)
table.assign(y=y).head()

# %% [markdown]
# ## A model
#
# A `Mode` is one index with a kernel and a number of functions. Length scales are learned (their prior knows the
# range of the index only), and
# so are the sizes of the products: we allow three, and expect one of them to vanish.

# %%
smooth = bdl.kernels.Matern32()
names = ("temperature", "pressure", "day")
# a standardised target would need one more product, for the mean that was subtracted
model = bdl.FunBaT(tuple(bdl.Mode(name, smooth, rank=3) for name in names), standardize=False)
gap = table["day"].between(50, 59).to_numpy()  # ten days that nobody saw
post = bdl.fit(model, table[~gap], y[~gap], engine=bdl.MessagePassing(restarts=4), progress=False)
post.diagnose()

# %% [markdown]
# The bound of the kept restart, iteration by iteration, and what each product adds to y (a root mean square, in units
# of the target). Restarts differ, as the problem has many optima; the one with the best bound is kept.

# %%
weights = np.sort(post.raw.info["rank_weights"]["day"])[::-1]
print("products:", np.round(weights, 3))
print("bounds of the restarts:", np.round(post.raw.info["elbo_of_restarts"]))
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(post.raw.info["elbo_trace"][5:])
ax.set(xlabel="iteration", ylabel="evidence bound (nats)")
# %% [markdown]
# ## Are the values right?
#
# Signs and sizes of single functions are not identified (double $u$, halve $v$), their products are. So we compare
# values: at places that
# were seen on other days, and on the ten days that nobody saw.

# %%
new = pd.DataFrame(
    {
        "temperature": rng.choice(temperature, 1000),
        "pressure": rng.choice(pressure, 1000),
        "day": rng.choice(day, 1000),
    }
)
expected = truth(new["temperature"], new["pressure"], new["day"]).to_numpy()
observed = expected + 0.3 * rng.normal(size=1000)
unseen = new["day"].between(50, 59).to_numpy()
prediction = post.predict(new)
error = prediction.mean - expected
print("rmse of f on days with data   ", np.sqrt((error[~unseen] ** 2).mean()).round(3))
print("rmse of f on days without any ", np.sqrt((error[unseen] ** 2).mean()).round(3))
low, high = prediction.interval(0.9)
inside = (low <= observed) & (observed <= high)
print(
    "90 % intervals cover", inside[~unseen].mean().round(3), "and", inside[unseen].mean().round(3)
)

# %% [markdown]
# ## Functions of one index
#
# `bdl.tensor.mode(post, name)` gives the functions at any indexes, with their covariance. Bands open where there are no data: in
# the gap and
# beyond the last day.

# %%
functions = bdl.tensor.mode(post, "day").predict(np.linspace(-5, 140, 400))
ax = functions.plot()
ax.axvspan(50, 59, color="k", alpha=0.08)
ax.axvline(119, color="k", lw=0.5)
# %% [markdown]
# ## What the intervals say about days to come
#
# For day 119 the sd of f (`forecast.epistemic`) is less than half of the noise's; it grows with the distance from the
# data, and the mean returns to zero, over some length scales of the day. So the kernel decides how fast: with a length
# scale of some days nothing is known a month ahead. As length scales are point estimates, bands do not know the doubt
# about them, and are too narrow just beyond the last day.

# %%
ahead = pd.DataFrame({"temperature": 15.0, "pressure": 1005.0, "day": np.arange(100.0, 160.0)})
forecast = post.predict(ahead)
bdl.plots.prediction(forecast, ahead["day"])
plt.plot(ahead["day"], truth(15.0, 1005.0, ahead["day"]), "k--", lw=1)
# %% [markdown]
# ## New days arrive
#
# `bdl.tensor.update` adds entries without going through the old ones: what they said of each function is kept as messages,
# and new
# days continue the filter.

# %%
late = pd.DataFrame(
    {
        "temperature": rng.choice(temperature, 60),
        "pressure": rng.choice(pressure, 60),
        "day": rng.choice([120.0, 121, 122], 60),
    }
)
grown = bdl.tensor.update(
    post,
    late,
    truth(late["temperature"], late["pressure"], late["day"]) + 0.3 * rng.normal(size=60),
)
before, after = post.predict(late), grown.predict(late)
print(
    "sd of f on days 120 to 122:",
    before.epistemic.mean().round(3),
    "->",
    after.epistemic.mean().round(3),
)

# %% [markdown]
# ## Exercises
#
# - Fit `form="tucker"` with ranks (2, 3, 2), and compare the bounds: does a core help when the data are two products?
# - Give the day `bdl.kernels.Matern12()`. What do the intervals in the gap say now, and which bound is better?
# - Replace five per cent of y by noise of standard deviation 5, and compare `bdl.Normal()` with `bdl.StudentT(df=4)`.

# %% tags=["check"]
spread = forecast.epistemic
assert weights[2] < 0.1 * weights[1]  # two products are enough
assert np.sqrt((error[~unseen] ** 2).mean()) < 0.12  # less than half of the noise
assert 0.85 < inside[~unseen].mean() < 0.95
assert inside[unseen].mean() > 0.8
assert spread[19] < 0.15  # half of the noise's sd
assert spread[-1] > 10 * spread[19]  # what lies ahead is less sure
assert after.epistemic.mean() < before.epistemic.mean()
