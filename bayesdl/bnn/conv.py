"""Convolutional networks: 3x3 convolutions, plain or residual, without learned normalisation."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp

from bayesdl.bnn.networks import ACTIVATIONS, PLAIN, AbstractNetwork
from bayesdl.data.validation import ModelError
from bayesdl.model.language import Language, Tensor
from bayesdl.priors import WeightArray
from bayesdl.typing import Activation
from inference.core.structure import AbstractProduct
from inference.settings import is_whole


@dataclasses.dataclass(frozen=True)
class ConvNet(AbstractNetwork):
    """Stages of a 3x3 convolution, an activation and 2x2 average pooling, then a linear layer.

    Each layer is divided by sqrt(fan_in), as with `BNN(scaling="ntk")`; the fan-in of a
    convolution is 9 times the number of its input channels.

    Args:
        image: the shape of an image, (height, width) or (height, width, channels); rows of X are
            images, flat or not.
        channels: the number of channels of each stage.
        activation: the activation of all hidden layers, as in `BNN`.
        residual: whether each stage ends with a residual block of two more convolutions:
            h + conv(a(conv(h))), divided by sqrt(2).

    Example:
        >>> net = ConvNet(image=(8, 8), channels=(4,))
        >>> [array.shape for array in net.weight_arrays(64, 10)]
        [(4, 1, 3, 3), (4,), (10, 64), (10,)]
    """

    image: tuple[int, ...] = (28, 28)
    channels: tuple[int, ...] = (8, 16)
    activation: Activation = "relu"
    residual: bool = False
    multiplies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("image", "channels"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not value or not all(map(is_whole, value)):
                raise ValueError(
                    f"ConvNet({name}={value!r}): expected a tuple of positive whole numbers."
                )
            object.__setattr__(self, name, tuple(value))
        if len(self.image) not in (2, 3):
            raise ValueError(
                f"ConvNet(image={self.image}): expected (height, width) or "
                "(height, width, channels)."
            )
        if min(self.image[:2]) < 2 ** len(self.channels):
            raise ValueError(
                f"ConvNet(image={self.image}, channels={self.channels}): each stage halves the "
                f"image, which is too small for {len(self.channels)} of them."
            )
        if self.activation not in ACTIVATIONS:
            allowed = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"ConvNet(activation={self.activation!r}): expected one of {allowed}.")

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """Return the numbers of channels into and out of each convolution, in order."""
        found, before = [], self.image[2] if len(self.image) == 3 else 1
        for after in self.channels:
            found += [(before, after)] + [(after, after)] * (2 if self.residual else 0)
            before = after
        return tuple(found)

    def check_layout(self, shape: tuple[int, ...]) -> None:
        """Refuse rows of another layout, whose values would be taken for other pixels.

        Raises:
            ModelError: saying both shapes.
        """
        full = (*self.image[:2], self.image[2] if len(self.image) == 3 else 1)
        if tuple(shape) not in (self.image, full, (math.prod(full),)):
            raise ModelError(
                f"ConvNet(image={self.image}) got rows of shape {tuple(shape)}: expected "
                "(height, width, channels)."
            )

    def weight_arrays(self, num_inputs: int, num_outputs: int) -> tuple[WeightArray, ...]:
        arrays = []
        for layer, (before, after) in enumerate(self.convolutions):
            arrays += _weight_and_bias(layer, (after, before, 3, 3), 9 * before)
        cells = math.prod(size // 2 ** len(self.channels) for size in self.image[:2])
        fan_in = cells * self.channels[-1]
        return tuple(
            arrays + _weight_and_bias(len(self.convolutions), (num_outputs, fan_in), fan_in)
        )

    def apply(
        self,
        weights: dict[str, Tensor],
        X: Tensor,
        lang: Language,
        product: AbstractProduct = PLAIN,
    ) -> Tensor:
        activate = lang.activations[self.activation]
        self.check_layout(X.shape[1:])
        h = jnp.reshape(X, (X.shape[0], *self.image[:2], -1))
        layer = 0

        def next_convolution(h: Tensor) -> Tensor:
            nonlocal layer
            layer += 1
            name = f"layer{layer - 1}.weight"
            return (
                convolve(name, h, weights[name], product)
                + weights[f"layer{layer - 1}.bias"][None, None, None, :]
            )

        for _ in self.channels:
            h = activate(next_convolution(h))
            if self.residual:
                h = (h + next_convolution(activate(next_convolution(h)))) / math.sqrt(2)
            h = _average_pool(h)
        flat = h.reshape(h.shape[0], -1)
        name = f"layer{layer}.weight"
        return (
            product(name, flat, weights[name]) / math.sqrt(flat.shape[1])
            + weights[f"layer{layer}.bias"][None, :]
        )


def _weight_and_bias(layer: int, shape: tuple[int, ...], fan_in: int) -> list[WeightArray]:
    """Describe the weights and the biases of a layer."""
    weight = WeightArray(f"layer{layer}.weight", shape, fan_in, layer, False, 1 / math.sqrt(fan_in))
    return [weight, WeightArray(f"layer{layer}.bias", shape[:1], fan_in, layer, True)]


def convolve(name: str, h: Tensor, weight: Tensor, product: AbstractProduct) -> Tensor:
    """Convolve images with 3x3 kernels and zero padding, as one product of matrices.

    Under `vmap`, many networks at once stay products of matrices.

    Args:
        name: the name of the weights.
        h: the images, shape (rows, height, width, channels).
        weight: the kernels, shape (channels out, channels, 3, 3).
        product: how to multiply by the weights.

    Returns:
        The images, divided by sqrt(fan_in), shape (rows, height, width, channels out).
    """
    rows, columns = h.shape[1:3]
    padded = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = jnp.stack(
        [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], -1
    )
    # channels, then places in the patch, as in the weights
    flat = patches.reshape(*h.shape[:3], -1)
    out, fan_in = weight.shape[0], weight[0].size
    return product(name, flat, weight.reshape(out, fan_in)) / math.sqrt(fan_in)


def _average_pool(h: Tensor) -> Tensor:
    """Average cells of 2x2 pixels; an odd row or column at the end is left out."""
    rows, columns = h.shape[1] // 2, h.shape[2] // 2
    cells = h[:, : 2 * rows, : 2 * columns].reshape(h.shape[0], rows, 2, columns, 2, h.shape[3])
    return cells.mean((2, 4))
