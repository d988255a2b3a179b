"""Sparse networks as small files: indices and moments, read and computed by NumPy alone.

This module imports nothing but NumPy and the standard library, so a program that only predicts
needs neither JAX nor bayesdl: the file may be copied beside it. `bayesdl.sparse.export` writes the
files, in the safetensors format:

    LAYER/counts   the number of active weights in each row of W, shape (out,); sparse layers only
    LAYER/columns  their inputs, row after row, in 16 bits where they fit; sparse layers only
    LAYER/mean     the means of the active weights, or of all weights of a dense layer, (out, in)
    LAYER/sd       their standard deviations, likewise
    LAYER/bias     the biases, shape (out,)

and, in the header, what the network is and how inputs and targets are scaled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from inference.settings import is_whole
from inference.sparse.products.wholeness import fault_of

FORMAT = "bayesdl sparse network"
PARTS = ("layers", "network", "target", "inputs")
TYPES = {"F32": np.float32, "I32": np.int32, "U16": np.uint16, "U32": np.uint32}
"""The number types of a file by their names in safetensors; BF16 is read by `read_array`."""


def _erf(x: np.ndarray) -> np.ndarray:
    """Return the error function of each entry."""
    return np.vectorize(math.erf, otypes=[float])(x).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sine": np.sin,
    "erf": _erf,
}


class FileError(ValueError):
    """A file is not a sparse network, or is damaged."""


class InputError(ValueError):
    """Inputs do not fit the network."""


class SparseNetwork:
    """A sparse Bayesian network.

    Args:
        arrays: the arrays of a file by name; see the module's docstring.
        about: the header: layers, network, inputs and target as plain data.
    """

    def __init__(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        self.arrays, self.about = arrays, about

    def __repr__(self) -> str:
        shapes = list(self.about["layers"].values())
        sizes = [width for _, width in shapes] + [shapes[-1][0]]
        return f"SparseNetwork({' - '.join(map(str, sizes))}, {self.num_active} active weights)"

    @property
    def layers(self) -> list[str]:
        """The names of the layers, in the order of the network."""
        return list(self.about["layers"])

    @property
    def num_active(self) -> int:
        """The number of weights that are not zero."""
        return sum(self.arrays[f"{name}/mean"].size for name in self.layers)

    def places(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and the columns of the active weights of a sparse layer."""
        counts, columns = self.arrays[f"{layer}/counts"], self.arrays[f"{layer}/columns"]
        return np.repeat(np.arange(len(counts)), counts), columns.astype(np.int64)

    def matrix(self, layer: str, values: np.ndarray) -> np.ndarray:
        """Return W, shape (out, in), from the values of its active weights."""
        if f"{layer}/counts" not in self.arrays:
            return values
        out = np.zeros(self.about["layers"][layer], np.float32)
        out[self.places(layer)] = values
        return out

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the active weights of each layer."""
        found = {}
        for layer in self.layers:
            mean, sd = self.arrays[f"{layer}/mean"], self.arrays[f"{layer}/sd"]
            found[layer] = mean + sd * rng.standard_normal(mean.shape, dtype=np.float32)
        return found

    def outputs(self, X: ArrayLike, weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return f(x; w), shape (rows, outputs): logits, or means of the standardised target.

        Args:
            X: rows like those the model was fitted to, in their own units.
            weights: the values of the active weights of each layer.
        """
        h = self.rows(X)
        if "inputs/shift" in self.arrays:
            h = (h - self.arrays["inputs/shift"]) / self.arrays["inputs/scale"]
        network = self.about["network"]
        if network["kind"] == "ConvNet":
            return _apply_convolutions(self, network, h, weights)
        return _apply_perceptron(self, network, h, weights)

    def rows(self, X: Any) -> np.ndarray:
        """Return the inputs as numbers, shape (rows, columns).

        Columns of a DataFrame are put in order by their names.

        Raises:
            InputError: for another number of columns, no rows, or cells that are not finite.
        """
        inputs = self.about["inputs"]
        if inputs["columns"] is not None and hasattr(X, "columns"):
            missing = [name for name in inputs["columns"] if name not in list(map(str, X.columns))]
            if missing:
                raise InputError(f"X lacks column {missing[0]!r}: expected {inputs['columns']}.")
            X = X[inputs["columns"]]
        try:
            h = np.asarray(X, np.float32)
        except (ValueError, TypeError) as error:
            raise InputError(f"X has cells that are not numbers ({error}).") from None
        if h.ndim < 2 or len(h) == 0 or math.prod(h.shape[1:]) != inputs["width"]:
            raise InputError(
                f"X has shape {h.shape}: expected (rows, {inputs['width']}), with at least one row."
            )
        if not np.isfinite(h).all():
            row = int(np.argwhere(~np.isfinite(h))[0][0])
            raise InputError(f"X is not finite in row {row}: fill or drop missing values.")
        return h.reshape(len(h), -1)

    def linear(
        self, layer: str, h: np.ndarray, weights: dict[str, np.ndarray], gain: float
    ) -> np.ndarray:
        """Return gain * h W' + b."""
        return gain * (h @ self.matrix(layer, weights[layer]).T) + self.arrays[f"{layer}/bias"]

    def predict(self, X: ArrayLike, num_samples: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
        """Predict the target from draws of the network.

        Args:
            X: rows like those the model was fitted to, an array or a DataFrame.
            num_samples: the number of draws of the weights.
            seed: the seed of the draws.

        Returns:
            "probabilities" and "classes" of a class target; otherwise "mean" and "std" of the
            target.

        Raises:
            InputError: for inputs or a number of draws that cannot be used.
        """
        if not is_whole(num_samples):
            raise InputError(f"num_samples={num_samples!r}: expected a whole number of at least 1.")
        rng = np.random.default_rng(seed)
        outputs = np.stack([self.outputs(X, self.draw(rng)) for _ in range(num_samples)])
        target = self.about["target"]
        if target["kind"] == "class":
            return {
                "probabilities": _class_probabilities(outputs).mean(0),
                "classes": np.array(target["classes"]),
            }
        sigma = np.exp(
            target["sigma"][0] + target["sigma"][1] * rng.standard_normal((num_samples, 1, 1))
        )
        sd = np.sqrt(outputs.var(0) + (sigma**2).mean(0))
        shift, scale = np.array(target["shift"]), np.array(target["scale"])
        found = {"mean": shift + scale * outputs.mean(0), "std": scale * sd}
        return {name: value[:, 0] if target["flat"] else value for name, value in found.items()}


def _class_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits; a single logit is that of the second class."""
    if outputs.shape[-1] == 1:
        outputs = np.concatenate([np.zeros_like(outputs), outputs], -1)
    shifted = np.exp(outputs - outputs.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _apply_perceptron(
    net: SparseNetwork, network: dict, h: np.ndarray, weights: dict
) -> np.ndarray:
    """Return the outputs of a multilayer perceptron.

    Args:
        net: the network with its arrays.
        network: its activation and scaling.
        h: the scaled inputs, shape (rows, columns).
        weights: the values of the active weights of each layer.
    """
    activate = ACTIVATIONS[network["activation"]]
    for number, layer in enumerate(net.layers):
        h = net.linear(layer, h, weights, layer_gain(network, h.shape[-1]))
        h = activate(h) if number + 1 < len(net.layers) else h
    return h


def layer_gain(network: dict, fan_in: int) -> float:
    """Return the factor of a layer's sum: 1 / sqrt(fan_in) under NTK scaling, else 1."""
    return 1 / math.sqrt(fan_in) if network["scaling"] == "ntk" else 1.0


def _apply_convolutions(
    net: SparseNetwork, network: dict, h: np.ndarray, weights: dict
) -> np.ndarray:
    """Return the outputs of a convolutional network.

    Args:
        net: the network with its arrays.
        network: its activation, image, channels, and whether it has residual blocks.
        h: the scaled inputs, shape (rows, columns).
        weights: the values of the active weights of each layer.
    """
    activate = ACTIVATIONS[network["activation"]]
    layers = iter(net.layers)
    h = h.reshape(len(h), *network["image"][:2], -1)

    def convolution(h: np.ndarray) -> np.ndarray:
        flat = _patches(h)
        return net.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))

    for _ in network["channels"]:
        h = activate(convolution(h))
        if network["residual"]:
            h = (h + convolution(activate(convolution(h)))) / math.sqrt(2)
        h = _pool(h)
    flat = h.reshape(len(h), -1)
    return net.linear(next(layers), flat, weights, 1 / math.sqrt(flat.shape[-1]))


