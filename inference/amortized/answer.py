"""The answer of a prior-data fitted network to one data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from inference.amortized.bars import law
from inference.amortized.network import Cache, Network
from inference.result import AbstractLaw, Conditional


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Answer(AbstractLaw):
    """The law of new rows, each by itself.

    Attributes:
        network: the weights.
        cache: what the network keeps of the data.
        edges, scales: of the bars; None for classes.
        columns: of zeros beside those of X.
    """

    network: Network
    cache: Cache
    edges: Any
    scales: Any
    columns: int = dataclasses.field(default=0, metadata={"static": True})

    def __call__(self, latents: dict, key: Any, X: Any) -> Conditional:
        X = jnp.pad(jnp.asarray(X, jnp.float32), ((0, 0), (0, self.columns)))
        logits = self.network.predict(self.cache, X[None])[0]
        return Conditional(law(logits, self.edges, self.scales), jnp.zeros(len(X)))


@jax.jit
def answer(network: Network, X: jax.Array, y: jax.Array, num_rows: jax.Array, edges: Any, scales: Any) -> Answer:
    """Reads one padded data set."""
    return Answer(network, network.condition(X[None], y[None], num_rows[None]), edges, scales)
