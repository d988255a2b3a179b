"""A change of kernels along one input.

    k(x, x') = (1 - s(x)) k_before(x, x') (1 - s(x')) + s(x) k_after(x, x') s(x'),
    s(x) = sigmoid((x_d - location) / width)

(Lloyd et al. 2014, arXiv:1402.4304): f = (1 - s) f_before + s f_after, of independent functions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpyro.distributions as dist

from bayesdl.data.validation import ModelError
from bayesdl.gp.hyperparameters import Draw, as_array, check_hyperparameter
from bayesdl.gp.kernels import AbstractKernel, Kernel, as_kernel
from bayesdl.model.registry import register_spec


@register_spec("kernels.Changepoint")
@dataclasses.dataclass(frozen=True, repr=False)
class Changepoint(AbstractKernel):
    """One kernel before a place, another one after it.

    Args:
        before: the kernel for inputs far below the location.
        after: the kernel for inputs far above it.
        location: the place of the change: a number, a prior, or None for N(0, 1).
        width: the width of the change: a number, a prior, or None for LogNormal(-1, 1).
        column: the number of the input along which the kernel changes.

    Example:
        >>> from bayesdl.gp.kernels import RBF, Matern12
        >>> Changepoint(RBF(), Matern12(), location=0.5)
        Changepoint(before=RBF(), after=Matern12(), location=0.5)
    """

    before: AbstractKernel
    after: AbstractKernel
    location: Any = None
    width: Any = None
    column: int = 0

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            object.__setattr__(self, name, as_kernel(getattr(self, name)))
        check_hyperparameter(self, "width")
        at = self.location
        number = isinstance(at, int | float) and not isinstance(at, bool) and math.isfinite(at)
        if not (number or at is None or isinstance(at, dist.Distribution)):
            raise ValueError(
                f"Changepoint(location={at!r}): expected a finite number, a NumPyro distribution, "
                "or None."
            )
        if self.column < 0:
            raise ValueError(f"Changepoint(column={self.column}): expected 0 or more.")

    @property
    def ignores_zero_columns(self) -> bool:
        parts = (self.before, self.after)
        return self.column == 0 and all(part.ignores_zero_columns for part in parts)

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.matrices import Change

        if self.column >= num_inputs:
            raise ModelError(
                f"Changepoint(column={self.column}): the model has {num_inputs} inputs, the last "
                f"is column {num_inputs - 1}."
            )
        before = self.before.build(draw, f"{prefix}before.", num_inputs)
        after = self.after.build(draw, f"{prefix}after.", num_inputs)
        location = draw(f"{prefix}location", self.location, dist.Normal(0.0, 1.0), ())
        width = draw(f"{prefix}width", self.width, dist.LogNormal(-1.0, 1.0), ())
        return Change(before, after, as_array(location), as_array(width), self.column)
