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
# # Uncertainty for a model you already have
#
# A random forest, a boosted tree or a network is trained, and it predicts well; it does not say how sure it is. `bdl.Frozen` takes it as it is and learns
# a small Bayesian model of $y$ given what it says, from rows that it has not seen:
#
# $$y = f(x) + e, \qquad e \sim \text{generalised normal}(\text{scale} = e^{a + b' \phi(x)}, \beta).$$
#
# The prediction stays what it was. With $\beta = 1$ the errors are Laplace, with 2 normal. (The published code of BayesCap leaves the power $\beta$ out of its
# loss, and its $\beta$ then ends at 0.684 whatever the data.)

# %%
import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestRegressor
from sklearn.naive_bayes import GaussianNB

import bayesdl as bdl

X, y = load_diabetes(return_X_y=True)
train, held, new = slice(0, 200), slice(200, 320), slice(320, None)
forest = RandomForestRegressor(100, random_state=0).fit(X[train], y[train])

# %%
post = bdl.fit(bdl.Frozen(forest), X[held], y[held], engine=bdl.Laplace(), progress=False)
pred = post.predict(X[new])
scores = post.score(X[new], y[new])
scores

# %% [markdown]
# All that works for other posteriors works here: intervals, scores, `diagnose`, `conformal`. A bundle keeps the head, and asks for the forest.

# %%
errors = y[held] - forest.predict(X[held])
constant = np.mean(
    np.log(errors.std()) + 0.5 * np.log(2 * np.pi) + ((y[new] - pred.mean) / errors.std()) ** 2 / 2
)
print(f"NLL {scores['nll']:.3f}, of one scale for all rows {constant:.3f}")

# %% [markdown]
# ## Classes: a temperature
#
# Naive Bayes is far too sure of itself, since it takes pixels to be independent. One number mends most of it: $p_k \propto p_k^{1/T}$, with $\log T \sim N(0, 1)$
# and the answer averaged over the posterior of $T$.

# %%
images, digits = load_digits(return_X_y=True)
bayes = GaussianNB(var_smoothing=1e-2).fit(images[:900], digits[:900])
cooled = bdl.fit(
    bdl.Frozen(bayes), images[900:1200], digits[900:1200], engine=bdl.Laplace(), progress=False
)
probs = cooled.predict(images[1200:]).probs
stated = bayes.predict_proba(images[1200:])
rows = np.arange(len(probs)), digits[1200:]
before, after = -np.log(np.maximum(stated[rows], 1e-12)).mean(), -np.log(probs[rows]).mean()
print(f"NLL {before:.2f} as stated, {after:.2f} with a temperature")

# %% [markdown]
# ## Checks

# %%
assert np.allclose(pred.mean, forest.predict(X[new]), atol=0.01)
assert abs(scores["coverage_90"] - 0.9) < 0.15
assert scores["nll"] < constant + 0.1
assert after < before
assert np.allclose(probs.sum(1), 1)
