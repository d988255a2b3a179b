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
# # A first posterior
#
# A Bayesian model says how data $y$ come about: unknowns $z$ are drawn from a prior $p(z)$, data from $p(y \mid z)$.
# Bayes' rule turns this around,
#
# $$p(z \mid y) = \frac{p(z)\, p(y \mid z)}{p(y)} .$$
#
# In `bayesdl` the model is any [NumPyro](https://num.pyro.ai) program, `bdl.fit` computes the posterior, and the same
# object comes back whatever the model: a *posterior* that can be summarised, doubted, used for prediction, and saved.
#
# We fit a regression line whose posterior is known exactly, and then a famous small model that goes wrong in a way
# worth recognising.

# %%
import tempfile
from pathlib import Path

import arviz_stats
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl import plots

# %% [markdown]
# ## A line
#
# Twenty-five points scatter around a line with known noise $\sigma = 0.5$:
#
# $$w_0, w_1 \sim N(0, 2^2), \qquad y_i \sim N(w_0 + w_1 x_i,\ \sigma^2).$$
#
# The program says just that. `y=None` marks what is observed: given in `fit`, left out when we predict.

# %%
rng = np.random.default_rng(1)
x = rng.uniform(-2, 2, 25)
y = 0.5 + 1.5 * x + 0.5 * rng.normal(size=25)


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


settings = bdl.NUTS(num_warmup=500, num_samples=500, num_chains=4, chain_method="vectorized")
post = bdl.fit(line, x, y=y, engine=settings, seed=1, progress=False)
post.summary().round(3)

# %% [markdown]
# NUTS, the No-U-Turn Sampler, gave four *chains* of 500 draws. Each row of the table is one unknown: its posterior
# mean and standard deviation, an interval, and three numbers about the draws themselves.
#
# * **R-hat** compares the spread between chains with the spread within them. Chains that have forgotten where they
#   started agree, and R-hat is 1. Above 1.01 they do not agree yet.
# * **ESS**, the effective sample size: correlated draws are worth fewer independent ones. *Bulk* is for means, *tail* for
#   the ends of intervals. A hundred per chain is a fair minimum.
# * The **Monte Carlo standard error** of a mean is $\mathrm{sd} / \sqrt{\mathrm{ESS}}$. It says how far the computed mean
#   may be from the true posterior mean. It is not the posterior sd, which more draws do not shrink.

# %%
post.diagnose()

# %% [markdown]
# `diagnose` puts this in words: what is wrong, if anything, and what to do about it. The pictures show the same. A healthy
# trace is a band of noise in which the chains cannot be told apart.

# %%
plots.trace(post)
plots.posterior(post)
plt.show()

# %% [markdown]
# Prior and noise are normal, so the exact posterior is known: $N(m, S)$ with
# $S = (X^\top X / \sigma^2 + I / 2^2)^{-1}$ and $m = S X^\top y / \sigma^2$. We can hold the sampler to its word: its mean
# should be within a few Monte Carlo standard errors.

# %%
X = np.stack([np.ones_like(x), x], axis=1)
covariance = np.linalg.inv(X.T @ X / 0.5**2 + np.eye(2) / 2**2)
exact_mean, exact_sd = covariance @ X.T @ y / 0.5**2, np.sqrt(np.diag(covariance))

draws = post.samples["w"]  # shape (chain, draw, 2)
ess = post.summary()["ess_bulk"].to_numpy(dtype=float)
z = (draws.mean((0, 1)) - exact_mean) / (draws.std((0, 1)) / np.sqrt(ess))
print("exact mean   ", exact_mean.round(3), "  sampled", draws.mean((0, 1)).round(3))
print("exact sd     ", exact_sd.round(3), "  sampled", draws.std((0, 1)).round(3))
print("difference in standard errors", z.round(2))

# %% [markdown]
# ## Prediction
#
# A new target is drawn from the *posterior predictive* distribution, the likelihood averaged over the posterior,
#
# $$p(y_* \mid x_*, y) = \int p(y_* \mid x_*, z)\, p(z \mid y)\, dz .$$
#
# It holds both the noise and what we do not know about the line; away from the data the second part grows.

# %%
grid = np.linspace(-5, 5, 100)
prediction = post.predict(grid)
ax = plots.prediction(prediction, grid)
ax.plot(x, y, "k.")
plt.show()

