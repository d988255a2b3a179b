"""Networks f(x; w) as plain functions of their weights.

A network lists its arrays of weights, and maps a dictionary of them and rows X to outputs.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.data.validation import ModelError
from bayesdl.model.language import NUMPYRO, Language, Tensor
from bayesdl.priors import WeightArray
from bayesdl.typing import Activation, Scaling
from inference.core.structure import AbstractProduct, PlainProduct
from inference.process.memory import require_memory, size_of
from inference.renaming import warn_renamed
from inference.settings import AbstractSettings, is_whole

PLAIN = PlainProduct()
ACTIVATIONS = tuple(NUMPYRO.activations)
SCALINGS = ("ntk", "standard")


class AbstractNetwork(AbstractSettings, abc.ABC):
    """A function f(x; w) with named weights.

    Attributes:
        activation: the activation of all hidden layers; None where they have no common one.
        multiplies: whether all weights that are not biases are used through `product`.
        lookups: names of the weights whose rows are looked up, instead of multiplying by them.
    """

    activation: Activation | None = None
    multiplies: bool = False
    lookups: tuple[str, ...] = ()

    @abc.abstractmethod
    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        """List the arrays of weights."""

    def leaves(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        """Call `weight_arrays` under its former name."""
        warn_renamed("network.leaves", "network.weight_arrays")
        return self.weight_arrays(num_inputs, num_outputs)

    @abc.abstractmethod
    def apply(
        self,
        weights: dict[str, Tensor],
        X: Tensor,
        lang: Language,
        product: AbstractProduct = PLAIN,
    ) -> Tensor:
        """Return the outputs, shape (rows, num_outputs).

        Args:
            weights: the arrays of weights by name.
            X: the rows of inputs.
            lang: the modelling language, whose activations are used.
            product: how to multiply by the weights.
        """


def check_num_outputs(
    net: AbstractNetwork,
    arrays: tuple[WeightArray, ...],
    X: Tensor | np.ndarray,
    num_outputs: int,
    what: str,
) -> None:
    """Refuse a network with another number of outputs than is needed.

    Args:
        net: the network.
        arrays: its arrays of weights.
        X: rows of inputs.
        num_outputs: the number of outputs that is needed.
        what: what the outputs are for, in words.

    Raises:
        ModelError: saying both numbers, and what the outputs are for.
    """
    require_memory(
        size_of(array.shape for array in arrays),
        f"{net} with {len(arrays)} arrays of weights",
        "take a smaller network",
    )
    # shapes alone: nothing of the size of the network is made
    weights = {array.name: jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in arrays}
    shape = jax.eval_shape(lambda weights, X: net.apply(weights, X, NUMPYRO), weights, X).shape
    if shape[1] != num_outputs:
        raise ModelError(f"The network has {shape[1]} outputs, expected {num_outputs} for {what}.")


@dataclasses.dataclass(frozen=True)
class MLP(AbstractNetwork):
    """A multilayer perceptron.

    Each layer computes W h / sqrt(fan_in) + b with NTK scaling, otherwise W h + b.

    Attributes:
        hidden: the widths of the hidden layers; () is a linear model.
        activation: the activation of all hidden layers.
        scaling: "ntk" or "standard".
    """

    hidden: tuple[int, ...] = (50,)
    activation: Activation = "tanh"
    scaling: Scaling = "ntk"
    multiplies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not all(map(is_whole, self.hidden)):
            raise ValueError(
                f"hidden={self.hidden!r}: expected a tuple of positive integers, "
                "e.g. (50,) or (50, 50)."
            )
        if self.activation not in ACTIVATIONS:
            allowed = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"activation={self.activation!r}: expected one of {allowed}.")
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling={self.scaling!r}: expected 'ntk' or 'standard'.")

    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        widths = (num_inputs, *self.hidden, num_outputs)
        arrays = []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            name, gain = f"layer{layer}", self.gain(fan_in)
            weight_shape = (fan_out, fan_in)
            arrays.append(WeightArray(f"{name}.weight", weight_shape, fan_in, layer, False, gain))
            arrays.append(WeightArray(f"{name}.bias", (fan_out,), fan_in, layer, True))
        return tuple(arrays)

    def apply(
        self,
        weights: dict[str, Tensor],
        X: Tensor,
        lang: Language,
        product: AbstractProduct = PLAIN,
    ) -> Tensor:
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

    # torch's tracer gives sizes as tensors, so that fan_in need not be an integer
    def gain(self, fan_in: Tensor | int) -> float:
        """Return the scaling factor of a layer: 1/sqrt(fan_in) under NTK scaling, else 1."""
        return 1.0 / math.sqrt(fan_in) if self.scaling == "ntk" else 1.0
