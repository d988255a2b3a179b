"""Normal weights with a scale for the weights and one for the biases of each layer, fixed or random."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from bayesdl.model.language import Language
from bayesdl.priors.base import AbstractLeafPrior, Leaf, iid, scaled
from bayesdl.priors.family import AbstractFamily, per_layer

Numbers = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class LayerGaussian(AbstractFamily, AbstractLeafPrior):
    """W_l ~ N(0, weight_l^2), b_l ~ N(0, bias_l^2) in layer l.

    Args:
        weight: standard deviation of the weights; a tuple gives one per layer, the output layer included.
        bias: the same of the biases.

    Example:
        >>> print(LayerGaussian(weight=(2.2, 1.1), bias=(4.4, 0.3)))
        layer   weight     bias
            0      2.2      4.4
            1      1.1      0.3
    """

    weight: Numbers = 1.0
    bias: Numbers = 1.0
    scale_per_leaf: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def scale(self, leaf: Leaf) -> Any:
        """The standard deviation of an array of weights."""
        return per_layer(self.bias if leaf.is_bias else self.weight, leaf.layer)

    def draw(self, leaf: Leaf, lang: Language) -> Any:
        return lang.sample(leaf.name, iid(lang.dist.Normal(0.0, self.scale(leaf)), leaf))


@dataclasses.dataclass(frozen=True)
class LayerHierarchical(AbstractFamily, AbstractLeafPrior):
    """W_l = s_l z, z ~ N(0, 1), s_l^2 ~ InvGamma(concentration_l, rate_l); the same for the biases.

    Each function has scales of its own, so functions are heavy-tailed: concentrations near 1 give very different sizes,
    large ones a normal prior with s^2 near rate / concentration.

    Args:
        weight_concentration: of the variance of the weights; a tuple gives one per layer.
        weight_rate: of the same.
        bias_concentration: of the variance of the biases.
        bias_rate: of the same.

    Example:
        >>> LayerHierarchical(weight_concentration=(2.0, 5.0)).weight_concentration
        (2.0, 5.0)
    """

    weight_concentration: Numbers = 3.0
    weight_rate: Numbers = 3.0
    bias_concentration: Numbers = 3.0
    bias_rate: Numbers = 3.0
    scale_per_leaf: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = (
        "weight_concentration",
        "weight_rate",
        "bias_concentration",
        "bias_rate",
    )

    def variance_law(self, leaf: Leaf, lang: Language) -> Any:
        """The distribution of the variance of an array of weights."""
        kind = "bias" if leaf.is_bias else "weight"
        numbers = (
            per_layer(getattr(self, f"{kind}_{name}"), leaf.layer)
            for name in ("concentration", "rate")
        )
        return lang.dist.InverseGamma(*numbers)

    def draw(self, leaf: Leaf, lang: Language) -> Any:
        variance = lang.sample(f"{leaf.name}.variance", self.variance_law(leaf, lang))
        return scaled(leaf, variance**0.5, lang)

    def weight_site(self, leaf: Leaf) -> str:
        return f"{leaf.name}.raw"

    def centred(self, gaussian: LayerGaussian) -> LayerHierarchical:
        """The same concentrations around the variances of a `LayerGaussian`: rate / concentration = s^2."""
        rates = {
            f"{kind}_rate": tuple(
                s**2 * per_layer(getattr(self, f"{kind}_concentration"), layer)
                for layer, s in enumerate(getattr(gaussian, kind))
            )
            for kind in ("weight", "bias")
        }
        return dataclasses.replace(self, **rates)
