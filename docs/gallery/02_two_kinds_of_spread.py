"""Aleatoric and epistemic spread.

Noise stays where data are many; what is not known of the function does not.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, 60)
y = np.sin(2 * x) + 0.3 * rng.normal(size=60)
post = bdl.fit(bdl.GP(), x[:, None], y, engine=bdl.ExactGP(), progress=False)
grid = np.linspace(-4, 4, 200)
pred = post.predict(grid[:, None])
plt.plot(grid, pred.aleatoric, label="aleatoric: noise")
plt.plot(grid, pred.epistemic, label="epistemic: what is not known of f")
plt.axvspan(-2, 2, color="0.92", zorder=0)
plt.xlabel("x (data in the grey part)")
plt.ylabel("standard deviation")
plt.legend(frameon=False)
