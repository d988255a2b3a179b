"""Outliers: normal and Student-t noise.

Four wild points pull the normal line, not the other.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, 40)
y = x + 0.1 * rng.normal(size=40)
y[x.argsort()[-4:]] -= 4
grid = np.linspace(-1.2, 1.2, 100)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for panel, likelihood in zip(panels, (bdl.Normal(), bdl.StudentT()), strict=True):
    model = bdl.BNN(hidden=(), likelihood=likelihood)
    post = bdl.fit(model, x[:, None], y, engine=bdl.Laplace(), progress=False)
    bdl.plots.prediction(post.predict(grid[:, None]), x=grid, ax=panel)
    panel.plot(x, y, "k.")
    panel.set_xlabel(f"{type(likelihood).__name__} noise")
