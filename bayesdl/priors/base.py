"""The abstract prior over the weights of a network, and what all priors share."""

from __future__ import annotations

import abc
import copy
import dataclasses
from typing import Any, ClassVar, TypeVar

from bayesdl.model.language import Language, LanguageDistribution, Tensor
from inference.core.typing import Params
from inference.renaming import warn_renamed
from inference.settings import AbstractSettings

Spec = TypeVar("Spec")


@dataclasses.dataclass(frozen=True)
class WeightArray:
    """The description of one array of weights of a network.

    Attributes:
        name: the name of the array's site, e.g. "layer0.weight".
        shape: the shape of the array, (fan_out, fan_in, ...) for weights.
        fan_in: the number of inputs that one unit sums.
        layer: the number of the layer, from 0.
        is_bias: whether the array is added rather than multiplied.
        gain: the factor by which the network multiplies the array.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    layer: int
    is_bias: bool
    gain: float = 1.0


class AbstractPrior(AbstractSettings, abc.ABC):
    """A distribution over the weights of a network.

    Attributes:
        scale_per_array: whether the weights of an array are normal with one scale, which is
            either fixed or a site of its own.
        in_pyro: whether Pyro can draw the prior too.
        positives: names of the fields that hold positive numbers, one or one per layer; they may
            be traced by JAX.
        instead_of_matching: what to do in place of `bdl.match_prior`, where a prior needs it not.
        tunable: whether `bdl.match_prior` can tune its numbers.
    """

    scale_per_array: ClassVar[bool] = False
    in_pyro: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = ()
    instead_of_matching: ClassVar[str] = ""
    tunable: ClassVar[bool] = False

    @property
    def scale_per_leaf(self) -> bool:
        """Return `scale_per_array` under its former name."""
        warn_renamed("prior.scale_per_leaf", "prior.scale_per_array")
        return self.scale_per_array

    def split_parameters(self, arrays: tuple[WeightArray, ...]) -> tuple[AbstractPrior, Params]:
        """Split the prior into what all of its kind share, and the numbers that can be tuned.

        Args:
            arrays: the network's arrays of weights.

        Returns:
            The prior as it is and None, where there is nothing to tune.
        """
        return self, None

    def with_params(self, parameters: Params) -> AbstractPrior:
        """Return the prior with these parameters, as `split_parameters` gives them."""
        return self

    @abc.abstractmethod
    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Tensor]:
        """Draw all arrays of weights inside a program, by name."""

    # not abstract: a prior without this method fits every network
    def check(self, num_layers: int, activation: str | None = None) -> None:
        """Refuse a network that the prior does not fit.

        Args:
            num_layers: the number of layers, the output layer included.
            activation: the activation of all hidden layers; None where it is not known.

        Raises:
            ModelError: saying what would fit.
        """

    def weight_site(self, array: WeightArray) -> str:
        """Return the latent site in which the weights are linear given all other sites."""
        return array.name

    def fixed_scale(self, array: WeightArray) -> Tensor | float | None:
        """Return the standard deviation of normal weights where it is a number, otherwise None."""
        return None

    def is_scale(self, site: str) -> bool:
        """Whether a site is a scale of many weights, which data can identify."""
        return False


class AbstractArrayPrior(AbstractPrior):
    """A prior that draws each array independently of the others."""

    @abc.abstractmethod
    def draw(self, array: WeightArray, lang: Language) -> Tensor:
        """Draw one array of weights inside a program."""

    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Tensor]:
        return {array.name: self.draw(array, lang) for array in arrays}


def replace_fields(spec: Spec, fields: dict[str, Any]) -> Spec:
    """Return a frozen dataclass with other fields, unchecked, as JAX may trace their values."""
    made = copy.copy(spec)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def split_numbers(spec: Spec, names: tuple[str, ...]) -> tuple[Spec, dict[str, Any]]:
    """Split a spec into the spec with None in its numeric fields, and these numbers by name."""
    values = {name: getattr(spec, name) for name in names}
    numbers = {
        name: value for name, value in values.items() if isinstance(value, int | float | tuple)
    }
    return replace_fields(spec, dict.fromkeys(numbers)), numbers


def count_layers(arrays: tuple[WeightArray, ...]) -> int:
    """Count the layers of a network, the output layer included."""
    return 1 + max(array.layer for array in arrays)


def sample_scaled(array: WeightArray, scale: Tensor, lang: Language) -> Tensor:
    """Draw scale * z with z ~ N(0, 1), as a site of z and a deterministic site."""
    raw = lang.sample(f"{array.name}.raw", iid(lang.dist.Normal(0.0, 1.0), array))
    return lang.deterministic(array.name, scale * raw)


def iid(distribution: LanguageDistribution, array: WeightArray) -> LanguageDistribution:
    """Return the distribution of an array with independent entries of one distribution."""
    return distribution.expand(array.shape).to_event(len(array.shape))
