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
# # When to trust MCMC
#
# Markov chain Monte Carlo replaces a posterior by draws, and averages over it by averages over them. Three things can go
# wrong, and each has its own check.
#
# | what can be wrong | the check |
# | --- | --- |
# | the draws do not cover the posterior of this model and these data | divergences, R-hat, ESS: `post.diagnose()` |
# | program or sampler do not compute the posterior that the model states | simulation-based calibration: `bdl.sbc` |
# | the model does not fit the data, or the answer is the prior's | `check_predictive`, `loo`, `sensitivity` of `post` |
#
# None of them stands in for another: a perfectly sampled posterior of a bad model passes the first two.

# %%
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesdl as bdl
from bayesdl import plots

# %% [markdown]
# ## Divergences
#
# Neal's funnel (2003) is the prior of every hierarchical model in its smallest form, a scale and what is scaled:
#
# $$v \sim N(0, 3^2), \qquad x_j \mid v \sim N(0, e^{v}), \quad j = 1, \dots, 5.$$
#
# There are no data, so the answer is known: $v$ has mean 0 and sd 3. Written as it stands it is *centred*; with
# $x_j = e^{v/2} t_j$ and $t_j \sim N(0, 1)$ *non-centred*. The two programs state the same distribution.


# %%
def centred():
    v = numpyro.sample("v", dist.Normal(0, 3))
    numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)).expand([5]).to_event(1))


def non_centred():
    v = numpyro.sample("v", dist.Normal(0, 3))
    t = numpyro.sample("t", dist.Normal(0, 1).expand([5]).to_event(1))
    numpyro.deterministic("x", jnp.exp(v / 2) * t)


settings = bdl.NUTS(num_warmup=500, num_samples=500, num_chains=4, chain_method="vectorized")
funnel = bdl.fit(centred, engine=settings, seed=0, progress=False)
doubt = funnel.diagnose()
doubt

# %% [markdown]
# NUTS follows Hamilton's equations in steps of one size. In the neck, where $v$ is small, that step is far too long, the
# energy error explodes, and the trajectory is reported as a **divergence**. The draws stop where the neck begins.

# %%
straight = bdl.fit(non_centred, engine=settings, seed=0, progress=False)
trust = straight.diagnose()

_, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, sharey=True, layout="constrained")
for ax, (name, fitted) in zip(
    axes, {"centred": funnel, "non-centred": straight}.items(), strict=True
):
    v, x0, diverged = (
        fitted.samples["v"],
        fitted.samples["x"][..., 0],
        fitted.raw.stats["diverging"].astype(bool),
    )
    ax.plot(x0.ravel(), v.ravel(), ".", ms=3, alpha=0.4, label="draws")
    ax.plot(x0[diverged], v[diverged], "o", ms=4, color="crimson", label="diverged")
    ax.set(title=f"{name}: sd of v is {v.std():.2f}", xlabel="x[0]", xlim=(-20, 20), ylim=(-11, 11))
axes[0].set_ylabel("v")
axes[0].legend(frameon=False)
plt.show()

# %%
trust

# %% [markdown]
# ## R-hat and effective sample size
#
# Divergences see one place that steps are too long for. That chains have not run for long enough is seen by comparing
# them. With $m$ chains of $n$ draws, $W$ the mean variance within chains and $B/n$ the variance of their means,
#
# $$\hat R = \sqrt{\frac{\frac{n-1}{n} W + \frac{1}{n} B}{W}}, \qquad
# \mathrm{ESS} = \frac{m n}{1 + 2 \sum_{t \ge 1} \rho_t},$$
#
# $\rho_t$ being the autocorrelation at lag $t$. `diagnose` computes both on ranks and on halves of chains, so that heavy
# tails and chains that drift are seen too (Vehtari et al. 2021, [arXiv:1903.08008](https://arxiv.org/abs/1903.08008)).
#
# A line through $x$ far from zero, years for example, has an intercept and a slope that are correlated at -0.97. Hamiltonian
# Monte Carlo with short trajectories crosses that ridge in small steps. Fifty draws are too few.

# %%
rng = np.random.default_rng(0)
x = rng.uniform(2, 5, 40)
y = 1.0 + 0.5 * x + 0.5 * rng.normal(size=40)


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


short = bdl.HMC(
    num_warmup=100, num_samples=50, num_chains=4, num_steps=16, chain_method="vectorized"
)
post = bdl.fit(line, x, y=y, engine=short, seed=0, progress=False)
first = post.diagnose()
first

