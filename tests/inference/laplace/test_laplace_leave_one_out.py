"""Leave-one-out densities of networks against Bayesian linear regression without the row."""

import numpy as np
from scipy import stats

import bayesdl as bdl


def test_a_linear_network_leaves_rows_out_as_exact_regression_does():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 1))
    y = X[:, 0] + 0.5 * rng.normal(size=12)
    # far out, and of much weight: where an average over few points fails
    X[0], y[0] = 4.0, -6.0
    model = bdl.BNN(
        hidden=(),
        prior=bdl.priors.Gaussian(2.0),
        likelihood=bdl.Normal(scale=0.5),
        standardize=False,
    )
    post = bdl.fit(model, X, y, engine=bdl.Laplace(), progress=False)
    found = post.engine.left_out(post.problem, post.raw)
    design = np.column_stack([X, np.ones(12)])
    expected = []
    for row in range(12):
        others = np.arange(12) != row
        precision = np.eye(2) / 4 + design[others].T @ design[others] / 0.25
        mean = np.linalg.solve(precision, design[others].T @ y[others] / 0.25)
        variance = 0.25 + design[row] @ np.linalg.solve(precision, design[row])
        expected.append(stats.norm(design[row] @ mean, np.sqrt(variance)).logpdf(y[row]))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
