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
# # A Bayesian neural network
#
# A network $f(x; w)$ is trained by searching for one good set of weights. But many sets of weights explain the data, and
# they disagree where there are no data. A Bayesian network keeps them all, each with its posterior weight,
#
# $$w \sim p(w), \qquad y_i \sim N\!\left(f(x_i; w),\ \sigma^2\right), \qquad
# p(y_* \mid x_*, \text{data}) = \int p(y_* \mid x_*, w, \sigma)\, p(w, \sigma \mid \text{data})\, dw\, d\sigma .$$
#
# The average over weights is what gives honest intervals (MacKay 1992; Neal 1996).

# %%
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from numpyro.infer import Predictive
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

import bayesdl as bdl
from bayesdl import plots
from bayesdl.sklearn import BayesRegressor

# %% [markdown]
# ## The prior, seen as functions
#
# Weights have no meaning one by one. What a prior says is seen in the functions it makes: draw weights, draw the function.
# Hidden weights with a larger scale bend the functions more.

# %%
line = np.linspace(-2, 2, 100)[:, None]
_, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for ax, scale in zip(axes, (1.0, 5.0), strict=True):
    network = bdl.BNN(
        hidden=(20,), prior=bdl.priors.Gaussian((scale, 1.0)), likelihood=bdl.Normal(scale=0.01)
    )
    functions = Predictive(network.program, num_samples=10)(jax.random.key(0), line)["y"]
    ax.plot(line, functions.T, lw=1)
    ax.set(title=f"hidden weights ~ N(0, {scale:g}²)", xlabel="x (standardised)")
axes[0].set_ylabel("f(x; w)")
plt.show()

# %% [markdown]
# ## Data with a gap
#
# Sixty noisy points of a smooth function, none between -0.7 and 0.7. We fit with NUTS. `bdl.BNN` standardises inputs and
# targets and gives everything back in the original units; the noise $\sigma$ is learned too.

# %%
rng = np.random.default_rng(0)
NOISE = 0.15
x = np.concatenate([rng.uniform(-2.0, -0.7, 30), rng.uniform(0.7, 2.0, 30)])
y = np.sin(2 * x) + 0.3 * x + NOISE * rng.normal(size=60)

model = bdl.BNN(hidden=(12,), activation="tanh", prior=bdl.priors.Gaussian((5.0, 1.0)))
engine = bdl.NUTS(
    num_warmup=300, num_samples=300, num_chains=2, start="prior", chain_method="vectorized"
)
post = bdl.fit(model, x[:, None], y, engine=engine, seed=0, progress=False)
post

# %%
diagnosis = post.diagnose()
diagnosis

# %% [markdown]
# Two hidden units can be exchanged, and the signs of a tanh unit flipped, without changing $f$. The posterior of the
# weights therefore has very many equal modes, and R-hat of a weight means nothing. What the data can identify is the
# *function*, so the verdict rests on $E[y \mid x]$ at training rows, and on $\sigma$.

# %%
grid = np.linspace(-3, 3, 200)
prediction = post.predict(grid[:, None])
ax = plots.prediction(prediction, grid)
ax.plot(x, y, "k.", ms=4)
plt.show()

# %% [markdown]
# ## Two kinds of uncertainty
#
# By the law of total variance the predictive variance has two parts,
#
# $$\underbrace{\mathrm{Var}(y \mid x)}_{\text{std}^2} =
# \underbrace{E_w[\mathrm{Var}(y \mid x, w)]}_{\text{aleatoric}^2} +
# \underbrace{\mathrm{Var}_w(E[y \mid x, w])}_{\text{epistemic}^2} .$$
#
# The *aleatoric* part is noise and stays however much data we get. The *epistemic* part is ignorance of the function: it
# is large in the gap and outside, and more data would remove it.

# %%
_, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(grid, prediction.aleatoric, label="aleatoric")
ax.plot(grid, prediction.epistemic, label="epistemic")
ax.plot(grid, prediction.std, "k--", lw=1, label="both")
ax.plot(x, np.zeros_like(x), "k|", label="data")
ax.set(xlabel="x", ylabel="sd of y")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A real table
#
# Diabetes (Efron et al. 2004): ten measurements of 442 patients, and a measure of the disease a year later. We hold out a
# quarter of the patients. A DataFrame keeps its names through the whole fit.

# %%
X, target = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, target, random_state=0)
patients = bdl.fit(bdl.BNN(hidden=(10,)), X_train, y_train, engine=engine, seed=0, progress=False)
held_out = patients.predict(X_test)
held_out.to_pandas(level=0.9).head().round(1)

# %%
scores = patients.score(X_test, y_test)
scores

# %% [markdown]
# * **RMSE** judges the mean alone.
# * **NLL**, the mean of $-\log p(y \mid x)$, judges the whole distribution: it punishes being wrong and sure.
# * **CRPS** does the same in the units of the target, and forgives outliers more readily.
# * **Coverage**: the share of targets inside their interval. A 90 % interval should hold about 90 %.
#
# Coverage at every level at once is the *calibration curve*: the share of targets below their $p$-quantile, against $p$.
# The grey band is what the luck of 111 held-out patients allows.

# %%
_, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plots.prediction(held_out, ax=axes[0], y=y_test)
plots.calibration(held_out, y_test, axes[1])
plt.show()

# %% [markdown]
# ## Keep it, and use it elsewhere
#
# A saved fit predicts the same numbers later. No code is stored in it.

# %%
folder = tempfile.TemporaryDirectory()
path = patients.save(Path(folder.name) / "diabetes.bdl")
restored = bdl.load(path)

# %% [markdown]
# The same model is a scikit-learn estimator, so it goes into pipelines, cross-validation and grid searches. Here with the
# Laplace approximation, which takes seconds: tutorial 3 says what it gives up.

# %%
estimator = BayesRegressor(bdl.BNN(hidden=(10,)), engine=bdl.Laplace())
pipeline = make_pipeline(PowerTransformer(), estimator).fit(X_train, y_train)
mean, std = pipeline.predict(X_test, return_std=True)
r2 = pipeline.score(X_test, y_test)
print(f"R2 on held-out patients: {r2:.3f}; typical sd of a prediction: {np.median(std):.0f}")

# %% [markdown]
# ## What we claimed

# %%
# function values converged; the noise is found again, within the posterior's own uncertainty
sigma = post.samples["sigma"].ravel() * y.std()
assert diagnosis.facts["rhat (worst)"] < 1.05
assert abs(sigma.mean() - NOISE) < 4 * sigma.std()

# the law of total variance, and ignorance where there are no data
assert np.allclose(prediction.std**2, prediction.aleatoric**2 + prediction.epistemic**2)
gap, covered = np.abs(grid) < 0.3, (np.abs(grid) > 1) & (np.abs(grid) < 1.7)
assert prediction.epistemic[gap].min() > 2 * prediction.epistemic[covered].max()
assert np.ptp(prediction.aleatoric) < 1e-3

# held-out patients: better than the mean, and coverage within four binomial standard errors
n = len(y_test)
assert scores["rmse"] < y_test.std()
for level in (0.5, 0.9):
    assert abs(scores[f"coverage_{100 * level:.0f}"] - level) < 4 * np.sqrt(level * (1 - level) / n)

# a saved fit predicts the same numbers, and the pipeline works
assert np.array_equal(restored.predict(X_test).mean, held_out.mean)
assert r2 > 0.2
folder.cleanup()
