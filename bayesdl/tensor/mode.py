"""Modes of functional tensors: one index each, and the prior of its functions."""

from __future__ import annotations

import dataclasses
from typing import Any

from bayesdl.data.validation import ModelError
from bayesdl.gp import kernels
from inference.settings import AbstractSettings, is_whole

SMOOTHNESS = {kernels.Matern12: 0, kernels.Matern32: 1, kernels.Matern52: 2}


@dataclasses.dataclass(frozen=True)
class Mode(AbstractSettings):
    """One index of a functional tensor.

    Args:
        name: the name of its column.
        kernel: `kernels.Matern12`, `Matern32` or `Matern52`, alone or plus a `Constant`. A length
            scale is in units of the index; None learns it, with prior
            LogNormal(log(range / 10), 1.5). A variance of None is 1.
        rank: the number of functions.

    Example:
        >>> kernel = kernels.Matern12(lengthscale=2.0) + kernels.Constant(1.0)
        >>> Mode("day", kernel, rank=3).smoothness
        0
    """

    name: str
    kernel: Any = kernels.Matern32()
    rank: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"Mode(name={self.name!r}): expected the name of a column.")
        if not is_whole(self.rank):
            raise ValueError(f"Mode(rank={self.rank!r}): expected a whole number of at least 1.")
        parts = self.kernel.parts if isinstance(self.kernel, kernels.Sum) else (self.kernel,)
        kinds = [type(part) for part in parts]
        if (
            kinds[:1] == []
            or kinds[0] not in SMOOTHNESS
            or kinds[1:] not in ([], [kernels.Constant])
        ):
            raise ModelError(
                f"Mode(kernel={self.kernel!r}): expected kernels.Matern12, Matern32 or Matern52, "
                "alone or plus kernels.Constant."
            )
        if isinstance(self.matern.lengthscale, tuple):
            raise ModelError(
                f"Mode(kernel={self.kernel!r}): a mode has one index, so one length scale: give a "
                "kernel for each mode."
            )
        if self.matern.ard:
            raise ModelError(
                f"Mode(kernel={self.kernel!r}): a mode has one index, so ard=True has no meaning; "
                "leave it out."
            )

    @property
    def matern(self) -> Any:
        """The Matern kernel."""
        return self.kernel.parts[0] if isinstance(self.kernel, kernels.Sum) else self.kernel

    @property
    def constant(self) -> Any:
        """The constant kernel, or None."""
        return self.kernel.parts[1] if isinstance(self.kernel, kernels.Sum) else None

    @property
    def smoothness(self) -> int:
        """The number of times that its functions can be differentiated."""
        return SMOOTHNESS[type(self.matern)]
