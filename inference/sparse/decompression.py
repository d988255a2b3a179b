"""From the compressed form of a draw, the values of active weights, to all sites of the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from numpyro import handlers

from inference.core.program import WholePlates
from inference.core.typing import AnyArray, SiteArrays
from inference.sparse.patterns.layout import Layout
from inference.sparse.products.sparse_product import ZeroProduct
from inference.sparse.variational.sites import ProblemSites


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SparseDecompression:
    """The map from values of active weights and of the other sites to all sites of the program.

    Attributes:
        index: the active tiles of each store.
        layout: the stores of the network.
        sites: the latent sites of the problem.
    """

    index: dict[str, AnyArray]
    layout: Layout = dataclasses.field(metadata={"static": True})
    sites: ProblemSites = dataclasses.field(metadata={"static": True})

    def __call__(self, compressed: Mapping[str, AnyArray]) -> SiteArrays:
        stored = {name: compressed[name] for name in self.layout.patterns}
        seen = self.layout.matrices(self.index, stored)
        names = (*self.sites.points, *self.sites.normals)
        others = {name: jnp.asarray(compressed[name]) for name in names}
        scales, deterministic = self.scales_and_deterministics(others)
        latent = {self.sites.weights[name]: matrix / scales[name] for name, matrix in seen.items()}
        return deterministic | seen | latent | others

    def scales_and_deterministics(
        self, others: SiteArrays
    ) -> tuple[dict[str, jax.Array | float], SiteArrays]:
        """Return the scale between each matrix and its latent site, and the deterministic sites.

        Args:
            others: the values of the sites that are not weights.
        """
        problem, weights = self.sites.problem, self.sites.weights
        if all(latent == seen for latent, seen in self.sites.network.weights.items()):
            return dict.fromkeys(weights, 1.0), {}
        assert self.sites.network.with_product is not None
        program = WholePlates(
            self.sites.network.with_product(self.sites.problem.program, ZeroProduct(self.layout))
        )
        ones = {site: jnp.ones(problem.latents[site]) for site in weights.values()}
        seeded = handlers.seed(program, jax.random.key(0))
        # one row, as nothing that depends on rows is used
        inputs = tuple(arg[:1] for arg in problem.args)
        substituted = handlers.substitute(seeded, data=ones | others)
        trace = handlers.trace(substituted).get_trace(*inputs, **problem.kwargs)
        scales = {
            seen: 1.0 if seen == site else trace[seen]["value"].reshape(-1)[0]
            for seen, site in weights.items()
        }
        deterministic = {
            name: site["value"] for name, site in trace.items() if site["type"] == "deterministic"
        }
        return scales, deterministic
