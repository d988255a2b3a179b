"""The normal log density and its own derivatives, against SciPy and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bayesdl as bdl
from inference.core.minimise import minimise_to
from inference.exact.density import quadratic_and_log_det
from inference.exact.gp import _value_and_slope
from inference.exact.scale_mixture import FixedScale
from inference.sharing import compile_with_data


def log_normal(S, y):
    return FixedScale().log_density(*quadratic_and_log_det(S, y), len(y))


def automatic(S, y):
    root = jnp.linalg.cholesky(S)
    whitened = jax.scipy.linalg.solve_triangular(root, y, lower=True)
    log_det = jnp.log(jnp.diag(root)).sum()
    return -whitened @ whitened / 2 - log_det - len(y) / 2 * jnp.log(2 * jnp.pi)


def test_value_slope_and_curvature():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 6))
    S, y = A @ A.T + np.eye(6), rng.normal(size=6)
    with jax.enable_x64(True):
        S, y = jnp.asarray(S), jnp.asarray(y)
        expected = stats.multivariate_normal.logpdf(y, cov=S)
        np.testing.assert_allclose(log_normal(S, y), expected, rtol=1e-12)

        def along(density, t):
            changed = S * jnp.exp(t[0]) + t[1] * jnp.eye(6) + t[2] * jnp.outer(y, y)
            return density(changed, y * (1 + t[3]))

        at = jnp.array([0.1, 0.2, 0.3, 0.4])
        for order in (jax.grad, jax.hessian):
            own, auto = (
                jax.jit(order(lambda t, density=density: along(density, t)))(at)
                for density in (log_normal, automatic)
            )
            np.testing.assert_allclose(own, auto, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("hyperparameters", ["ml", "map"])
def test_the_search_climbs_the_density_of_the_program(hyperparameters):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    post = bdl.fit(bdl.GP(), X, np.sin(X[:, 0]), engine=bdl.ExactGP(num_restarts=1), progress=False)
    u = np.array([0.3, -0.2, 0.1, -1.0])
    with jax.enable_x64(True):
        value, slope = compile_with_data(post.problem, _value_and_slope, hyperparameters)(u)
        density = post.problem.log_density()

        def expected(u):
            if hyperparameters == "map":
                return -density(u)
            process = post.problem.structure.gaussian_process(
                density.constrain(u), jnp.asarray(post.problem.args[0])
            )
            return -process.log_probability(jnp.asarray(post.problem.args[1]))

        right, right_slope = jax.jit(jax.value_and_grad(expected))(jnp.asarray(u))
    np.testing.assert_allclose(value, right, rtol=1e-10)
    np.testing.assert_allclose(slope, right_slope, rtol=1e-8, atol=1e-10)


def test_a_search_that_rests_behind_another_one_ends_early():
    counted = []

    def valley(u):
        counted.append(u)
        value = 100.0 + 1e-3 * np.sum((u[1:] - u[:-1] ** 2) ** 2 * 100 + (1 - u[:-1]) ** 2)
        slope = np.zeros_like(u)
        slope[1:] += 0.2 * (u[1:] - u[:-1] ** 2)
        slope[:-1] += -0.4 * u[:-1] * (u[1:] - u[:-1] ** 2) - 2e-3 * (1 - u[:-1])
        return value, slope

    start = np.full(8, -1.2)
    _, value, done = minimise_to(valley, start, 500)
    whole = len(counted)
    assert done and value < 100.01
    _, behind, _ = minimise_to(valley, start, 500, known=50.0)
    assert behind > 100.0 and len(counted) - whole < whole
