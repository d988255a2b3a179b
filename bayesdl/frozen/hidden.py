"""The last linear layer of a network: its inputs for some rows, and how many outputs it has."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from bayesdl.data.validation import DataError, ModelError
from bayesdl.frozen.predictors import call_torch, is_torch
from bayesdl.typing import TableLike

# how far the last layer's product may be from the network's answer, by rounding
ROUNDING = 1e-3


def outputs_and_features(network: object, X: TableLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of a network, and the inputs of its last linear layer.

    Args:
        network: a torch module in evaluation mode, or an Equinox module that maps one row.
        X: the rows.

    Raises:
        ModelError: where the last linear layer is not the last operation.
        DataError: where answers are not finite.
    """
    found = _of_torch(network, X) if is_torch(network) else _of_equinox(network, X)
    outputs, hidden, weight, bias = found
    if not (np.isfinite(outputs).all() and np.isfinite(hidden).all()):
        row = int(np.flatnonzero(~np.isfinite(outputs).all(1) | ~np.isfinite(hidden).all(1))[0])
        raise DataError(f"The network's answer in row {row} is NaN or infinite.")
    expected = hidden @ weight.T + bias
    size = 1 + np.abs(outputs).max()
    same = outputs.shape == expected.shape and np.allclose(
        outputs, expected, rtol=ROUNDING, atol=ROUNDING * size
    )
    if not same:
        raise ModelError(
            "The last linear layer is not the last operation of the network, which LastLayer "
            "needs: leave out what follows it, such as a softmax, or use bdl.Frozen."
        )
    return outputs, hidden


def num_outputs(network: object) -> int:
    """Return the number of outputs of the last linear layer."""
    layer = _last_torch(network) if is_torch(network) else _last_equinox(network)
    return int(layer.weight.shape[0])


def _last_torch(network: object) -> Any:
    """Return the last linear layer of a torch module."""
    import torch

    module: Any = network
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    if not layers:
        raise _no_layer(network)
    return layers[-1]


def _of_torch(network: object, X: TableLike) -> tuple[np.ndarray, ...]:
    layer, seen = _last_torch(network), []
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    try:
        outputs = call_torch(network, X)
    finally:
        hook.remove()
    hidden = seen[-1].detach().cpu().numpy().astype(np.float64)
    weight = layer.weight.detach().cpu().numpy().astype(np.float64)
    bias = 0.0 if layer.bias is None else layer.bias.detach().cpu().numpy().astype(np.float64)
    return outputs.reshape(len(hidden), -1), hidden, weight, np.asarray(bias)


def _last_equinox(network: object) -> Any:
    """Return the last linear layer of an Equinox module."""
    import equinox as eqx
    import jax

    parts = jax.tree.leaves(network, is_leaf=lambda part: isinstance(part, eqx.nn.Linear))
    layers = [part for part in parts if isinstance(part, eqx.nn.Linear)]
    if not layers:
        raise _no_layer(network)
    return layers[-1]


def _of_equinox(network: object, X: TableLike) -> tuple[np.ndarray, ...]:
    import equinox as eqx
    import jax

    layer: Any = _last_equinox(network)
    rows = np.asarray(X, np.float32)

    def is_linear(part: object) -> bool:
        return isinstance(part, eqx.nn.Linear)

    places, tree = jax.tree.flatten(network, is_leaf=is_linear)
    last = max(i for i, part in enumerate(places) if is_linear(part))
    # the same network, which hands on what the last layer is given
    places[last] = eqx.nn.Identity()
    hidden = np.asarray(jax.vmap(jax.tree.unflatten(tree, places))(rows), np.float64)
    outputs = np.asarray(jax.vmap(cast(Any, network))(rows), np.float64).reshape(len(rows), -1)
    bias = 0.0 if layer.bias is None else np.asarray(layer.bias, np.float64)
    return outputs, hidden, np.asarray(layer.weight, np.float64), np.asarray(bias)


def _no_layer(network: object) -> ModelError:
    return ModelError(
        f"LastLayer({type(network).__name__}): expected a torch or Equinox network with a linear "
        "layer, and it has none."
    )
