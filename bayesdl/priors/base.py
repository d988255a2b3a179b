"""What a prior over the weights of a network is."""

from __future__ import annotations

import abc
import copy
import dataclasses
import math
from typing import Any, ClassVar

from bayesdl.model.language import Language


@dataclasses.dataclass(frozen=True)
class WeightArray:
    """One array of weights of a network.

    Attributes:
        name: of its site, e.g. "layer0.weight".
        shape: (fan_out, fan_in, ...) for weights.
        fan_in: inputs summed by one unit.
        layer: number of the layer, from 0.
        is_bias: whether it is added rather than multiplied.
        gain: by which the network multiplies it.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    layer: int
    is_bias: bool
    gain: float = 1.0


class AbstractPrior(abc.ABC):
    """A distribution over the weights of a network.

    Attributes:
        scale_per_array: whether the weights of an array are normal with one scale, which is fixed or a site.
        in_pyro: whether Pyro can draw it too.
        positives: names of the fields that hold positive numbers, one or one per layer, and may be traced.
    """

    scale_per_array: ClassVar[bool] = False
    in_pyro: ClassVar[bool] = True
    positives: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Any]:
        """Draws all arrays of weights inside a program, by name."""

    def check(  # noqa: B027 (a prior without this method fits every network)
        self, num_layers: int, activation: str | None = None
    ) -> None:
        """Refuses a network that the prior does not fit.

        Args:
            num_layers: with the output layer.
            activation: of all hidden layers; None where that is not known.

        Raises:
            ModelError: saying what would fit.
        """

    def weight_site(self, array: WeightArray) -> str:
        """The latent site in which the weights are linear given all other sites."""
        return array.name


class AbstractArrayPrior(AbstractPrior):
    """A prior that draws each array by itself."""

    @abc.abstractmethod
    def draw(self, array: WeightArray, lang: Language) -> Any:
        """Draws one array of weights inside a program."""

    def draws(self, arrays: tuple[WeightArray, ...], lang: Language) -> dict[str, Any]:
        return {array.name: self.draw(array, lang) for array in arrays}


def check_positive(prior: AbstractPrior, *names: str) -> None:
    """Refuses settings that are not positive numbers, or tuples of them."""
    for name in names:
        value = getattr(prior, name)
        for entry in value if isinstance(value, tuple) else (value,):
            if not (isinstance(entry, int | float) and 0 < entry < math.inf):
                raise ValueError(
                    f"{type(prior).__name__}({name}={value!r}): expected positive numbers."
                )


def replace_fields(spec: Any, fields: dict[str, Any]) -> Any:
    """A frozen dataclass with other fields, unchecked, as traced values cannot be."""
    made = copy.copy(spec)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def split_numbers(spec: Any, names: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """A spec with None for those of its fields that hold numbers, and these."""
    values = {name: getattr(spec, name) for name in names}
    numbers = {
        name: value for name, value in values.items() if isinstance(value, int | float | tuple)
    }
    return replace_fields(spec, dict.fromkeys(numbers)), numbers


def count_layers(arrays: tuple[WeightArray, ...]) -> int:
    """Layers of a network, the output layer included."""
    return 1 + max(array.layer for array in arrays)


def sample_scaled(array: WeightArray, scale: Any, lang: Language) -> Any:
    """Scale times z, z ~ N(0, 1), as a site of z and a deterministic one."""
    raw = lang.sample(f"{array.name}.raw", iid(lang.dist.Normal(0.0, 1.0), array))
    return lang.deterministic(array.name, scale * raw)


def iid(law: Any, array: WeightArray) -> Any:
    return law.expand(array.shape).to_event(len(array.shape))
