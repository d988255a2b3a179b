"""The predictive law of a functional tensor: new indexes are states without information."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.result import AbstractPredictive, Conditional
from inference.messages.forms import FORMS, Moments, moments
from inference.messages.likelihood_sites import AbstractScalarLikelihood, Poisson
from inference.state_space.matern import Kernel, state_space_prior
from inference.state_space.smoother import smooth

WIDE = 2.0  # sd of the log of a rate whose mean, e^2 times its median, says little


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TensorPredictive(AbstractPredictive):
    """The law of y at new indexes, of each row by itself.

    Attributes:
        smoothness: p of each mode.
        form: "cp" or "tucker".
        likelihood: of f.
        positions: of each mode, sorted.
    """

    smoothness: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    form: str = dataclasses.field(metadata={"static": True})
    likelihood: AbstractScalarLikelihood = dataclasses.field(metadata={"static": True})
    positions: tuple

    def __call__(self, params: dict, key: Any, X: Any) -> Conditional:
        X = jnp.asarray(X)
        mean, variance = self.moments(params, X)
        law = self.likelihood.predicted(mean, variance, params["sigma"])
        return Conditional(law, self.likelihood.epistemic(mean, variance))

    def mean_concern(self, mean: Any, epistemic: Any) -> str | None:
        if not isinstance(self.likelihood, Poisson):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            wide = ~(
                epistemic <= math.expm1(WIDE**2) * mean**2
            )  # the ratio for a log-normal rate; false for NaN and infinity
        if not wide.any():
            return None
        return (
            f"in {wide.sum()} of {len(wide)} rows the log of the rate has an sd above {WIDE:g}, and rates far above the "
            "data rule mean and sd; quantile(0.5) is not moved by them"
        )

    def moments(self, params: dict, X: Any) -> tuple[Any, Any]:
        """Mean and variance of f at the rows of X."""
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

    def factor(self, params: dict, k: int, x: Any) -> Moments:
        """Moments of the functions of a mode at new positions."""
        return moments(
            *predict_mode(
                self.smoothness[k], params_of_mode(params, k), jnp.asarray(self.positions[k]), x
            )
        )


def params_of_mode(params: dict, k: int) -> dict:
    """Those of one mode."""
    prefix = f"mode{k}."
    return {
        name.removeprefix(prefix): value
        for name, value in params.items()
        if name.startswith(prefix)
    }


def predict_mode(p: int, params: dict, positions: Any, x: Any) -> tuple[Any, Any]:
    """Mean, shape (n, r), and covariance, shape (n, r, r), of the functions of a mode at positions x, in any order."""
    every = jnp.concatenate([positions, x])
    order = jnp.argsort(every, stable=True)
    information, precision = (
        jnp.concatenate([part, jnp.zeros((len(x), *part.shape[1:]), part.dtype)])[order]
        for part in (jnp.asarray(params["information"]), jnp.asarray(params["precision"]))
    )
    kernel = Kernel(params["lengthscale"], params.get("constant"), params["variances"])
    found = smooth(state_space_prior(p, kernel, every[order]), information, precision)
    back = jnp.argsort(order)[len(positions) :]
    return found.mean[back], found.covariance[back]
