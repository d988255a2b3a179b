"""Do replicated data look like the data?.

Normal noise for data with heavy tails: the replications do not reach the outliers.
"""

import numpy as np

import bayesdl as bdl

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(100, 1))
y = X[:, 0] + 0.2 * rng.standard_t(1.5, size=100)
post = bdl.fit(bdl.BNN(hidden=()), X, y, engine=bdl.Laplace(), progress=False)
bdl.plots.predictive_check(post.check_predictive())
