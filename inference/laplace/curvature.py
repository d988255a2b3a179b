"""Curvature at a mode: Hessians in bounded memory, and roots of covariances."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from inference.core.problem import Problem, ProblemError
from inference.core.typing import PyTree
from inference.sharing import compile_with_data


def potential(problem: Problem, u: ArrayLike) -> jax.Array:
    """Return minus the log density at u."""
    return -problem.log_density()(u)


def value_and_slope(problem: Problem, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return minus the log density at u, and its gradient."""
    return jax.value_and_grad(lambda u: potential(problem, u))(u)


def compile_hessian(
    problem: Problem, function: Callable[..., jax.Array], *settings: Hashable
) -> Callable[..., np.ndarray]:
    """Compile the Hessian of `function(problem, *settings, u, *fixed)` in u.

    It is computed column by column in bounded memory. Columns are derivatives of the gradient,
    forward ones where all operations have them. Some have none (`jax.experimental.ode.odeint`,
    say); the gradient is then differentiated backwards again. A second derivative may be NaN where
    the first is right, as of a probability that a program holds at zero: differences of gradients
    take its place.

    Returns:
        A function of (u, *fixed). Problems of one form share what is compiled.
    """
    compiled = compile_with_data(problem, _columns, function, settings)
    gradient = compile_with_data(problem, _gradient, function, settings)

    def symmetric(u: np.ndarray, *fixed: PyTree) -> np.ndarray:
        # the basis is an argument: as a constant it would be folded
        matrix = np.asarray(compiled(u, np.eye(u.size), *fixed))
        if not np.isfinite(matrix).all():
            matrix = _differences(lambda at: np.asarray(gradient(at, *fixed)), u)
        return (matrix + matrix.T) / 2

    return symmetric


def _gradient(
    problem: Problem, function: Callable, settings: tuple, u: jax.Array, *fixed: PyTree
) -> jax.Array:
    """Return the gradient in u."""
    return jax.grad(lambda u: function(problem, *settings, u, *fixed))(u)


def _columns(
    problem: Problem,
    function: Callable,
    settings: tuple,
    u: jax.Array,
    basis: ArrayLike,
    *fixed: PyTree,
) -> jax.Array:
    """Return the Hessian in u times each row of a basis."""

    def gradient(u: jax.Array) -> jax.Array:
        return _gradient(problem, function, settings, u, *fixed)

    def forward(e: jax.Array) -> jax.Array:
        return jax.jvp(gradient, (u,), (e,))[1]

    def backward(e: jax.Array) -> jax.Array:
        return jax.grad(lambda u: gradient(u) @ e)(u)

    column = forward if _has_forward_mode(gradient, u) else backward
    return jax.lax.map(column, basis, batch_size=32)


def _differences(
    gradient: Callable[[np.ndarray], np.ndarray], u: np.ndarray
) -> Float[np.ndarray, "d d"]:
    """Compute a Hessian by central differences of the gradient, with an error of some 1e-9."""
    steps = np.cbrt(np.finfo(u.dtype).eps) * np.maximum(1.0, np.abs(u)) * np.eye(u.size)
    columns = [(gradient(u + step) - gradient(u - step)) / (2 * step.max()) for step in steps]
    return np.stack(columns)


def _has_forward_mode(function: Callable, u: jax.Array) -> bool:
    """Whether all operations of a function have a forward derivative, as its trace tells."""

    def forward(e: jax.Array) -> jax.Array:
        return jax.jvp(function, (u,), (e,))[1]

    try:
        # some operations refuse only where several directions go at once
        jax.eval_shape(jax.vmap(forward), jnp.zeros((2, *u.shape), u.dtype))
    except TypeError as error:
        # JAX has no kind of error of its own for this
        if "forward-mode" in str(error):
            return False
        raise
    return True


def inverse_root(precision: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Return R with R R' = precision^-1.

    Raises:
        ProblemError: if the precision is not positive definite, so that there is no normal
            approximation, or not finite.
    """
    import scipy.linalg

    if not np.isfinite(precision).all():
        raise ProblemError(
            "The curvature of the log density at its mode is NaN or infinite. Laplace cannot "
            "describe this posterior; use NUTS() or VI()."
        )
    try:
        lower = np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        curvatures = np.linalg.eigvalsh(precision)
        raise ProblemError(
            "The log density has no proper maximum: the smallest curvature at the mode is "
            f"{curvatures[0]:.3g}, the largest {curvatures[-1]:.3g}. Laplace cannot describe this "
            "posterior; use NUTS() or VI(), or write effects of groups as scale * z with z ~ N(0, "
            "1)."
        ) from None
    return scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True).T


def normal_parameters(loc: np.ndarray, root: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parameters of N(loc, root root')."""
    return {
        "loc": loc,
        "covariance_root": root,
        "log_det_root": np.asarray(np.linalg.slogdet(root)[1]),
    }
