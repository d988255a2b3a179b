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
# # Sparse Bayesian networks
#
# Mean-field variational inference stores two numbers for each weight, and an optimiser four more. Most weights of a wide
# network do nothing. *Sparse subspace variational inference* (Li and others 2024, arXiv:2402.11025) keeps a share $\rho$ of
# the $d$ weights, $S$, and sets all others to zero:
#
# $$\max_{S,\,\phi}\; E_{q_\phi}[\log p(y \mid w_S)] - \mathrm{KL}(q_\phi(w_S) \,\|\, p(w_S)), \qquad |S| = \rho d.$$
#
# While the means and scales of $S$ are trained, the least useful weights (small $|\mu| / \sigma$) leave every hundred steps,
# and those with the largest gradient come in. Indices, moments and the optimiser's state have the size of the budget
# throughout: nothing is masked.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bayesdl as bdl

X, y = load_digits(return_X_y=True)
X, order = X / 16, np.random.default_rng(0).permutation(len(X))
train, test = order[:1200], order[1200:]

model = bdl.BNN(
    hidden=(128, 128), activation="relu", likelihood=bdl.Categorical(), standardize=False
)


def fit(**settings):
    engine = bdl.SSVI(**{"steps": 2000, "learning_rate": 0.03} | settings)
    return bdl.fit(model, X[train], y[train], engine=engine, progress=False)


# %% [markdown]
# ## A network of a tenth of its weights
#
# `beta` is 1 unless it is given, so what is maximised is the evidence lower bound of the network whose other weights are
# zero. The output layer keeps all its weights, and they count.

# %%
tenth = fit(density=0.1)
print(bdl.sparse.report(tenth))
tenth.score(X[test], y[test])

# %% [markdown]
# ## The mask evolves
#
# The network does not know that these are images. How many units look at each pixel, when exchanges stop early, says what
# they do: from a random mask to one that leaves the dark edges out.

# %%
stops = {
    "no exchange": 0.0,
    "stopped after 10 %": 0.1,
    "after 30 %": 0.3,
    "after 75 % (default)": 0.75,
}
fits = {
    name: tenth if stop == 0.75 else fit(density=0.1, stop=stop) for name, stop in stops.items()
}
looked_at = {
    name: bdl.sparse.masks(post)["layer0.weight"].sum(0).reshape(8, 8)
    for name, post in fits.items()
}

figure, panels = plt.subplots(1, 5, figsize=(13, 2.8))
for panel, (name, counts) in zip(panels, looked_at.items(), strict=False):
    panel.imshow(counts, cmap="viridis", vmin=0, vmax=max(c.max() for c in looked_at.values()))
    panel.set_title(
        f"{name}\naccuracy {fits[name].score(X[test], y[test])['accuracy']:.3f}", fontsize=9
    )
figure.colorbar(panels[0].images[0], ax=panels[:4], label="units that look at it", shrink=0.8)
panels[4].imshow(X[train].std(0).reshape(8, 8), cmap="gray")
panels[4].set_title("spread of each pixel", fontsize=9)
for panel in panels:
    panel.set_axis_off()
plt.show()

# %% [markdown]
# ## Accuracy and calibration against density
#
# `density=1` is dense mean-field variational inference. With the true evidence bound the dense network pays the divergence
# of thousands of weights that the data say nothing about, and is driven to be too unsure; a sparse one does not hold them.

# %%
densities = [0.06, 0.1, 0.3, 1.0]
by_density = {density: tenth if density == 0.1 else fit(density=density) for density in densities}
scores = {density: post.score(X[test], y[test]) for density, post in by_density.items()}
active = {density: bdl.sparse.report(post).active for density, post in by_density.items()}

figure, panels = plt.subplots(1, 3, figsize=(11, 3))
for panel, name in zip(panels, ("accuracy", "nll", "ece"), strict=True):
    panel.plot([100 * d for d in densities], [scores[d][name] for d in densities], "o-")
    panel.set(xscale="log", xlabel="active weights (%)", title=name)
    panel.set_xticks([100 * d for d in densities], [f"{100 * d:g}" for d in densities])
    panel.minorticks_off()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Does it know when it does not know?
#
# Images with their pixels shuffled are no digits. The epistemic part of the uncertainty (the mutual information of label
# and weights) should be larger there.

# %%
shuffled = np.random.default_rng(1).permuted(X[test], axis=1)
known, unknown = tenth.predict(X[test]).epistemic, tenth.predict(shuffled).epistemic

figure, panel = plt.subplots(figsize=(5, 3))
for values, name in ((known, "digits"), (unknown, "shuffled pixels")):
    panel.hist(
        values,
        bins=np.linspace(0, max(known.max(), unknown.max()), 30),
        density=True,
        alpha=0.6,
        label=name,
    )
panel.set(xlabel="epistemic uncertainty (nats)", yticks=[])
panel.legend()
plt.show()

# %% [markdown]
# ## Smaller still, and elsewhere
#
# `rebudget` removes weights after the fit: to a density, or, with none given, those without which the log evidence is
# larger (Bayesian model reduction). A file holds indices and moments only, and predicts with NumPy alone:
#
# ```python
# from inference.sparse.products.portable import load      # this module needs nothing but NumPy
# load("digits.sparse").predict(X)["probabilities"]
# ```

# %%
by_evidence = bdl.sparse.rebudget(tenth)
print(
    f"{bdl.sparse.report(tenth).active} weights, {bdl.sparse.report(by_evidence).active} after rebudget:"
)
print(by_evidence.score(X[test], y[test]))

path = Path(tempfile.mkdtemp()) / "digits.sparse"
bdl.sparse.export(by_evidence, path)
elsewhere = bdl.sparse.load(path).predict(X[test])
print(
    f"{path.stat().st_size} bytes; accuracy by NumPy {(elsewhere['probabilities'].argmax(1) == y[test]).mean():.3f}"
)

# %% [markdown]
# For large layers choose `structure="block:16"` or `"fan_in"`: then a training step on a CPU is five or two times as
# fast as a dense one at 5 % of the weights, where single weights save memory and little time.
# `bdl.sparse.to_torch` and `bdl.sparse.guide` take the fit into PyTorch and NumPyro.

# %% tags=["check"]
total = sum(mask.size for mask in bdl.sparse.masks(tenth).values())
assert bdl.sparse.report(tenth).active <= 0.1 * total
dark = X[train].std(0).reshape(8, 8) < 0.05
assert looked_at["after 75 % (default)"][dark].mean() < 0.5 * looked_at["no exchange"][dark].mean()
accuracy = {name: post.score(X[test], y[test])["accuracy"] for name, post in fits.items()}
assert accuracy["after 75 % (default)"] > accuracy["no exchange"]
assert scores[0.1]["nll"] < scores[1.0]["nll"]
assert unknown.mean() > 1.5 * known.mean()
assert bdl.sparse.report(by_evidence).active < bdl.sparse.report(tenth).active
assert (elsewhere["probabilities"].argmax(1) == y[test]).mean() > by_evidence.score(
    X[test], y[test]
)["accuracy"] - 0.03