def _patches(h: np.ndarray) -> np.ndarray:
    """Return the 3x3 surroundings of each place, channels first."""
    rows, columns = h.shape[1:3]
    padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = np.stack(
        [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], -1
    )
    return found.reshape(*h.shape[:3], -1)


def _pool(h: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 cells."""
    rows, columns = h.shape[1] // 2, h.shape[2] // 2
    cells = h[:, : 2 * rows, : 2 * columns].reshape(len(h), rows, 2, columns, 2, h.shape[3])
    return cells.mean((2, 4))


def load(path: str | Path) -> SparseNetwork:
    """Read a file that `bayesdl.sparse.export` wrote.

    Raises:
        FileError: for another file, or indices that are not sorted, not unique or out of range.
    """
    content = Path(path).read_bytes()
    if content[:2] == b"PK":
        raise FileError(
            f"{path} is a bundle: read it by bayesdl.load. Files of sparse networks are made by "
            "bayesdl.sparse.export."
        )
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        about = json.loads(header.pop("__metadata__")["about"])
        if about["format"] != FORMAT:
            raise KeyError(about["format"])
        body = memoryview(content)[8 + size :]
        parts = {
            name: (entry, body[slice(*entry["data_offsets"])]) for name, entry in header.items()
        }
        arrays = {name: _read_array(entry, part) for name, (entry, part) in parts.items()}
        contents = {name: part for name, (_, part) in parts.items()}
        if _hash_bytes(contents, about) != about["sha256"]:
            raise ValueError("its numbers do not match their hash")
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} is damaged or not a sparse network ({type(error).__name__}: {error})."
        ) from None
    network = SparseNetwork(arrays, about)
    try:
        for layer in network.layers:
            _check_layer(network, layer)
        fault = fault_of(ACTIVATIONS, arrays, **{name: about[name] for name in PARTS})
    except FileError:
        raise
    # what is absent, or of another kind, shows in any way
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise FileError(f"{path} is damaged or not a sparse network ({fault}).")
    return network


def content_hash(arrays: dict[str, np.ndarray], about: dict) -> str:
    """Return the SHA-256 of names and contents of the arrays, and of the header."""
    contents = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    return _hash_bytes(contents, about)


def _hash_bytes(parts: Mapping[str, bytes | memoryview], about: dict) -> str:
    """Return the SHA-256 of named contents and of the header without its own hash."""
    rest = {name: value for name, value in about.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(parts):
        digest.update(name.encode())
        digest.update(parts[name])
    return digest.hexdigest()


def _read_array(entry: dict, content: bytes | memoryview) -> np.ndarray:
    """Return the array of a file's entry, with bfloat16 widened to single precision.

    Args:
        entry: its type and shape.
        content: its bytes.
    """
    if entry["dtype"] == "BF16":
        # bfloat16 is the upper half of a float32
        wide = np.frombuffer(content, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(entry["shape"])
    return np.frombuffer(content, TYPES[entry["dtype"]]).reshape(entry["shape"])


def _check_layer(network: SparseNetwork, layer: str) -> None:
    """Refuse an index that does not fit its layer.

    Raises:
        FileError: saying what is wrong.
    """
    out, width = network.about["layers"][layer]
    mean = network.arrays[f"{layer}/mean"]
    if f"{layer}/counts" not in network.arrays:
        if mean.shape != (out, width):
            raise FileError(
                f"Layer '{layer}' has weights of shape {mean.shape}, expected {(out, width)}."
            )
        return
    counts = network.arrays[f"{layer}/counts"].astype(np.int64)
    columns = network.arrays[f"{layer}/columns"].astype(np.int64)
    if len(counts) != out or counts.sum() != len(columns) or len(columns) != len(mean):
        raise FileError(
            f"Layer '{layer}' has {len(mean)} weights, {len(columns)} indices and counts of "
            f"{counts.sum()}: not the same."
        )
    if len(columns) and columns.max() >= width:
        raise FileError(
            f"The index of layer '{layer}' is out of range: got {columns.max()}, expected "
            f"0..{width - 1}."
        )
    rows = np.repeat(np.arange(out), counts)
    steps = np.diff(columns)[np.diff(rows) == 0]
    if (steps <= 0).any():
        what = "not unique" if (steps == 0).any() else "not sorted"
        raise FileError(f"The index of layer '{layer}' is {what} in each row.")