# %% [markdown]
# ## Eight schools
#
# Rubin (1981) studied coaching in eight schools. Each school $j$ reports an estimated effect $y_j$ with known standard
# error $\sigma_j$. The hierarchical model lets the schools learn from each other,
#
# $$\mu \sim N(0, 5^2), \quad \tau \sim \mathrm{HalfCauchy}(5), \quad \theta_j \sim N(\mu, \tau^2), \quad
# y_j \sim N(\theta_j, \sigma_j^2).$$

# %%
effect = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
error = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def centred(error, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(error)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, error), obs=y)


bad = bdl.fit(centred, error, y=effect, engine=settings, seed=0, progress=False)
doubt = bad.diagnose()
doubt

# %% [markdown]
# Written like this the model cannot be sampled well. Where $\tau$ is small all $\theta_j$ are squeezed towards $\mu$: the
# posterior narrows to a *funnel*. The sampler follows Hamilton's equations in steps of one size; in the neck that step is
# too long, the energy error explodes, and the trajectory is reported as a **divergence**. Divergences are not noise.
# They sit where the sampler could not go, so averages over its draws are biased.

# %%
tau, theta = bad.samples["tau"], bad.samples["theta"]
diverged = bad.raw.stats["diverging"].astype(bool)
_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(theta[..., 0].ravel(), np.log(tau).ravel(), ".", ms=3, alpha=0.4, label="draws")
ax.plot(theta[diverged][:, 0], np.log(tau[diverged]), "o", ms=5, color="crimson", label="diverged")
ax.set(xlabel="theta of school 1", ylabel="log tau")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The cure is not a longer run but the same model in other coordinates. With $\theta_j = \mu + \tau\, t_j$ and
# $t_j \sim N(0, 1)$ the prior of the sampled variables has no funnel. This is the *non-centred* form.


# %%
def non_centred(error, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(error)):
        t = numpyro.sample("t", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * t)
        numpyro.sample("y", dist.Normal(theta, error), obs=y)


careful = bdl.NUTS(
    num_warmup=500, num_samples=500, num_chains=4, target_accept=0.95, chain_method="vectorized"
)
good = bdl.fit(non_centred, error, y=effect, engine=careful, seed=0, progress=False)
trust = good.diagnose()
trust

# %%
table = good.summary(["mu", "tau", "theta"])
table.round(2)

# %% [markdown]
# The effects are pulled together: school 1 reported 28 points, and the posterior says about a quarter of that, since
# the others did not see such an effect and its own standard error is 15. Now the neck of the funnel is visited too.

# %%
_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, fitted in (("centred", bad), ("non-centred", good)):
    ax.hist(
        np.log(fitted.samples["tau"]).ravel(),
        bins=40,
        range=(-4, 4),
        density=True,
        histtype="step",
        label=name,
    )
ax.set(xlabel="log tau", ylabel="density")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Keep it
#
# A saved fit is a zip of JSON, safetensors and netCDF: no code. A NumPyro function is code, so it is given again.

# %%
folder = tempfile.TemporaryDirectory()
path = good.save(Path(folder.name) / "schools.bdl")
again = bdl.load(path, non_centred)
again

# %% [markdown]
# ## What we claimed
#
# Each claim above is checked here. Tolerances are four standard errors, not numbers picked by hand.

# %%
# the line: mean and sd agree with the exact posterior
assert np.all(np.abs(z) < 4)
assert post.diagnose().ok
sd_error = exact_sd / np.sqrt(2 * ess)  # of an sd from that many independent normal draws
assert np.all(np.abs(draws.std((0, 1)) - exact_sd) < 4 * sd_error)

# prediction: the band is wider where there were no data
assert prediction.std[0] > prediction.std[50]
assert np.allclose(prediction.aleatoric, 0.5, atol=1e-4)

# eight schools: the centred form diverges and is not trusted, the non-centred one does well
assert diverged.sum() > 0
assert not doubt.ok
assert good.raw.stats["diverging"].sum() < diverged.sum()
assert trust.facts["rhat (worst)"] < 1.02

# the posterior mean of mu is 4.4 (posteriordb, eight_schools_noncentered)
mu = good.samples["mu"]
mcse = float(
    arviz_stats.summary(good.to_datatree(), var_names=["mu"], round_to="none")["mcse_mean"].iloc[0]
)
assert abs(mu.mean() - 4.4) < 4 * mcse + 0.05

# saved and loaded: the same numbers
assert jnp.array_equal(again.samples["theta"], good.samples["theta"])
folder.cleanup()
