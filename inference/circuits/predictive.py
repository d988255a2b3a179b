"""The predictive of one column of a circuit given the other cells of each row."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from inference.circuits.layout import Layout
from inference.circuits.leaves import Weights
from inference.circuits.model import weights_of_sites
from inference.circuits.queries import column_distribution
from inference.core.result import AbstractPredictive, Conditional


def distribution_of(layout: Layout, weights: Weights, rows: jax.Array, column: int) -> Any:
    """Return the NumPyro distribution of a column given the other observed cells of each row."""
    found = column_distribution(layout, weights, rows, column)
    states = dist.CategoricalLogits(found.logits)
    if found.mean is None:
        return states
    if found.freedom is None:
        return dist.MixtureSameFamily(states, dist.Normal(found.mean, found.scale))
    inside = dist.StudentT(found.freedom, found.mean, found.scale)
    return dist.MixtureSameFamily(states, inside)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class CircuitPredictive(AbstractPredictive):
    """The distribution of a column given one draw of the circuit's sites.

    Attributes:
        layout: the circuit.
        column: the number of the column.
    """

    layout: Layout = dataclasses.field(metadata={"static": True})
    column: int = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: dict, key: Any, rows: Any) -> Conditional:
        weights = weights_of_sites(self.layout, latents)
        given = distribution_of(self.layout, weights, jnp.asarray(rows), self.column)
        return Conditional(given, jnp.zeros(len(rows)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedPredictive(AbstractPredictive):
    """The exact predictive of a column under the posterior of a circuit's numbers.

    Attributes:
        layout: the circuit.
        column: the number of the column.
        weights: the circuit that is the predictive.
        drawn: circuits drawn from the posterior, whose spread is the epistemic part.
    """

    layout: Layout = dataclasses.field(metadata={"static": True})
    column: int = dataclasses.field(metadata={"static": True})
    weights: Weights
    drawn: Weights

    def __call__(self, latents: dict, key: Any, rows: Any) -> Conditional:
        rows = jnp.asarray(rows)
        given = distribution_of(self.layout, self.weights, rows, self.column)

        def one(weights: Weights) -> jax.Array:
            inside: Any = distribution_of(self.layout, weights, rows, self.column)
            is_class = isinstance(inside, dist.CategoricalLogits)
            return jnp.asarray(inside.probs if is_class else inside.mean[:, None])

        values = jax.lax.map(one, self.drawn)
        if values.shape[-1] == 1:
            return Conditional(given, values[..., 0].var(0))
        entropies = -jax.scipy.special.xlogy(values, values).sum(-1).mean(0)
        mean = values.mean(0)
        whole = -jax.scipy.special.xlogy(mean, mean).sum(-1)
        return Conditional(given, jnp.maximum(whole - entropies, 0.0))
