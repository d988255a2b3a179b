"""Parameters of guides and models: unconstrained, as programs take them, and flat as stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import biject_to, constraints

from inference.core.problem import Problem
from inference.core.typing import StoredArrays
from inference.vi.expectation import Expectation


def flatten_params(params: Mapping[str, Any]) -> StoredArrays:
    """Return parameters as arrays by name; the leaves of nested ones have numbered names."""
    flat: StoredArrays = {}
    for name, value in params.items():
        leaves = jax.tree.leaves(value)
        single = len(leaves) == 1 and leaves[0] is value
        flat |= {
            name if single else f"{name}#{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)
        }
    return flat


def _unflatten_params(flat: Mapping[str, Any], sites: Mapping[str, dict]) -> dict[str, Any]:
    """Return what was flattened by `flatten_params`.

    Args:
        flat: the arrays by name.
        sites: the `numpyro.param` sites, whose values have the structure.
    """
    params: dict[str, Any] = {}
    for name, site in sites.items():
        if name in flat:
            params[name] = flat[name]
        else:
            structure = jax.tree.structure(site["value"])
            leaves = [flat[f"{name}#{i}"] for i in range(structure.num_leaves)]
            params[name] = jax.tree.unflatten(structure, leaves)
    return params


def as_program_params(
    expectation: Expectation, problem: Problem, flat: Mapping[str, Any]
) -> dict[str, Any]:
    """Return flat parameters as the programs take them."""
    # networks whose weights are latent sites have a parameter of no array
    if not any("#" in name for name in flat) and set(_names(problem)) <= flat.keys():
        return dict(flat)
    sites = expectation.sites(jax.random.key(0), *problem.args, **problem.kwargs)
    return _unflatten_params(flat, sites)


def model_params(problem: Problem, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's own parameters, which its predictions need."""
    # a network whose weights are latent sites has none of its own to learn
    return {name: params[name] for name in _names(problem) if jax.tree.leaves(params.get(name))}


def _names(problem: Problem) -> list[str]:
    """Return the names of the `numpyro.param` sites of the model."""
    return [name for name, site in problem.trace.items() if site["type"] == "param"]


def unconstrained_names(sites: Mapping[str, dict]) -> list[str]:
    """Return the names of parameters of users' programs that may have any value."""
    real = constraints.real
    names = [name for name, site in sites.items() if site["kwargs"].get("constraint", real) is real]
    return [name for name in names if not name.startswith(("auto_", "baseline/"))]


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
        return jax.tree.map(_as_float, self.transform(values, inverse=True))


def _as_float(leaf: ArrayLike) -> jax.Array:
    """Return an array that an optimiser can update.

    It is strongly typed, so that blocks are compiled once.
    """
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, jnp.result_type(leaf.dtype, jnp.zeros(()).dtype))
