"""The same data, four kernels.

Smoothness decides what happens between and beyond the points.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(1)
x = np.sort(rng.uniform(0, 6, 14))
y = np.sin(x) + 0.1 * rng.normal(size=14)
grid = np.linspace(-1, 8, 200)
figure, panels = plt.subplots(2, 2, figsize=(8, 5.5), sharey=True)
names = ("RBF", "Matern12", "Matern52", "Periodic")
for panel, name in zip(panels.ravel(), names, strict=True):
    model = bdl.GP(getattr(bdl.kernels, name)(lengthscale=None, variance=None))
    post = bdl.fit(model, x[:, None], y, engine=bdl.ExactGP(), progress=False)
    bdl.plots.prediction(post.predict(grid[:, None]), x=grid, ax=panel)
    panel.plot(x, y, "k.")
    panel.set_xlabel(name)
figure.tight_layout()
