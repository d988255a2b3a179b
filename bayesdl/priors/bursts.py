"""A prior under which large weights are few and lie side by side."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from bayesdl.model.language import Language, Tensor
from bayesdl.priors.base import AbstractArrayPrior, WeightArray, iid
from inference.distributions import bursts
from inference.settings import check_positive


@dataclasses.dataclass(frozen=True)
class Bursts(AbstractArrayPrior):
    """Student-t weights with two scales, the large one in bursts along each unit's inputs.

        s ~ Markov chain with P(s_i = 1) = share, bursts of ones having mean length `length`,
        w_i | s_i ~ t_df(0, slab) where s_i = 1 and t_df(0, spike) where s_i = 0

    Biases are N(0, 1). The supports s and the precisions of the weights are summed out, so all
    engines but Pyro's see the weights alone. With `bdl.SSVI(removal="support")` the weights that
    are least likely to be in the support are exchanged, and others grow where the support is
    likely. Reference: Xia, Tsang and Lau (2023), Turbo-VBI, arXiv:2302.10483.

    Args:
        slab: the scale of large weights.
        spike: the scale of all other weights, smaller than the slab.
        share: the share of large weights, below 1.
        length: the mean length of a burst, in inputs; at least 1 / (1 - share), where the
            weights are independent.
        df: the degrees of freedom, above 2.
        fan_in: whether both scales are divided by sqrt(fan_in); for networks with standard
            scaling.

    Example:
        >>> Bursts(share=0.1, length=8.0).spike
        0.05
    """

    slab: float = 1.0
    spike: float = 0.05
    share: float = 0.2
    length: float = 4.0
    df: float = 4.0
    fan_in: bool = False
    in_pyro: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, "slab", "spike", "share", "length", "df")
        if not self.spike < self.slab:
            raise ValueError(
                f"Bursts(slab={self.slab}, spike={self.spike}): expected a spike that is narrower "
                "than the slab."
            )
        if not self.share < 1:
            raise ValueError(f"Bursts(share={self.share}): expected a number below 1.")
        if not self.df > 2:
            raise ValueError(
                f"Bursts(df={self.df}): expected a number above 2, so that weights have a variance."
            )
        if self.length * (1 - self.share) < 1 - 1e-12:
            least = 1 / (1 - self.share)
            raise ValueError(
                f"Bursts(length={self.length}): expected at least 1 / (1 - share) = {least:.3g}."
            )

    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        if array.is_bias:
            return lang.sample(array.name, iid(lang.dist.Normal(0.0, 1.0), array))
        gain = 1 / math.sqrt(array.fan_in) if self.fan_in else 1.0
        numbers = self.slab * gain, self.spike * gain, self.share, self.length, self.df
        return lang.sample(array.name, bursts.Bursts(*numbers, array.shape))
