"""A fit in one forward pass.

The network that ships with bayesdl answers for data of Gaussian processes.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, 25)
y = np.sin(2 * x) + 0.1 * rng.normal(size=25)
pfn = bdl.PFN.pretrained("gp-regression")
post = bdl.fit(pfn.model, x[:, None], y, engine=pfn, progress=False)
grid = np.linspace(-2.2, 2.2, 200)
axes = bdl.plots.prediction(post.predict(grid[:, None]), x=grid)
axes.plot(x, y, "k.")
plt.xlabel("x")
