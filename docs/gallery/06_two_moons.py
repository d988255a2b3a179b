"""Two moons: probability, and how much a label would teach.

Left the probability of a class, right the mutual information of label and weights, large where
no data are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import bayesdl as bdl

X, y = make_moons(120, noise=0.15, random_state=0)
prior = bdl.priors.Gaussian(scale=3.0)
model = bdl.BNN(hidden=(20,), prior=prior, likelihood=bdl.Bernoulli())
post = bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)
a, b = np.meshgrid(np.linspace(-3, 4, 60), np.linspace(-2.5, 3, 60))
pred = post.predict(np.c_[a.ravel(), b.ravel()])
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for panel, values, title in zip(
    panels, (pred.probs[:, 1], pred.epistemic), ("P(class 1)", "mutual information"), strict=True
):
    shown = panel.contourf(a, b, np.asarray(values).reshape(a.shape), 20, cmap="viridis")
    figure.colorbar(shown, ax=panel)
    panel.scatter(*X.T, c=y, cmap="coolwarm", s=8, edgecolor="white", linewidth=0.3)
    panel.set_title(title)
