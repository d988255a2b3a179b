"""A circuit as a NumPyro distribution and program, and what its problem offers to `VBEM` and `EM`.

The sites are "roots", "edges", for each number L of levels "levels{L}", and for blocks of each size
d "precision{d}", the inverse of the covariance, and "mean{d}".
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints

from inference.circuits.layout import Layout
from inference.circuits.leaves import Normals, Weights, log_density
from inference.circuits.queries import draw_missing
from inference.circuits.statistics import Prior
from inference.core.structure import AbstractStructure
from inference.core.typing import AnyArray, Key, SiteArrays


class CircuitRow(Distribution):
    """A row of mixed columns: categories as their index, numbers, NaN where a cell is missing.

    `log_prob` leaves out missing cells exactly, and `sample` draws whole rows.

    Args:
        layout: the circuit.
        weights: its numbers, with normal blocks.
    """

    arg_constraints: ClassVar = {}
    support: Any = constraints.independent(constraints.real, 1)
    pytree_data_fields = ("weights",)
    pytree_aux_fields = ("layout",)

    def __init__(
        self, layout: Layout, weights: Weights, *, validate_args: bool | None = None
    ) -> None:
        self.layout, self.weights = layout, weights
        super().__init__((), (layout.width,), validate_args=False)

    def log_prob(self, value: AnyArray) -> jax.Array:
        """Return log p(observed cells), shape (rows,).

        Args:
            value: cells, NaN where they are missing, shape (rows, columns) or (columns,).
        """
        flat = jnp.asarray(value).reshape(-1, self.layout.width)
        found = log_density(self.layout, self.weights, flat)
        return found.reshape(jnp.shape(value)[:-1])

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw whole rows.

        Args:
            key: the key.
            sample_shape: the shape of the sample.
        """
        shape = (*sample_shape, self.layout.width)
        empty = jnp.full((max(int(jnp.size(jnp.zeros(sample_shape))), 1), shape[-1]), jnp.nan)
        return draw_missing(self.layout, self.weights, empty, key).reshape(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class TractableCircuit(AbstractStructure):
    """A table whose rows come from one circuit with conjugate priors.

    Attributes:
        layout: the circuit.
        prior: the prior of its numbers.
        table: the rows, NaN where cells are missing, shape (rows, columns).
        names: the names of the columns.
        given: the names of all columns of the table as it was given.
    """

    layout: Layout
    prior: Prior
    table: np.ndarray
    names: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


def run_program(layout: Layout, prior: Prior, table: Any, observed: bool = True) -> None:
    """Run the NumPyro program of a circuit.

    Args:
        layout: the circuit.
        prior: the prior of its numbers.
        table: the rows, NaN where cells are missing.
        observed: whether the rows are data.
    """
    sites: dict[str, Any] = {}

    def draw(name: str, distribution: dist.Distribution) -> None:
        sites[name] = numpyro.sample(name, distribution)

    draw("roots", dist.Dirichlet(jnp.asarray(prior.roots, float).reshape(-1)))
    if len(layout.edges):
        draw("edges", dist.Dirichlet(jnp.asarray(prior.edges, float)).to_event(2))
    for levels, a in zip(layout.kinds, prior.levels, strict=True):
        draw(f"levels{levels}", dist.Dirichlet(jnp.asarray(a, float)).to_event(2))
    for size, scale in zip(layout.sizes, prior.scales, strict=True):
        shape = (len(scale), layout.states)
        rate = jnp.broadcast_to(jnp.asarray(scale, float)[:, None], (*shape, size, size))
        # NumPyro's Wishart promotes ranks
        with jax.numpy_rank_promotion("allow"):
            wishart = dist.Wishart(jnp.full(shape, size + 2.0), rate_matrix=rate)
            draw(f"precision{size}", wishart.to_event(2))
        precision = prior.kappa * sites[f"precision{size}"]
        mean = dist.MultivariateNormal(jnp.zeros((*shape, size)), precision_matrix=precision)
        draw(f"mean{size}", mean.to_event(2))
    row = CircuitRow(layout, weights_of_sites(layout, sites))
    with numpyro.plate("rows", len(table)) as index:
        numpyro.sample("row", row, obs=jnp.asarray(table)[index] if observed else None)


def weights_of_sites(layout: Layout, sites: SiteArrays) -> Weights:
    """Return a circuit's numbers from one value of the program's sites."""
    roots = jnp.log(sites["roots"]).reshape(len(layout.roots), layout.states)
    empty = jnp.zeros((0, layout.states, layout.states), roots.dtype)
    edges = jnp.log(sites["edges"]) if len(layout.edges) else empty
    levels = tuple(jnp.log(sites[f"levels{number}"]) for number in layout.kinds)
    normals = tuple(
        Normals(sites[f"mean{size}"], jnp.linalg.inv(sites[f"precision{size}"]))
        for size in layout.sizes
    )
    return Weights(roots, edges, levels, normals)


def sites_of_weights(layout: Layout, weights: Weights) -> SiteArrays:
    """Return the values of the program's sites: the inverse of `weights_of_sites`."""
    sites = {"roots": jnp.exp(weights.roots).reshape(-1)}
    if len(layout.edges):
        sites["edges"] = jnp.exp(weights.edges)
    for number, logs in zip(layout.kinds, weights.levels, strict=True):
        sites[f"levels{number}"] = jnp.exp(logs)
    for size, normals in zip(layout.sizes, weights.normals, strict=True):
        sites[f"precision{size}"] = jnp.linalg.inv(jnp.asarray(normals.matrix))
        sites[f"mean{size}"] = jnp.asarray(normals.mean)
    return sites


def merge_circuits(layout: Layout, parts: list[Weights]) -> tuple[Layout, Weights]:
    """Return the mixture of circuits in equal shares, which is one circuit with more trees.

    Args:
        layout: the circuit of each of them.
        parts: their numbers.
    """
    count, nodes = len(parts), layout.nodes
    if count == 1:
        return layout, parts[0]
    at = range(0, count * nodes, nodes)
    merged = Layout(
        tuple(p if p < 0 else p + start for start in at for p in layout.parents),
        layout.states,
        tuple(leaf._replace(node=leaf.node + start) for start in at for leaf in layout.categories),
        tuple(leaf._replace(node=leaf.node + start) for start in at for leaf in layout.blocks),
    )
    whole: Weights = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return merged, whole._replace(roots=whole.roots - jnp.log(count))
