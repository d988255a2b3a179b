"""The tempered ELBO as a function of the parameters of q, from a minibatch; see `family.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inference.core.keys import named_key
from inference.sparse.patterns.layout import Layout
from inference.sparse.products.sparse_product import SparseProduct, normals
from inference.sparse.variational.sites import NORMAL_ENTROPY, Sites, kl_of_weights, scale_of


class Terms(NamedTuple):
    """Of the ELBO.

    Attributes:
        likelihood: an estimate of E_q[log p(y | w, z)] for all rows.
        divergence: an estimate of what q costs: KL of the weights and of the normal sites, minus log p of the points.
    """

    likelihood: Any
    divergence: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """E_q[log p(y | w, z)] - beta * divergence, and its parts.

    Attributes:
        sites: of the problem.
        layout: of the weights.
        beta: what the divergence is multiplied by.
        estimator: of the noise of the weights.
    """

    sites: Sites
    layout: Layout
    beta: float
    estimator: str

    def terms(
        self,
        params: Mapping[str, Any],
        index: Mapping[str, Any],
        rows: Any,
        key: jax.Array,
        data: tuple,
        probes: Mapping[str, Any] | None = None,
    ) -> tuple[Terms, dict[str, Any]]:
        """The terms from one draw of the noise, and the inputs of each layer where there are probes."""
        mean = {name: leaf["mean"] for name, leaf in params["weights"].items()}
        sd = {name: scale_of(leaf["raw"]) for name, leaf in params["weights"].items()}
        product = SparseProduct(
            self.layout, index, mean, sd, named_key(key, "weights"), self.estimator, probes
        )
        values, density = self.drawn(params["normals"], named_key(key, "sites"))
        joint = self.sites.joint(dict(params["points"]) | values, product, rows, *data)
        kl = kl_of_weights(self.layout, index, mean, sd, joint.priors, named_key(key, "divergence"))
        return Terms(joint.likelihood, kl + density - joint.sites), product.inputs

    def drawn(self, params: Mapping[str, Any], key: jax.Array) -> tuple[dict[str, Any], Any]:
        """A draw of the normal sites, and E[log q] of them in their own space."""
        values, density = {}, jnp.zeros(())
        for name, leaf in params.items():
            transform, sd = self.sites.transform(name), scale_of(leaf["raw"])
            u = leaf["loc"] + sd * normals(key, name, leaf["loc"])
            values[name] = transform(u)
            slope = transform.log_abs_det_jacobian(u, values[name])
            density = density - (NORMAL_ENTROPY + jnp.log(sd)).sum() - jnp.sum(slope)
        return values, density

    def value(self, terms: Any) -> Any:
        """The tempered ELBO."""
        likelihood, divergence = terms
        return likelihood - self.beta * divergence
