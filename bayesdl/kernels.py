"""Kernels k(x, x') of Gaussian processes: `bayesdl.kernels.RBF()` and the like."""

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
from bayesdl.gp.wide_network import WideNetwork

__all__ = [
    "RBF",
    "Constant",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Periodic",
    "Product",
    "Sum",
    "TinyGP",
    "WideNetwork",
]
