"""Minimisation of a compiled function by L-BFGS (SciPy's), for modes and hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

# The size of a gradient at a minimum, relative to the square root of the value: the curvature
# mostly grows with the value.
SMALL_GRADIENT = 1e-3
# steps over which it is seen how fast a search moves
RECENT = 10
# SciPy's, at which a search ends
SMALLEST_GRADIENT = 1e-5


def minimise(
    value_and_grad: Callable,
    u: np.ndarray,
    max_steps: int,
    *fixed: object,
    gradient: float = SMALLEST_GRADIENT,
) -> tuple[np.ndarray, bool]:
    """Find a minimum over u, and say whether the search converged.

    Args:
        value_and_grad: a compiled function from (u, *fixed) to the value and its gradient.
        u: the starting point, shape (d,).
        max_steps: the largest number of steps.
        *fixed: further arguments of the function.
        gradient: the search ends where no entry of the gradient is larger.
    """
    u, _, converged = minimise_to(
        lambda u: value_and_grad(u, *fixed), u, max_steps, gradient=gradient
    )
    return u, converged


def minimise_to(
    value_and_grad: Callable,
    u: np.ndarray,
    max_steps: int,
    known: float = math.inf,
    gradient: float = SMALLEST_GRADIENT,
) -> tuple[np.ndarray, float, bool]:
    """Find a minimum over u, its value, and whether the search converged.

    A search that ends where the function is not finite, as where a matrix becomes singular, gives
    the lowest point that it has seen.

    Args:
        value_and_grad: a compiled function from u to the value and its gradient.
        u: the starting point, shape (d,).
        max_steps: the largest number of steps.
        known: a value that is known to be reached; a search that hardly moves above it ends.
        gradient: the search ends where no entry of the gradient is larger.
    """
    # importing this takes a tenth of a second, so it is done only here
    import scipy.optimize

    lowest: tuple[float, np.ndarray, np.ndarray] = math.inf, u, np.full_like(u, math.inf)

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal lowest
        value, gradient = value_and_grad(u)
        value, gradient = float(value), np.asarray(gradient)
        if value < lowest[0] and np.isfinite(gradient).all():
            lowest = value, np.array(u), gradient
        return value, gradient

    values: list[float] = []

    def is_behind(intermediate_result: OptimizeResult) -> None:
        values.append(float(intermediate_result.fun))
        # as fast as in the last steps it would need twice as many steps as it had
        gain = values[-RECENT - 1] - values[-1] if len(values) > RECENT else math.inf
        if values[-1] - gain / RECENT * 2 * len(values) > known:
            raise StopIteration

    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "maxcor": 20, "gtol": gradient}
    found = scipy.optimize.minimize(
        evaluate, u, jac=True, method="L-BFGS-B", options=options, callback=is_behind
    )
    if not np.isfinite(found.fun) and np.isfinite(lowest[0]):
        value, u, slope = lowest
        return u, value, _is_small(slope, value)
    return found.x, float(found.fun), _is_at_minimum(found)


def _is_at_minimum(found: OptimizeResult) -> bool:
    """Whether a search ended in a minimum: SciPy says so, or the gradient is small.

    SciPy reports a failure when rounding keeps the line search from lowering the value, which
    happens close to a minimum. So a gradient that is small for a value of this size counts too.
    """
    return bool(np.isfinite(found.fun) and (found.success or _is_small(found.jac, found.fun)))


def _is_small(gradient: np.ndarray, value: float) -> bool:
    """Whether a gradient is small for a value of this size."""
    small = SMALL_GRADIENT * np.sqrt(max(1.0, abs(value)))
    return bool(np.max(np.abs(gradient), initial=0.0) < small)
