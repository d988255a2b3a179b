"""Hessians: closed forms, and differences of gradients where a second derivative is NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.core.problem import Problem, ProblemError
from inference.laplace.curvature import compile_hessian, inverse_root


def clipped(u):
    """A quadratic form and a term that is constant, held at the smallest number."""
    shape = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    smallest = jnp.finfo(u.dtype).tiny
    return 0.5 * u @ shape @ u + jnp.log(jnp.clip(0 * jnp.exp(u[0]), smallest, 1.0))


def at_point(problem, u):
    return clipped(u)


PROBLEM = Problem(lambda: None)


def test_a_second_derivative_that_is_nan():
    with jax.enable_x64(True):
        u = np.array([0.3, -1.0])
        assert np.isnan(jax.hessian(clipped)(u)).any()
        # central differences of a linear gradient are exact but for rounding
        np.testing.assert_allclose(
            compile_hessian(PROBLEM, at_point)(u), [[2, 0.5], [0.5, 1]], rtol=1e-8, atol=1e-8
        )


def test_a_curvature_that_is_not_finite():
    with pytest.raises(ProblemError, match="NaN or infinite"):
        inverse_root(np.array([[np.nan, 0], [0, 1.0]]))
