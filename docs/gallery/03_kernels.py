"""What kernels believe.

Functions drawn from the prior of five Gaussian processes, before any data.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

x = np.linspace(0, 4, 80)[:, None]
names = ("RBF", "Matern12", "Matern32", "Matern52", "Periodic")
figure, panels = plt.subplots(1, 5, figsize=(11, 2.2), sharey=True)
for panel, name in zip(panels, names, strict=True):
    kernel = getattr(bdl.kernels, name)(lengthscale=0.7, variance=1.0)
    model = bdl.GP(kernel, bdl.Normal(0.01), standardize=False)
    prior = bdl.prior_predictive(model, x, np.zeros(80), num_samples=4)
    panel.plot(x[:, 0], np.asarray(prior.function).reshape(4, -1).T, lw=1)
    panel.set_title(name)
figure.tight_layout()
