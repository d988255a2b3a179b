"""Functional tensors (FunBaT): the spec, its NumPyro program, and what a fitted tensor can do.

bayesdl.tensor.mode(post, "day").predict(x)
post = bayesdl.tensor.update(post, X, y)
"""

from bayesdl.tensor.fitted import FittedMode, LatentFunctions, mode, modes, update
from bayesdl.tensor.spec import FunBaT, Mode

__all__ = ["FittedMode", "FunBaT", "LatentFunctions", "Mode", "mode", "modes", "update"]
