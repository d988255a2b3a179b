"""The tempered ELBO as a function of the parameters of q, from a minibatch; see `sites.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.keys import named_key
from inference.core.typing import AnyArray, Key, SiteArrays
from inference.sparse.patterns.layout import Layout
from inference.sparse.products.sparse_product import SparseProduct, store_noise
from inference.sparse.variational.divergence import NORMAL_ENTROPY, kl_of_weights
from inference.sparse.variational.sites import ProblemSites, scale_of


class Terms(NamedTuple):
    """The terms of the ELBO.

    Attributes:
        likelihood: an estimate of E_q[log p(y | w, z)] for all rows.
        divergence: an estimate of what q costs: KL of the weights and of the normal sites, minus
            log p of the points.
    """

    likelihood: AnyArray
    divergence: AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """E_q[log p(y | w, z)] - beta * divergence, and its parts.

    Attributes:
        sites: the latent sites of the problem.
        layout: the stores of the weights.
        beta: the factor of the divergence.
        estimator: the estimator for the noise of the weights.
    """

    sites: ProblemSites
    layout: Layout
    beta: float
    estimator: str

    def terms(
        self,
        params: Mapping[str, Any],
        index: Mapping[str, AnyArray],
        rows: AnyArray | None,
        key: Key,
        data: tuple,
        probes: Mapping[str, AnyArray] | None = None,
    ) -> tuple[Terms, SiteArrays]:
        """Return the terms from one draw of the noise, and the inputs of each layer.

        Inputs are kept only where there are probes.

        Args:
            params: "weights" of each store (mean, raw), "points", and "normals" (loc, raw).
            index: the active tiles of each store.
            rows: the numbers of the rows of a minibatch, or None for all rows.
            key: the random key of the noise.
            data: the positional and the keyword arguments of the program.
            probes: zeros that are added to the outputs of layers; see `SparseProduct`.
        """
        mean = {name: leaf["mean"] for name, leaf in params["weights"].items()}
        sd = {name: scale_of(leaf["raw"]) for name, leaf in params["weights"].items()}
        noise = named_key(key, "weights")
        product = SparseProduct(self.layout, index, mean, sd, noise, self.estimator, probes)
        values, density = self.draw_sites(params["normals"], named_key(key, "sites"))
        joint = self.sites.joint(dict(params["points"]) | values, product, rows, *data)
        kl = kl_of_weights(self.layout, index, mean, sd, joint.priors, named_key(key, "divergence"))
        return Terms(joint.likelihood, kl + density - joint.sites), product.inputs

    def draw_sites(self, params: Mapping[str, Any], key: Key) -> tuple[SiteArrays, jax.Array]:
        """Draw the normal sites, and return E[log q] of them in their own space."""
        values, density = {}, jnp.zeros(())
        for name, leaf in params.items():
            transform, sd = self.sites.transform(name), scale_of(leaf["raw"])
            u = leaf["loc"] + sd * store_noise(key, name, leaf["loc"])
            values[name] = transform(u)
            slope = transform.log_abs_det_jacobian(u, values[name])
            density = density - (NORMAL_ENTROPY + jnp.log(sd)).sum() - jnp.sum(slope)
        return values, density

    def value(self, terms: Terms | AnyArray) -> AnyArray:
        """Return the tempered ELBO, for terms or an array of (likelihood, divergence)."""
        likelihood, divergence = terms
        return likelihood - self.beta * divergence
