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
# # Scores and calibration
#
# A prediction is a distribution, and two things can be asked of it. Is it *calibrated*: do events to which it gives probability $p$ happen in a
# share $p$ of cases? And is it *sharp*: how much does it say? A proper score rewards both at once.
#
# | score | formula | of what |
# | --- | --- | --- |
# | NLL | $-\log p(y)$ | a density |
# | CRPS | $E|Y-y| - \tfrac12 E|Y-Y'|$ | a distribution |
# | interval score | width $+ \tfrac{2}{\alpha}$ distance of $y$ from the interval | an interval |
#
# Calibration is seen by the levels $u = F(y)$, which are uniform where predictions are right.

# %%
import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl
from bayesdl import plots

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (400, 2))
y = X[:, 0] + 0.5 * X[:, 1] + rng.normal(size=400)
train, new = slice(0, 200), slice(200, 400)

# %% [markdown]
# ## A model that is too sure
#
# The noise is one, and this model is told that it is 0.4. Its intervals hold too little.

# %%
sure = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.4))
post = bdl.fit(sure, X[train], y[train], engine=bdl.Laplace(), progress=False)
raw = post.score(X[new], y[new])
raw

# %% [markdown]
# `calibration_error` is the mean distance of the shares from the levels, and `calibration_error_se` says how well 200 rows know it. The picture shows
# the same: the curve is far from the diagonal.

# %%
plots.calibration(post.predict(X[new]), y[new])
plt.show()

# %% [markdown]
# ## Recalibration
#
# Fit $r$, a density on $(0, 1)$, to the levels $u_i$; then $F^* = R(F(y))$ and $\log p^* = \log p + \log r(F(y))$ are a distribution and its density. The
# levels must be those of rows that had no say in their own prediction: by default each training row is predicted from the others, by importance
# sampling of the draws, so nothing has to be held out.

# %%
better = post.recalibrate()
print(better.adjustment.words()[0])
mended = better.score(X[new], y[new])
mended

# %% [markdown]
# ## Where nothing is to be mended
#
# A model that is right must not be made worse. The map is judged on rows that it has not seen, and left out where it does not help.

# %%
right = bdl.fit(bdl.BNN(hidden=()), X[train], y[train], engine=bdl.Laplace(), progress=False)
kept = right.recalibrate()
print(kept.adjustment.words()[0])

# %% [markdown]
# ## Checks

# %%
assert raw["coverage_90"] < 0.7
assert mended["coverage_90"] > 0.8
assert mended["nll"] < raw["nll"] - 0.3
assert mended["interval_score_90"] < raw["interval_score_90"]
assert mended["calibration_error"] < raw["calibration_error"]
assert kept.score(X[new], y[new])["nll"] < right.score(X[new], y[new])["nll"] + 0.05