# %% [markdown]
# `extend` goes on where the chains are: no warm-up again, and the same draws as one long run. We make the run
# sixteen times as long until nothing speaks against the result.

# %%
history = [(post.samples["w"].shape[1], first.facts["rhat (worst)"], first.facts["ess (smallest)"])]
longer, verdict = post, first
while not verdict.ok:
    longer = bdl.mcmc.extend(longer, 15 * longer.samples["w"].shape[1], progress=False)
    verdict = longer.diagnose()
    history.append(
        (
            longer.samples["w"].shape[1],
            verdict.facts["rhat (worst)"],
            verdict.facts["ess (smallest)"],
        )
    )
for draws, rhat, ess in history:
    print(f"{draws:5d} draws per chain: R-hat {rhat:.3f}, ESS {ess:.0f}")
verdict

# %%
_, axes = plt.subplots(1, 2, figsize=(11, 3), sharey=True, layout="constrained")
for ax, fitted in zip(axes, (post, longer), strict=True):
    ax.plot(fitted.samples["w"][..., 0].T, lw=0.6)
    ax.set(title=f"{fitted.samples['w'].shape[1]} draws per chain", xlabel="draw")
axes[0].set_ylabel("intercept")
plt.show()

# %% [markdown]
# On the left the chains have not been everywhere yet; on the right they are one band. R-hat cannot see what *no* chain has
# seen, a second mode for example: it is a necessary sign, not a proof.
#
# ## Simulation-based calibration
#
# Chains may agree on the wrong answer. The test (Talts et al. 2018, [arXiv:1804.06788](https://arxiv.org/abs/1804.06788))
# uses the model itself as a source of data with known truth:
#
# $$\tilde z \sim p(z), \quad \tilde y \sim p(y \mid \tilde z), \quad z_1, \dots, z_L \sim p(z \mid \tilde y)
# \qquad \Rightarrow \qquad \#\{l : z_l < \tilde z\} \sim \mathrm{Uniform}\{0, \dots, L\} .$$
#
# `bdl.sbc` repeats this and tests whether the ranks are uniform. Here for a line with unknown noise, and stochastic-gradient
# HMC with all rows (tutorial 5). Then the same with one setting changed: `temperature=0.5`, a *cold posterior*
# $p(z \mid y)^{2}$. It is popular with neural networks, and it is not the posterior.


# %%
def noisy_line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.LogNormal(0, 0.5))
    numpyro.sample("y", dist.Normal(w[0] + w[1] * x, sigma), obs=y)


places, blank = np.linspace(-1, 1, 10), np.zeros(10)  # observed values only tell shapes
ranks = {}
for temperature in (1.0, 0.5):
    engine = bdl.SGHMC(
        300, 50, thinning=20, batch_size=None, step_size=0.4, start="prior", temperature=temperature
    )
    ranks[temperature] = bdl.sbc(
        noisy_line, places, y=blank, engine=engine, num_simulations=100, progress=False
    )
    print(ranks[temperature], "\n")

# %%
_, axes = plt.subplots(2, 1, figsize=(8, 6), sharex=True, sharey=True, layout="constrained")
for ax, (temperature, result) in zip(axes, ranks.items(), strict=True):
    plots.calibration_ranks(result, ax=ax)
    ax.set_title(f"temperature {temperature:g}")
plt.show()

# %% [markdown]
# The picture shows the distribution function of the ranks less the diagonal. The lines of `w` are first above and then below
# zero: too many truths lie below all draws or above all draws, so the draws are too *narrow*. That of the log density is
# above all the way: draws lie too near the mode.
#
# ## Does the model fit?
#
# So far the model was taken as given. Now 80 points on a line of which five are mistakes. We fit normal noise, and Student-t
# noise, $y_i \sim t_\nu(w_0 + w_1 x_i, \sigma)$, whose tails fall like a power.

# %%
x = rng.uniform(-1, 1, 80)
y = 1 + 0.8 * x + 0.3 * rng.normal(size=80)
y[:5] += [3, -3, 2.5, -4, 4]


def normal(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w[0] + w[1] * x, sigma), obs=y)


def student(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    excess = numpyro.sample("excess", dist.Gamma(2, 0.1))
    nu = numpyro.deterministic("nu", 2 + excess)  # above 2, so that y has a variance
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.StudentT(nu, w[0] + w[1] * x, sigma), obs=y)


noises = {
    f.__name__: bdl.fit(f, x, y=y, engine=settings, seed=0, progress=False)
    for f in (normal, student)
}
{name: fitted.diagnose().ok for name, fitted in noises.items()}

