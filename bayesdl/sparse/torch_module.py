"""Sparse networks as torch modules: the moments are buffers, the network is the one that was fitted."""

from __future__ import annotations

import math

import numpy as np
import torch

from bayesdl.interop.activations import ACTIVATIONS
from inference.sparse.products.portable import SparseNetwork, gain_of


class SparseModule(torch.nn.Module):
    """A sparse Bayesian network in torch.

    Args:
        network: read from a file by `inference.sparse.products.portable.load`, or made by `bayesdl.sparse.to_torch`.

    Example:
        >>> import numpy as np, bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
        >>> engine = bdl.SSVI(density=0.3, steps=200)
        >>> post = bdl.fit(bdl.BNN(hidden=(20, 20)), X, np.sin(3 * X[:, 0]), engine=engine, progress=False)
        >>> bdl.sparse.to_torch(post)(torch.as_tensor(X)).shape
        torch.Size([50, 1])
    """

    def __init__(self, network: SparseNetwork) -> None:
        super().__init__()
        self.network = network
        for name, array in network.arrays.items():
            values = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
            self.register_buffer(name.replace(".", "_"), torch.as_tensor(values))

    def extra_repr(self) -> str:
        return repr(self.network)

    def kept(self, name: str) -> torch.Tensor:
        return self.get_buffer(name.replace(".", "_"))

    def draw(self, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """One draw of the active weights of each layer."""
        found = {}
        for layer in self.network.layers:
            mean, sd = self.kept(f"{layer}/mean"), self.kept(f"{layer}/sd")
            found[layer] = mean + sd * torch.randn(
                mean.shape, generator=generator, device=mean.device
            )
        return found

    def forward(
        self, X: torch.Tensor, weights: dict[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """F(x; w), shape (rows, outputs): logits, or means of the standardised target.

        Args:
            X: rows in their own units.
            weights: values of the active weights of each layer; a draw of them where not given.
        """
        weights = self.draw() if weights is None else weights
        h = X.reshape(len(X), -1)
        if "inputs/shift" in self.network.arrays:
            h = (h - self.kept("inputs/shift")) / self.kept("inputs/scale")
        about = self.network.about["network"]
        return (
            self.convolutional(about, h, weights)
            if about["kind"] == "ConvNet"
            else self.perceptron(about, h, weights)
        )

    def linear(
        self, layer: str, h: torch.Tensor, weights: dict[str, torch.Tensor], gain: float
    ) -> torch.Tensor:
        values = weights[layer]
        if f"{layer}/counts" in self.network.arrays:
            counts, columns = self.kept(f"{layer}/counts"), self.kept(f"{layer}/columns")
            rows = torch.repeat_interleave(torch.arange(len(counts), device=h.device), counts)
            matrix = torch.zeros(
                self.network.about["layers"][layer], dtype=values.dtype, device=h.device
            )
            values = matrix.index_put((rows, columns), values)
        return gain * (h @ values.T) + self.kept(f"{layer}/bias")

    def perceptron(self, about: dict, h: torch.Tensor, weights: dict) -> torch.Tensor:
        layers = self.network.layers
        for number, layer in enumerate(layers):
            h = self.linear(layer, h, weights, gain_of(about, h.shape[-1]))
            h = ACTIVATIONS[about["activation"]](h) if number + 1 < len(layers) else h
        return h

    def convolutional(self, about: dict, h: torch.Tensor, weights: dict) -> torch.Tensor:
        activate, layers = ACTIVATIONS[about["activation"]], iter(self.network.layers)
        h = h.reshape(len(h), *about["image"][:2], -1).permute(0, 3, 1, 2)

        def convolution(h: torch.Tensor) -> torch.Tensor:
            flat = torch.nn.functional.unfold(h, 3, padding=1).transpose(
                1, 2
            )  # channels, then places
            out = self.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))
            return out.transpose(1, 2).reshape(len(h), -1, *h.shape[2:])

        for _ in about["channels"]:
            h = activate(convolution(h))
            if about["residual"]:
                h = (h + convolution(activate(convolution(h)))) / math.sqrt(2)
            h = torch.nn.functional.avg_pool2d(h, 2)
        flat = h.permute(0, 2, 3, 1).reshape(len(h), -1)
        return self.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))
