"""A network prior matched to functions.

Functions of a network before and after its weight prior is matched to a smooth process.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

x = np.linspace(-2, 2, 60)[:, None]
target = bdl.GP(bdl.kernels.RBF(lengthscale=1.0, variance=1.0))
model = bdl.BNN(hidden=(30,))
prior = bdl.match_prior(model, to=target, inputs=x, steps=100, progress=False)
models = {"N(0, 1) weights": model, "matched": bdl.BNN(hidden=(30,), prior=prior)}
figure, panels = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for panel, (title, spec) in zip(panels, models.items(), strict=True):
    drawn = bdl.prior_predictive(spec, x, x[:, 0], num_samples=8)
    panel.plot(x[:, 0], np.asarray(drawn.function).reshape(8, -1).T, lw=1)
    panel.set_title(title)
