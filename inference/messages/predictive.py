"""The predictive distribution of a functional tensor: new indexes are states without data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from inference.core.result import AbstractPredictive, Conditional
from inference.core.typing import Key
from inference.messages.forms import FORMS, Moments, moments
from inference.messages.pseudo_observations import AbstractScalarLikelihood, Poisson
from inference.state_space.matern import Kernel, state_space_prior
from inference.state_space.smoother import smooth

# The standard deviation of a log rate whose mean, e^2 times its median, says little.
WIDE = 2.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TensorPredictive(AbstractPredictive):
    """The distribution of y at new indexes, independent between rows.

    Attributes:
        smoothness: the smoothness p of each mode, for Matern kernels of order p + 1/2.
        form: "cp" or "tucker".
        likelihood: the likelihood of f.
        positions: the sorted positions of each mode.
    """

    smoothness: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    form: str = dataclasses.field(metadata={"static": True})
    likelihood: AbstractScalarLikelihood = dataclasses.field(metadata={"static": True})
    positions: tuple

    def __call__(self, params: Mapping, key: Key | None, X: ArrayLike) -> Conditional:
        X = jnp.asarray(X)
        mean, variance = self.moments(params, X)
        distribution = self.likelihood.predictive(mean, variance, params["sigma"])
        return Conditional(distribution, self.likelihood.epistemic(mean, variance))

    def mean_concern(self, mean: np.ndarray, epistemic: np.ndarray) -> str | None:
        if not isinstance(self.likelihood, Poisson):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            # the ratio for a log-normal rate; false for NaN and infinity
            wide = ~(epistemic <= math.expm1(WIDE**2) * mean**2)
        if not wide.any():
            return None
        return (
            f"in {wide.sum()} of {len(wide)} rows the log of the rate has an sd above {WIDE:g}, "
            "and rates far above the data rule mean and sd; quantile(0.5) is not moved by them"
        )

    def moments(self, params: Mapping, X: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance of f at the rows of X."""
        factors = [self.factor(params, k, X[:, k]) for k in range(len(self.smoothness))]
        core = (
            moments(params["core.mean"], params["core.covariance"])
            if "core.mean" in params
            else None
        )
        mean, second = FORMS[self.form]().entries(
            factors, core, [jnp.arange(len(X))] * len(factors)
        )
        return mean, jnp.maximum(second - mean**2, 0.0)

    def factor(self, params: Mapping, k: int, x: jax.Array) -> Moments:
        """Return the moments of the functions of a mode at new positions."""
        return moments(
            *predict_mode(
                self.smoothness[k], params_of_mode(params, k), jnp.asarray(self.positions[k]), x
            )
        )


def params_of_mode(params: Mapping, k: int) -> dict:
    """Return the parameters of one mode."""
    prefix = f"mode{k}."
    return {
        name.removeprefix(prefix): value
        for name, value in params.items()
        if name.startswith(prefix)
    }


def predict_mode(
    p: int, params: Mapping, positions: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the moments of the functions of a mode at positions x, in any order.

    They are the means, shape (n, r), and the covariances, shape (n, r, r).
    """
    all_positions = jnp.concatenate([positions, x])
    order = jnp.argsort(all_positions, stable=True)
    information, precision = (
        jnp.concatenate([part, jnp.zeros((len(x), *part.shape[1:]), part.dtype)])[order]
        for part in (jnp.asarray(params["information"]), jnp.asarray(params["precision"]))
    )
    kernel = Kernel(params["lengthscale"], params.get("constant"), params["variances"])
    found = smooth(state_space_prior(p, kernel, all_positions[order]), information, precision)
    back = jnp.argsort(order)[len(positions) :]
    return found.mean[back], found.covariance[back]
