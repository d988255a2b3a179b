"""The spectral prior: sine features whose frequencies follow a kernel's spectral density.

    f(x) = sqrt(2 variance / H) sum_h v_h sin(omega_h . x + b_h),    v ~ N(0, 1), b ~ U(0, 2 pi)

has covariance variance E[cos(omega . (x - x'))] = k(x, x') for any width H, and is normal as H
grows (Rahimi and Recht 2007; Meronen, Trapp and Solin 2021, arXiv:2110.13572). For the RBF kernel
omega_d lengthscale_d is N(0, 1). For the Matern kernel of order nu it is Student's t with 2 nu
degrees of freedom, whose mixing variable is shared by the inputs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from bayesdl.data.validation import ModelError
from bayesdl.gp import kernels
from bayesdl.gp.hyperparameters import as_array, sample_hyperparameter
from bayesdl.model.language import NUMPYRO, Language, Tensor
from bayesdl.priors.base import AbstractPrior, WeightArray, iid

MATERN_ORDERS = {
    kernels.RBF: math.inf,
    kernels.Matern12: 0.5,
    kernels.Matern32: 1.5,
    kernels.Matern52: 2.5,
}


@dataclasses.dataclass(frozen=True)
class Spectral(AbstractPrior):
    """The prior of `BNN(hidden=(H,), activation="sine")` that follows a stationary kernel.

    Nothing needs to be optimised.

    Args:
        kernel: an RBF or Matern kernel of `bayesdl.kernels`; settings of it that are not numbers
            are hyperparameters, drawn for each function.

    Example:
        >>> Spectral(kernels.RBF(lengthscale=0.6, variance=1.0)).kernel.lengthscale
        0.6
    """

    kernel: kernels.AbstractStationary = kernels.RBF()
    in_pyro: ClassVar[bool] = False
    instead_of_matching: ClassVar[str] = (
        "Spectral follows its kernel without matching: take "
        "model.with_prior(bdl.priors.Spectral(kernel)), and bdl.prior_report to see how near it is "
        "at this width."
    )

    def __post_init__(self) -> None:
        if type(self.kernel) not in MATERN_ORDERS:
            raise ValueError(
                f"Spectral(kernel={type(self.kernel).__name__}): expected RBF or a Matern kernel."
            )

    def check(self, num_layers: int, activation: str | None = None) -> None:
        if num_layers != 2 or activation != "sine":
            raise ModelError(
                "Spectral is a prior for one hidden layer of sines, and the network has "
                f"{num_layers - 1} hidden layers of {activation!r}: take "
                "bdl.BNN(hidden=(100,), activation='sine', ...)."
            )

    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Tensor]:
        if lang is not NUMPYRO:
            raise ModelError("Spectral is a NumPyro prior: take an engine other than Pyro's.")
        inner, phase, outer, offset = arrays
        lengthscale, variance = self.kernel.hyperparameters(
            sample_hyperparameter, "kernel.", inner.fan_in
        )
        units = inner.shape[0]
        omega = lang.sample(
            f"{inner.name}.raw", iid(lang.dist.Normal(0.0, 1.0), inner)
        ) / lengthscale.reshape(1, -1)
        order = MATERN_ORDERS[type(self.kernel)]
        if order < math.inf:
            mix = lang.sample(
                f"{inner.name}.mix", lang.dist.Gamma(order, order).expand((units,)).to_event(1)
            )
            omega = omega / mix[:, None] ** 0.5
        raw = lang.sample(f"{outer.name}.raw", iid(lang.dist.Normal(0.0, 1.0), outer))
        size = (2 * variance / units) ** 0.5 / outer.gain
        return {
            inner.name: lang.deterministic(inner.name, omega / inner.gain),
            phase.name: lang.sample(phase.name, iid(lang.dist.Uniform(0.0, 2 * math.pi), phase)),
            outer.name: lang.deterministic(outer.name, size * raw),
            offset.name: lang.deterministic(offset.name, as_array([0.0] * offset.shape[0])),
        }

    def weight_site(self, array: WeightArray) -> str:
        return array.name if array.is_bias else f"{array.name}.raw"

    def is_scale(self, site: str) -> bool:
        return site.startswith("kernel.")
