"""What training a prior-data fitted network gives, and what its file holds."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import numpy as np

from bayesdl.model.base import AbstractModel
from bayesdl.saving.archive import hash_arrays
from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Tasks
from inference.distributions.bars import Grids
from inference.process.cached import cached


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with everything that is known of it.

    Attributes:
        model: the model that the network was trained on.
        tasks: the data sets that it was trained on.
        network: the trained weights.
        grids: the grids of the bars of y and of latent sites.
        facts: facts about the training, as plain data.
        certificate: the quality of the network, as plain data.
    """

    model: AbstractModel
    tasks: Tasks
    network: AbstractNetwork
    grids: Grids
    facts: dict[str, Any]
    certificate: dict[str, Any]

    @cached
    def hash(self) -> str:
        """The SHA-256 of weights, sizes and grids, whatever the order of the network's fields."""
        parts = sorted(
            (jax.tree_util.keystr(path), leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path((self.network, self.grids))
        )
        sizes = np.frombuffer(
            json.dumps(dataclasses.asdict(self.network.shape), sort_keys=True).encode(), np.uint8
        )
        return hash_arrays([sizes, *(np.asarray(leaf) for _, leaf in parts)])
