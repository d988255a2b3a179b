"""The log density of a problem, site by site, at given values of its latent sites.

    log p(y, z) = sum over sites s of log p(s | the sites that it depends on)

Two programs with equal terms at the same values say the same, however they are written. So terms
tell whether a program is the one that was fitted, and at which site it differs. They hold across
versions of libraries and across machines, which a hash of the traced program does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import Distribution, biject_to
from numpyro.distributions.constraints import real

from inference.core.engine import free_params
from inference.core.problem import Problem
from inference.core.program import Message
from inference.core.typing import SiteArrays, StoredArrays
from inference.process.quiet import quiet
from inference.wrappers import innermost

# what a change of the values by rounding may do to a term, and how much of that is allowed
RELATIVE, ROUNDING, ALLOWED = 1e-4, 1e-6, 30.0


@dataclasses.dataclass(frozen=True)
class Term:
    """The log density of one site, at each of some values of the latent sites.

    Attributes:
        distribution: the name of the distribution's class, without expansions and masks.
        shape: the shape of the site's value.
        log_density: the log densities; None where none can be compared, as it is not finite, or
            depends on random numbers that the program draws besides its sites.
        tolerance: by how much each may differ by rounding.
    """

    distribution: str
    shape: tuple[int, ...]
    log_density: tuple[float | None, ...]
    tolerance: tuple[float, ...]


def log_density_terms(problem: Problem, points: list[StoredArrays]) -> dict[str, Term]:
    """Return the terms of the log density by site, factors included.

    Args:
        problem: the problem.
        points: values of latent sites, a dictionary for each point. A latent site that is not
            there takes fixed values of its support.
    """
    said: dict[str, tuple[str, tuple[int, ...]]] = {}
    # a program that is loaded is not yet the one whose parameters an engine has fixed
    problem = free_params(problem)
    params = _random_params(problem)

    def terms(latents: SiteArrays, key: jax.Array) -> SiteArrays:
        trace = _trace(problem, latents, params, key)
        sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
        for name, site in sites.items():
            said[name] = type(innermost(site["fn"])).__name__, tuple(jnp.shape(site["value"]))
        return {name: _log_density(site) for name, site in sites.items()}

    compiled = jax.jit(terms)

    def sums(latents: StoredArrays, key: int) -> dict[str, float]:
        values = compiled(latents, jax.random.key(key))
        return {name: float(np.sum(np.asarray(v, np.float64))) for name, v in values.items()}

    # values outside the support have a term of minus infinity
    with quiet():
        # a term that another key changes has random numbers in it
        runs = [(sums(z, 0), sums(z, 1), sums(_rounded(z), 0)) for z in points]
    found = {}
    for name, (distribution, shape) in said.items():
        judged = [_judge(*(run[name] for run in at_point)) for at_point in runs]
        log_density, tolerance = zip(*judged, strict=True)
        found[name] = Term(distribution, shape, log_density, tolerance)
    return found


def fixed_point(problem: Problem) -> StoredArrays:
    """Return values of the latent sites that are always the same, where they are known."""

    def values(key: jax.Array) -> SiteArrays:
        trace = _trace(problem, {}, {}, key)
        return {name: trace[name]["value"] for name in problem.latents}

    compiled = jax.jit(values)
    one, other = (compiled(jax.random.key(key)) for key in (0, 1))
    return {
        name: np.asarray(value)
        for name, value in one.items()
        if np.array_equal(value, other[name], equal_nan=True)
    }


def _judge(value: float, by_another_key: float, rounded: float) -> tuple[float | None, float]:
    """Return a term, or None where it cannot be compared, and its tolerance."""
    if not np.isfinite(value) or not np.isclose(value, by_another_key, rtol=RELATIVE, atol=1e-4):
        return None, 0.0
    moved = abs(rounded - value) if np.isfinite(rounded) else 0.0
    return value, RELATIVE * max(abs(value), 1.0) + ALLOWED * moved


def _trace(
    problem: Problem, latents: SiteArrays, params: Mapping[str, Any], key: jax.Array
) -> dict[str, Message]:
    """Run the program with these values; latent sites without one take `_fixed_value`."""

    def fill(site: Message) -> Any:
        name, known = site["name"], site["name"] in latents
        unknown = site["type"] == "sample" and not known and not site["is_observed"]
        return _fixed_value(site["fn"]) if unknown else params.get(name)

    filled = handlers.substitute(handlers.seed(problem.program, key), substitute_fn=fill)
    program = handlers.substitute(filled, data=dict(latents))
    return handlers.trace(program).get_trace(*problem.args, **problem.kwargs)


def _log_density(site: Message) -> jax.Array:
    """Return the log density of a site, an entry for each entry of its batch."""
    fn, value, steps = site["fn"], site["value"], site["intermediates"]
    found = fn.log_prob(value, steps) if steps else fn.log_prob(value)
    return found if site["scale"] is None else site["scale"] * found


def _fixed_value(distribution: Distribution) -> jax.Array | None:
    """Return a value of the support that is always the same, or None where none is known."""
    shape = distribution.shape()
    try:
        if distribution.has_enumerate_support and not distribution.event_shape:
            values = jnp.ravel(distribution.enumerate_support(expand=False))
            return values[jnp.arange(int(np.prod(shape))).reshape(shape) % len(values)]
        support: Any = distribution.support
        if support.is_discrete:
            return None
        to_support = biject_to(support)
        free = to_support.inverse_shape(shape)
        return to_support(0.3 * jnp.sin(1.0 + jnp.arange(int(np.prod(free))).reshape(free)))
    # a support without a bijection, or one that only the data tell
    except Exception:
        return None


def _random_params(problem: Problem) -> dict[str, Any]:
    """Return fixed values for the parameters (`numpyro.param`) whose first values are random."""
    names = [name for name, site in problem.trace.items() if site["type"] == "param"]
    if not names:
        return {}

    def first(key: jax.Array) -> dict[str, Any]:
        sites = _trace(problem, {}, {}, key)
        return {name: sites[name]["value"] for name in names}

    compiled = jax.jit(first)
    one, other = (compiled(jax.random.key(key)) for key in (0, 1))
    same = {
        name: all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(jax.tree.leaves(one[name]), jax.tree.leaves(other[name]), strict=True)
        )
        for name in names
    }
    return {
        name: jax.tree.map(
            lambda leaf, to=_to_support(problem.trace[name]): to(
                0.3 * jnp.sin(1.0 + jnp.arange(leaf.size).reshape(leaf.shape))
            ),
            one[name],
        )
        for name in names
        if not same[name]
    }


def _to_support(site: Message) -> Any:
    """Return the map from real numbers to what a parameter may be, where shapes stay."""
    return biject_to(site["kwargs"].get("constraint", real))


def _rounded(latents: StoredArrays) -> StoredArrays:
    """Return the values moved by a few roundings of single precision."""
    moved = {name: np.asarray(value) for name, value in latents.items()}
    return {
        name: np.asarray(value * (1 + ROUNDING)) if value.dtype.kind == "f" else value
        for name, value in moved.items()
    }
