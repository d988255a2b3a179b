"""Weight priors with given settings, the same for weights and biases."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from bayesdl.data.validation import ModelError
from bayesdl.model.language import Language, Tensor
from bayesdl.priors.base import AbstractArrayPrior, WeightArray, iid, sample_scaled
from bayesdl.typing import ScaleFamily
from inference.settings import check_positive


@dataclasses.dataclass(frozen=True)
class Gaussian(AbstractArrayPrior):
    """w ~ N(0, s^2), with s one number, one per layer, or divided by sqrt(fan_in).

    Args:
        scale: the standard deviation s of weights and biases; a tuple gives one per layer.
        fan_in: whether the scale of weights (not of biases) is divided by sqrt(fan_in); for
            networks with standard scaling.

    Example:
        >>> Gaussian((2.0, 1.0)).scale
        (2.0, 1.0)
    """

    scale: float | tuple[float, ...] = 1.0
    fan_in: bool = False
    scale_per_array: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = ("scale",)

    def __post_init__(self) -> None:
        if isinstance(self.scale, list):
            object.__setattr__(self, "scale", tuple(self.scale))
        check_positive(self, "scale")

    def check(self, num_layers: int, activation: str | None = None) -> None:
        if isinstance(self.scale, tuple) and len(self.scale) != num_layers:
            raise ModelError(
                f"Gaussian(scale={self.scale}) gives {len(self.scale)} scales and the network has "
                f"{num_layers} layers; give one scale per layer, the output layer included."
            )

    def fixed_scale(self, array: WeightArray) -> Tensor | float:
        scale = self.scale[array.layer] if isinstance(self.scale, tuple) else self.scale
        return scale / math.sqrt(array.fan_in) if self.fan_in and not array.is_bias else scale

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        return lang.sample(array.name, iid(lang.dist.Normal(0.0, self.fixed_scale(array)), array))


@dataclasses.dataclass(frozen=True)
class Laplace(AbstractArrayPrior):
    """w ~ Laplace(0, b): sharper at zero and heavier in the tails than a normal distribution.

    The density is exp(-|w| / b) / (2 b).

    Args:
        scale: b of weights and biases.

    Example:
        >>> Laplace(scale=0.7).scale
        0.7
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "scale")

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        return lang.sample(array.name, iid(lang.dist.Laplace(0.0, self.scale), array))


@dataclasses.dataclass(frozen=True)
class StudentT(AbstractArrayPrior):
    """w ~ t_df(0, s): heavy tails (Fortuin et al. 2021, arXiv:2102.06571).

    Args:
        df: the degrees of freedom of weights and biases.
        scale: the scale s of weights and biases.

    Example:
        >>> StudentT(df=3.0).df
        3.0
    """

    df: float = 4.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "df", "scale")

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        return lang.sample(array.name, iid(lang.dist.StudentT(self.df, 0.0, self.scale), array))


@dataclasses.dataclass(frozen=True)
class Horseshoe(AbstractArrayPrior):
    """w = tau lambda z, z ~ N(0, 1), lambda ~ C+(0, 1) per weight, tau ~ C+(0, global_scale).

    There is one tau per layer, and biases are N(0, 1). Most weights are shrunk to zero and a few
    are left free (Carvalho, Polson and Scott 2010). The program is written non-centred.

    Args:
        global_scale: the scale of tau.

    Example:
        >>> Horseshoe(global_scale=0.1).global_scale
        0.1
    """

    global_scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "global_scale")

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        if array.is_bias:
            return lang.sample(array.name, iid(lang.dist.Normal(0.0, 1.0), array))
        tau = lang.sample(f"{array.name}.global", lang.dist.HalfCauchy(self.global_scale))
        local = lang.sample(f"{array.name}.local", iid(lang.dist.HalfCauchy(1.0), array))
        raw = lang.sample(f"{array.name}.raw", iid(lang.dist.Normal(0.0, 1.0), array))
        return lang.deterministic(array.name, tau * local * raw)

    def weight_site(self, array: WeightArray) -> str:
        return array.name if array.is_bias else f"{array.name}.raw"

    def is_scale(self, site: str) -> bool:
        return site.endswith(".global")


@dataclasses.dataclass(frozen=True)
class Hierarchical(AbstractArrayPrior):
    """w = s z, z ~ N(0, 1), with one unknown scale s for each layer's weights, one for its biases.

    Args:
        family: "half_normal", s ~ N+(0, scale^2), or "inverse_gamma",
            s^2 ~ InvGamma(concentration, rate).
        scale: the scale of the half-normal distribution of s.
        concentration: the concentration of the inverse gamma distribution of s^2.
        rate: the rate of the inverse gamma distribution of s^2.

    Example:
        >>> Hierarchical("inverse_gamma", concentration=2.0).concentration
        2.0
    """

    family: ScaleFamily = "half_normal"
    scale: float = 1.0
    concentration: float = 1.0
    rate: float = 1.0
    scale_per_array: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self, "scale", "concentration", "rate")
        if self.family not in ("half_normal", "inverse_gamma"):
            raise ValueError(
                f"Hierarchical(family={self.family!r}): expected 'half_normal' or 'inverse_gamma'."
            )

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        if self.family == "half_normal":
            scale = lang.sample(f"{array.name}.scale", lang.dist.HalfNormal(self.scale))
        else:
            variance = lang.sample(
                f"{array.name}.variance", lang.dist.InverseGamma(self.concentration, self.rate)
            )
            scale = variance**0.5
        return sample_scaled(array, scale, lang)

    def weight_site(self, array: WeightArray) -> str:
        return f"{array.name}.raw"

    def is_scale(self, site: str) -> bool:
        return site.endswith((".scale", ".variance"))
