"""Parameters that a distribution cannot have, such as a negative rate.

NumPyro computes with them without a word: a Poisson distribution of rate -1 has the mean -1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

# how far rounding may carry a parameter over a bound, relative to it and at zero
ROUNDING, AT_ZERO = 1e-4, 1e-6


def wrong_parameters(distribution: Distribution) -> dict[str, jax.Array]:
    """Return which entries of the parameters are NaN, or beyond a bound, by parameter.

    Zero is taken for a positive number, as small ones are rounded to it.

    Args:
        distribution: the distribution; its parameters are those inside masks, plates and events.

    Returns:
        A truth value for each entry of each parameter, without the axes of events of its own.

    Example:
        >>> import numpyro.distributions as dist
        >>> wrong = dist.Poisson(jnp.array([1.0, -1.0, jnp.nan]), validate_args=False)
        >>> wrong_parameters(wrong)["rate"].tolist()
        [False, True, True]
    """
    inner: Any = distribution
    while hasattr(inner, "base_dist"):
        inner = inner.base_dist
    given = {name: vars(inner).get(name) for name in inner.arg_constraints}
    arrays = {name: value for name, value in given.items() if isinstance(value, jax.Array | float)}
    return {
        name: _wrong(jnp.asarray(value), inner.arg_constraints[name])
        for name, value in arrays.items()
        if jnp.issubdtype(jnp.result_type(value), jnp.floating)
    }


def _wrong(value: jax.Array, constraint: Any) -> jax.Array:
    """Return which entries are NaN or beyond the bounds of a constraint."""
    wrong = jnp.isnan(value)
    for name, sign in (("lower_bound", 1.0), ("upper_bound", -1.0)):
        bound = getattr(constraint, name, None)
        # bounds that are arrays depend on other parameters
        if isinstance(bound, int | float):
            wrong = wrong | (sign * (value - bound) < -max(AT_ZERO, ROUNDING * abs(bound)))
    events = getattr(constraint, "event_dim", 0)
    return wrong.any(axis=tuple(range(-events, 0))) if events else wrong
