"""The activations of networks in torch, by name."""

from __future__ import annotations

from typing import Any

import torch

ACTIVATIONS: dict[str, Any] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "sine": torch.sin,
    "erf": torch.erf,
}
