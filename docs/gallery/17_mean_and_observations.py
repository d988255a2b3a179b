"""A band for the mean, and one for observations.

The mean is known better than any new observation.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, 30)
y = x + 0.5 * rng.normal(size=30)
post = bdl.fit(bdl.BNN(hidden=()), x[:, None], y, engine=bdl.Laplace(), progress=False)
grid = np.linspace(-3, 3, 100)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
bdl.plots.band(post.predict(grid[:, None], kind="mean"), x=grid, ax=panels[0])
bdl.plots.prediction(post.predict(grid[:, None]), x=grid, ax=panels[1])
for panel, title in zip(panels, ("E[y | x]", "a new y"), strict=True):
    panel.plot(x, y, "k.")
    panel.set_xlabel(title)
