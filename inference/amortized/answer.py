"""The answer of a prior-data fitted network to one data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from inference.amortized.bars import Grid, law
from inference.amortized.network import Cache, Network
from inference.result import AbstractLaw, Conditional


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Answer(AbstractLaw):
    """The law of new rows, each by itself.

    Attributes:
        network: the weights.
        cache: what the network keeps of the data.
        grid: of the bars; None for classes.
        columns: of zeros beside those of X.
        outputs: of the network that count: bars, or classes of these data.
    """

    network: Network
    cache: Cache
    grid: Grid | None
    columns: int = dataclasses.field(metadata={"static": True})
    outputs: int = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: dict, key: Any, X: Any) -> Conditional:
        X = jnp.pad(jnp.asarray(X, jnp.float32), ((0, 0), (0, self.columns)))
        logits = self.network.predict(self.cache, X[None])[0, :, : self.outputs]
        return Conditional(law(logits, self.grid), jnp.zeros(len(X)))


@jax.jit
def condition(network: Network, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
    """Reads one padded data set."""
    return network.condition(X[None], y[None], num_rows[None])
