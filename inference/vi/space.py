"""The parameters' own space, and the unconstrained one in which they are optimised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import biject_to, constraints


@dataclasses.dataclass(frozen=True)
class Space:
    """The parameters' own space and the unconstrained one in which they are optimised.

    Attributes:
        sites: the `numpyro.param` sites by name, which hold the constraints.
    """

    sites: dict[str, dict]

    def transform(self, values: Mapping[str, Any], inverse: bool) -> dict[str, Any]:
        """Map values from unconstrained space to the parameters' own space, or back."""
        found = dict(values)
        for name, site in self.sites.items():
            constraint = site["kwargs"].get("constraint", constraints.real)
            if constraint is not constraints.real:
                transform = biject_to(constraint)
                found[name] = transform.inv(found[name]) if inverse else transform(found[name])
        return found

    def constrain(self, u: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters at unconstrained values."""
        return self.transform(u, inverse=False)

    def unconstrain(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return unconstrained values that an optimiser can update."""
        return jax.tree.map(as_float, self.transform(values, inverse=True))


def as_float(leaf: ArrayLike) -> jax.Array:
    """Return an array that an optimiser can update.

    It is strongly typed, so that blocks are compiled once.
    """
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, jnp.result_type(leaf.dtype, jnp.zeros(()).dtype))
