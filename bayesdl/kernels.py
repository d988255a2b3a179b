"""Kernels k(x, x') of Gaussian processes: `bayesdl.kernels.RBF()` and the like.

Kernels add and multiply: `RBF() + Periodic() * Linear()`, `0.5 * RBF() + 1.0`.
"""

from bayesdl.gp.changepoint import Changepoint
from bayesdl.gp.fractional import FractionalBrownian
from bayesdl.gp.kernels import (
    RBF,
    Constant,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    Product,
    Sum,
    TinyGP,
)
from bayesdl.gp.spectral_mixture import SpectralMixture
from bayesdl.gp.wide.network import WideNetwork

__all__ = [
    "RBF",
    "Changepoint",
    "Constant",
    "FractionalBrownian",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Periodic",
    "Product",
    "SpectralMixture",
    "Sum",
    "TinyGP",
    "WideNetwork",
]
