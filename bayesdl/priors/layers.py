"""Normal weights with a scale for the weights and one for the biases of each layer."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, TypeAlias

from bayesdl.model.language import Language, LanguageDistribution, Tensor
from bayesdl.priors.base import AbstractArrayPrior, WeightArray, iid, sample_scaled
from bayesdl.priors.family import AbstractFamily, value_of_layer

Numbers: TypeAlias = float | tuple[float, ...]


class AbstractLayerFamily(AbstractFamily, AbstractArrayPrior):
    """A family around normal weights with fixed scales, whose wide-network kernel is known."""

    @abc.abstractmethod
    def with_fixed_scales(self) -> LayerGaussian:
        """Return the prior with fixed scales from which a search for the nearest one starts."""

    @abc.abstractmethod
    def centred_at(self, fixed: LayerGaussian) -> AbstractLayerFamily:
        """Return the member around a prior with one scale per layer.

        Args:
            fixed: the prior whose scales s, one per layer, are the centre.
        """


@dataclasses.dataclass(frozen=True)
class LayerGaussian(AbstractLayerFamily):
    """W_l ~ N(0, weight_l^2), b_l ~ N(0, bias_l^2) in layer l.

    Args:
        weight: the standard deviation of the weights; a tuple gives one per layer, the output
            layer included.
        bias: the standard deviation of the biases; a tuple gives one per layer.

    Example:
        >>> print(LayerGaussian(weight=(2.2, 1.1), bias=(4.4, 0.3)))
        layer   weight     bias
            0      2.2      4.4
            1      1.1      0.3
    """

    weight: Numbers = 1.0
    bias: Numbers = 1.0
    scale_per_array: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def scale(self, array: WeightArray) -> Tensor | float:
        """Return the standard deviation of an array of weights."""
        return value_of_layer(self.bias if array.is_bias else self.weight, array.layer)

    def fixed_scale(self, array: WeightArray) -> Tensor | float:
        return self.scale(array)

    def with_fixed_scales(self) -> LayerGaussian:
        return self

    def centred_at(self, fixed: LayerGaussian) -> LayerGaussian:
        """Return the other prior, whose scales are all that there is."""
        return fixed

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        return lang.sample(array.name, iid(lang.dist.Normal(0.0, self.scale(array)), array))


@dataclasses.dataclass(frozen=True)
class LayerHierarchical(AbstractLayerFamily):
    """W_l = s_l z, z ~ N(0, 1), s_l^2 ~ InvGamma(concentration_l, rate_l); biases likewise.

    Each function has its own scales, so functions are heavy-tailed: concentrations near 1 give
    functions of very different sizes, large ones a normal prior with s^2 near
    rate / concentration.

    Args:
        weight_concentration: the concentration of the variance of the weights; a tuple gives one
            per layer.
        weight_rate: the rate of the variance of the weights.
        bias_concentration: the concentration of the variance of the biases.
        bias_rate: the rate of the variance of the biases.

    Example:
        >>> LayerHierarchical(weight_concentration=(2.0, 5.0)).weight_concentration
        (2.0, 5.0)
    """

    weight_concentration: Numbers = 3.0
    weight_rate: Numbers = 3.0
    bias_concentration: Numbers = 3.0
    bias_rate: Numbers = 3.0
    scale_per_array: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = (
        "weight_concentration",
        "weight_rate",
        "bias_concentration",
        "bias_rate",
    )

    def variance_distribution(self, array: WeightArray, lang: Language) -> LanguageDistribution:
        """Return the distribution of the variance of an array of weights."""
        kind = "bias" if array.is_bias else "weight"
        numbers = (
            value_of_layer(getattr(self, f"{kind}_{name}"), array.layer)
            for name in ("concentration", "rate")
        )
        return lang.dist.InverseGamma(*numbers)

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        variance = lang.sample(f"{array.name}.variance", self.variance_distribution(array, lang))
        return sample_scaled(array, variance**0.5, lang)

    def weight_site(self, array: WeightArray) -> str:
        return f"{array.name}.raw"

    def is_scale(self, site: str) -> bool:
        return site.endswith(".variance")

    def with_fixed_scales(self) -> LayerGaussian:
        return LayerGaussian()

    def centred_at(self, fixed: LayerGaussian) -> LayerHierarchical:
        """Return a copy with the same concentrations around the variances of a `LayerGaussian`.

        The new rates satisfy rate / concentration = s^2.

        Args:
            fixed: the prior whose scales s, one per layer, are the centre.
        """
        rates = {
            f"{kind}_rate": tuple(
                s**2 * value_of_layer(getattr(self, f"{kind}_concentration"), layer)
                for layer, s in enumerate(getattr(fixed, kind))
            )
            for kind in ("weight", "bias")
        }
        return dataclasses.replace(self, **rates)
