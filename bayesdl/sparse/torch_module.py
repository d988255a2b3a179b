"""Sparse networks as torch modules: moments are buffers, the network is the fitted one."""

from __future__ import annotations

import math

import numpy as np
import torch

from bayesdl.interop.activations import ACTIVATIONS
from inference.sparse.products.portable import SparseNetwork, layer_gain


class SparseModule(torch.nn.Module):
    """A sparse Bayesian network in torch.

    Args:
        network: the network that `inference.sparse.products.portable.load` read from a file, or
            that `bayesdl.sparse.to_torch` made.

    Example:
        >>> import numpy as np, bayesdl as bdl
        >>> X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
        >>> engine = bdl.SSVI(density=0.3, steps=200)
        >>> model = bdl.BNN(hidden=(20, 20))
        >>> post = bdl.fit(model, X, np.sin(3 * X[:, 0]), engine=engine, progress=False)
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

    def array(self, name: str) -> torch.Tensor:
        """Return an array of the network, which torch moves between devices."""
        return self.get_buffer(name.replace(".", "_"))

    def draw(self, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """Draw the active weights of each layer."""
        found = {}
        for layer in self.network.layers:
            mean, sd = self.array(f"{layer}/mean"), self.array(f"{layer}/sd")
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            found[layer] = mean + sd * noise
        return found

    def forward(
        self, X: torch.Tensor, weights: dict[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return f(x; w), shape (rows, outputs): logits, or means of the standardised target.

        Args:
            X: rows in their own units.
            weights: the values of the active weights of each layer; a draw of them where not given.
        """
        weights = self.draw() if weights is None else weights
        h = X.reshape(len(X), -1)
        if "inputs/shift" in self.network.arrays:
            h = (h - self.array("inputs/shift")) / self.array("inputs/scale")
        about = self.network.about["network"]
        if about["kind"] == "ConvNet":
            return self.apply_convolutions(about, h, weights)
        return self.apply_perceptron(about, h, weights)

    def linear(
        self, layer: str, h: torch.Tensor, weights: dict[str, torch.Tensor], gain: float
    ) -> torch.Tensor:
        """Return gain * h W' + b."""
        values = weights[layer]
        if f"{layer}/counts" in self.network.arrays:
            counts, columns = self.array(f"{layer}/counts"), self.array(f"{layer}/columns")
            rows = torch.repeat_interleave(torch.arange(len(counts), device=h.device), counts)
            shape = self.network.about["layers"][layer]
            matrix = torch.zeros(shape, dtype=values.dtype, device=h.device)
            values = matrix.index_put((rows, columns), values)
        return gain * (h @ values.T) + self.array(f"{layer}/bias")

    def apply_perceptron(self, about: dict, h: torch.Tensor, weights: dict) -> torch.Tensor:
        """Return the outputs of a multilayer perceptron."""
        layers = self.network.layers
        for number, layer in enumerate(layers):
            h = self.linear(layer, h, weights, layer_gain(about, h.shape[-1]))
            h = ACTIVATIONS[about["activation"]](h) if number + 1 < len(layers) else h
        return h

    def apply_convolutions(self, about: dict, h: torch.Tensor, weights: dict) -> torch.Tensor:
        """Return the outputs of a convolutional network."""
        activate, layers = ACTIVATIONS[about["activation"]], iter(self.network.layers)
        h = h.reshape(len(h), *about["image"][:2], -1).permute(0, 3, 1, 2)

        def convolution(h: torch.Tensor) -> torch.Tensor:
            # each row of flat has the channels of a place, then its surroundings
            flat = torch.nn.functional.unfold(h, 3, padding=1).transpose(1, 2)
            out = self.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))
            return out.transpose(1, 2).reshape(len(h), -1, *h.shape[2:])

        for _ in about["channels"]:
            h = activate(convolution(h))
            if about["residual"]:
                h = (h + convolution(activate(convolution(h)))) / math.sqrt(2)
            h = torch.nn.functional.avg_pool2d(h, 2)
        flat = h.permute(0, 2, 3, 1).reshape(len(h), -1)
        return self.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))
