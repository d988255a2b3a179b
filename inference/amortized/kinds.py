"""The kinds of networks: two are named by what their tokens are."""

from __future__ import annotations

from typing import Any

from inference.amortized.cell_network import CellNetwork
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.row_network import RowNetwork
from inference.amortized.stacked.network import StackedNetwork
from inference.core.typing import Key

KINDS: dict[str, type[AbstractNetwork]] = {
    "rows": RowNetwork,
    "cells": CellNetwork,
    "stacked": StackedNetwork,
}


def init_network(shape: Shape, key: Key) -> AbstractNetwork:
    """Return a network with random weights, before training."""
    kind: Any = KINDS[shape.tokens]
    return kind.init(shape, key)
