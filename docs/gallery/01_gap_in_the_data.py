"""A network in a gap of the data.

Two clusters of points, and a gap between them, where the band opens: the epistemic part of the
spread grows where nothing was seen.
"""

import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = np.concatenate([rng.uniform(-3, -1, 25), rng.uniform(1, 3, 25)])
y = np.sin(2 * x) + 0.1 * rng.normal(size=50)
model = bdl.BNN(hidden=(20,), prior=bdl.priors.Gaussian(scale=3.0))
post = bdl.fit(model, x[:, None], y, engine=bdl.Laplace(), progress=False)
grid = np.linspace(-4, 4, 200)
axes = bdl.plots.prediction(post.predict(grid[:, None]), x=grid)
axes.plot(x, y, "k.", ms=4)
axes.set(xlabel="x", ylabel="y")