# %% [markdown]
# Both are sampled well. A **posterior predictive check** asks whether the model makes data like ours: replicated data sets
# $y^{\mathrm{rep}} \sim p(y^{\mathrm{rep}} \mid y)$ against the observed one, in statistics that the model was not fitted to.
# The sd would say nothing here, since $\sigma$ has been fitted to it; quantiles and the extremes do.

# %%
checks = {
    name: fitted.check_predictive(["sd", "min", "max", "5%", "95%"])
    for name, fitted in noises.items()
}
checks["normal"]

# %%
checks["student"]

# %%
_, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for ax, (name, check) in zip(axes, checks.items(), strict=True):
    plots.predictive_check(check, ax)
    ax.set_title(name, pad=20)
plt.show()

# %% [markdown]
# **Leave-one-out cross-validation** asks how well each row is predicted by the others, without 80 more fits:
#
# $$\mathrm{elpd} = \sum_i \log p(y_i \mid y_{-i}), \qquad
# p(y_i \mid y_{-i}) \approx \frac{\sum_s w_{is}\, p(y_i \mid z_s)}{\sum_s w_{is}}, \quad
# w_{is} \propto \frac{1}{p(y_i \mid z_s)},$$
#
# the largest weights smoothed by a Pareto distribution whose shape $\hat k$ says whether the sum can be trusted (Vehtari,
# Gelman and Gabry 2017, [arXiv:1507.04544](https://arxiv.org/abs/1507.04544)). A difference of elpd counts against its
# standard error `dse`.

# %%
noises["student"].loo()

# %%
table = bdl.compare(noises)
table[["rank", "elpd", "p", "elpd_diff", "dse", "weight"]].astype(float).round(2)

# %% [markdown]
# Does the answer come from the data or from the prior? **Power scaling** weights the draws as if the prior were $p(z)^\alpha$,
# with $\alpha$ near 1, and measures how far each marginal moves (Kallioinen et al. 2024,
# [arXiv:2107.14054](https://arxiv.org/abs/2107.14054)). The line and its noise stay where they are. How heavy the tails are
# is told by five points only, and they want heavier ones than the prior expects: the table says so, and nothing else moves.

# %%
scaled = noises["student"].sensitivity()
scaled

# %% [markdown]
# ## Runs that may be killed
#
# With `checkpoint=folder` a run is kept on disk while it goes: killed at any moment, the same call goes on where it was and
# ends with the same draws, to the bit. Called again after it has finished, it reads them.

# %%
folder = tempfile.TemporaryDirectory()
once, again = (
    bdl.fit(
        line,
        x,
        y=y,
        engine=short,
        seed=0,
        progress=False,
        checkpoint=Path(folder.name) / "run",
        every=25,
    )
    for _ in range(2)
)
same = np.array_equal(once.samples["w"], again.samples["w"])
same

# %% [markdown]
# ## What we claimed

# %%
# the funnel: the centred form diverges and misses the neck; the non-centred one is right, within four standard errors
v = straight.samples["v"]
sd_error = 3 / np.sqrt(2 * straight.summary(["v"])["ess_bulk"].to_numpy(dtype=float)[0])
assert not doubt.ok and doubt.facts["divergences"] > 0
assert trust.ok and trust.facts["divergences"] == 0
assert abs(v.std() - 3) < 4 * sd_error
assert funnel.samples["v"].min() > v.min() + 1

# R-hat and ESS: the short run is not trusted, the extended one is, and it begins with the draws of the short one
assert first.facts["rhat (worst)"] > 1.01 and not first.ok
assert verdict.ok and verdict.facts["ess (smallest)"] > first.facts["ess (smallest)"]
assert np.array_equal(longer.samples["w"][:, :50], post.samples["w"])

# calibration: the sampler of the posterior passes, that of a cold one does not
assert ranks[1.0].ok
assert not ranks[0.5].ok

# model: replications with normal noise are not like the data, with Student-t noise they are; LOO prefers the latter clearly
assert not checks["normal"].ok and checks["student"].ok
assert table.index[0] == "student"
assert table.loc["normal", "elpd_diff"] ** 2 > (4 * table.loc["normal", "dse"]) ** 2

# prior: the line does not depend on it
assert (scaled.table.loc[["w[0]", "w[1]", "sigma"], "prior"] < 0.05).all()

# a checkpoint gives the same draws
assert same
folder.cleanup()
