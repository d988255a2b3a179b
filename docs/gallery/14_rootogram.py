"""Counts and their frequencies.

Square roots of expected and observed frequencies of counts.
"""

import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(150, 1))
counts = rng.poisson(np.exp(0.5 + X[:, 0]))
model = bdl.BNN(hidden=(), likelihood=bdl.Poisson())
post = bdl.fit(model, X, counts, engine=bdl.Laplace(), progress=False)
bdl.plots.rootogram(post.check_predictive())
