"""The kinds of networks by what their tokens are."""

from __future__ import annotations

import jax

from inference.amortized.cell_network import CellNetwork
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.row_network import RowNetwork

KINDS = {"rows": RowNetwork, "cells": CellNetwork}


def initial(shape: Shape, key: jax.Array) -> AbstractNetwork:
    """A network before training."""
    return KINDS[shape.tokens].init(shape, key)
