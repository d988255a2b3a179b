"""Minimisation of a compiled function by L-BFGS (SciPy's), for modes and hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SMALL = (
    1e-3  # of a gradient, relative to the root of the value: curvature mostly grows with the value
)


def minimise(
    value_and_grad: Callable, u: np.ndarray, max_steps: int, *fixed: Any
) -> tuple[np.ndarray, bool]:
    """The minimum over u, and whether the search converged.

    Args:
        value_and_grad: compiled, maps (u, *fixed) to value and gradient.
        u: where to start, shape (d,).
        max_steps: at most so many steps.
        *fixed: further arguments of the function.
    """
    import scipy.optimize  # takes a tenth of a second, so only here

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_grad(u, *fixed)
        return float(value), np.asarray(gradient)

    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "maxcor": 20}
    found = scipy.optimize.minimize(evaluate, u, jac=True, method="L-BFGS-B", options=options)
    return found.x, is_at_minimum(found)


def is_at_minimum(found: Any) -> bool:
    """Whether a search ended in a minimum: SciPy says so, or the gradient is small for a value of this size.

    SciPy calls it a failure when rounding keeps the line search from lowering the value, as it happens close to a minimum.
    """
    small = SMALL * np.sqrt(max(1.0, abs(found.fun)))
    return bool(
        np.isfinite(found.fun) and (found.success or np.max(np.abs(found.jac), initial=0.0) < small)
    )
