"""Sets that hold, around a model that is wrong.

A line fitted to a parabola: its intervals miss, conformal sets do not on average.
"""

import matplotlib.pyplot as plt
import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, 400)
y = x**2 + 0.2 * rng.normal(size=400)
new, truth = x[200:, None], y[200:]
known = bdl.Normal(0.2)
post = bdl.fit(bdl.BNN(hidden=(), likelihood=known), x[:100, None], y[:100], engine="laplace")
sets = post.conformal(0.9, x[100:200, None], y[100:200], score="absolute").predict(new)
order = new[:, 0].argsort()
for (low, high), name in ((post.predict(new).interval(0.9), "raw"), (sets.interval(), "conformal")):
    share = ((truth >= low) & (truth <= high)).mean()
    plt.fill_between(
        new[order, 0], low[order], high[order], alpha=0.4, label=f"{name}: holds {share:.0%}"
    )
plt.plot(new[:, 0], truth, "k.", ms=3)
plt.legend(frameon=False)
