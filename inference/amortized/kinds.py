"""The kinds of networks, named by what their tokens are."""

from __future__ import annotations

from inference.amortized.cell_network import CellNetwork
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.row_network import RowNetwork
from inference.core.typing import Key

KINDS = {"rows": RowNetwork, "cells": CellNetwork}


def init_network(shape: Shape, key: Key) -> AbstractNetwork:
    """Return a network with random weights, before training."""
    return KINDS[shape.tokens].init(shape, key)
