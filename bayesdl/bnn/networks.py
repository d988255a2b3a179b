"""Networks f(x; w) as plain functions of their weights.

A network lists its arrays of weights as arrays, and maps a dictionary of them and rows X to outputs.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bayesdl.data.validation import ModelError
from bayesdl.model.language import NUMPYRO, Language
from bayesdl.priors import WeightArray
from inference.core.structure import AbstractProduct, PlainProduct

PLAIN = PlainProduct()
ACTIVATIONS = tuple(NUMPYRO.activations)
SCALINGS = ("ntk", "standard")


class AbstractNetwork(abc.ABC):
    """A function f(x; w) with named weights.

    Attributes:
        activation: of all hidden layers; None where there is not one.
        multiplies: whether all weights that are not biases are used through `product`.
        lookups: names of weights of which rows are taken, instead of multiplying by them.
    """

    activation: str | None = None
    multiplies: bool = False
    lookups: tuple[str, ...] = ()

    @abc.abstractmethod
    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        """The arrays of weights."""

    @abc.abstractmethod
    def apply(
        self, weights: dict[str, Any], X: Any, lang: Language, product: AbstractProduct = PLAIN
    ) -> Any:
        """Outputs, shape (rows, num_outputs).

        Args:
            weights: by name.
            X: rows.
            lang: the modelling language.
            product: how to multiply by weights.
        """


def check_num_outputs(
    net: AbstractNetwork, arrays: tuple[WeightArray, ...], X: Any, num_outputs: int, what: str
) -> None:
    """Refuses a network with another number of outputs than is needed.

    Raises:
        ModelError: saying both, and what for.
    """
    weights = {array.name: jnp.zeros(array.shape) for array in arrays}
    shape = jax.eval_shape(lambda X: net.apply(weights, X, NUMPYRO), X).shape
    if shape[1] != num_outputs:
        raise ModelError(f"The network has {shape[1]} outputs, expected {num_outputs} for {what}.")


@dataclasses.dataclass(frozen=True)
class MLP(AbstractNetwork):
    """A multilayer perceptron; with NTK scaling each layer is W h / sqrt(fan_in) + b, otherwise W h + b."""

    hidden: tuple[int, ...] = (50,)
    activation: str = "tanh"
    scaling: str = "ntk"
    multiplies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if any(not isinstance(width, int) or width < 1 for width in self.hidden):
            raise ValueError(
                f"hidden={self.hidden!r}: expected a tuple of positive integers, e.g. (50,) or (50, 50)."
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r}: expected one of {', '.join(map(repr, ACTIVATIONS))}."
            )
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling={self.scaling!r}: expected 'ntk' or 'standard'.")

    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        widths = (num_inputs, *self.hidden, num_outputs)
        arrays = []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            arrays.append(
                WeightArray(
                    f"layer{layer}.weight",
                    (fan_out, fan_in),
                    fan_in,
                    layer,
                    False,
                    self.gain(fan_in),
                )
            )
            arrays.append(WeightArray(f"layer{layer}.bias", (fan_out,), fan_in, layer, True))
        return tuple(arrays)

    def apply(
        self, weights: dict[str, Any], X: Any, lang: Language, product: AbstractProduct = PLAIN
    ) -> Any:
        activate, depth = lang.activations[self.activation], len(self.hidden)
        h = X
        for layer in range(depth + 1):
            name = f"layer{layer}.weight"
            h = (
                product(name, h, weights[name]) * self.gain(h.shape[-1])
                + weights[f"layer{layer}.bias"][None, :]
            )
            h = activate(h) if layer < depth else h
        return h

    def gain(self, fan_in: Any) -> Any:
        """By which a layer's sum is multiplied; torch's tracer gives sizes as tensors."""
        return 1.0 / math.sqrt(fan_in) if self.scaling == "ntk" else 1.0
