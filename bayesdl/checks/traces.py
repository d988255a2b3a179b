"""Functions of a program's trace: terms of its log density, values, and what masks hide.

A trace is a dictionary of sites by name, with values and distributions.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float
from numpyro.distributions import Distribution, Independent, MultivariateNormal

from inference.core.program import is_factor
from inference.wrappers import marginal_cdf, seen_entries, unmasked


@runtime_checkable
class LeavesOut(Protocol):
    """A distribution of all rows that knows each row given the others in closed form."""

    def left_out(self, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return log p(y_i | y_-i) and P(Y_i <= y_i | y_-i) of each row i."""
        ...


def prior_terms(sites: dict) -> dict:
    """Return log p(z_s | z before s) of each latent site."""
    return {
        name: _total(site)
        for name, site in sites.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def data_terms(sites: dict) -> dict:
    """Return log p(y | z) of each observed site, summed."""
    return {name: _total(site) for name, site in sites.items() if _is_data(site)}


def row_terms(sites: dict) -> dict:
    """Return log p(y_i | z) of each observed site by rows, masks apart."""
    return {
        name: _by_row(unmasked(site["fn"]), jnp.asarray(site["value"]))
        for name, site in sites.items()
        if _is_data(site)
    }


def level_terms(sites: dict) -> dict:
    """Return P(Y_i <= y_i | z) of each observed site by rows, masks apart.

    Where one multivariate normal holds all rows, it is P(Y_i <= y_i | y_-i, z).
    """
    return {
        name: _levels(unmasked(site["fn"]), jnp.asarray(site["value"]))
        for name, site in sites.items()
        if _is_data(site)
    }


def _levels(given: Distribution, y: jax.Array) -> jax.Array:
    """Compute the levels of one site."""
    while isinstance(given, Independent) and not given.batch_shape:
        given = given.base_dist
    if isinstance(given, MultivariateNormal) and not given.batch_shape:
        mean = jnp.broadcast_to(given.loc, y.shape)
        c, g = _precisions(mean, given.scale_tril, y)
        return jax.scipy.special.ndtr(g / jnp.sqrt(c))
    if isinstance(given, LeavesOut):
        return given.left_out(y)[1]
    return marginal_cdf(given, y)


def factor_terms(sites: dict) -> dict:
    """Return the values of factors."""
    return {
        name: jnp.asarray(site["fn"].log_prob(site["value"]))
        for name, site in sites.items()
        if site["type"] == "sample" and is_factor(site["fn"])
    }


def data_values(sites: dict) -> dict:
    """Return the values of the observed sites."""
    return {name: jnp.asarray(site["value"]) for name, site in sites.items() if _is_data(site)}


def visible_values(sites: dict) -> dict:
    """Return which entries of the observed sites no mask hides."""
    return {
        name: _seen(site, jnp.shape(site["value"]))
        for name, site in sites.items()
        if _is_data(site)
    }


def visible_rows(sites: dict) -> dict:
    """Return which rows of observed sites and factors no mask hides."""
    terms = row_terms(sites) | factor_terms(sites)
    seen = visible_values(sites)
    # a factor has no entries, but rows
    seen |= {
        name: _seen(sites[name], (*term.shape, 1))
        for name, term in terms.items()
        if name not in seen
    }
    return {
        name: seen[name].any(axis=tuple(range(term.ndim, seen[name].ndim)))
        for name, term in terms.items()
    }


def _seen(site: dict, shape: tuple[int, ...]) -> jax.Array:
    """Return which entries of a value of this shape count: neither masked, nor of weight zero."""
    seen = seen_entries(site["fn"], shape)
    if site["scale"] is None:
        return seen
    weighed = jnp.asarray(site["scale"]) != 0
    rows = site["fn"].event_dim if weighed.ndim else 0
    return seen & jnp.broadcast_to(weighed.reshape(weighed.shape + (1,) * rows), shape)


def row_weights(sites: dict) -> dict:
    """Return the weights of observed sites that have any (`handlers.scale`)."""
    return {
        name: jnp.asarray(site["scale"])
        for name, site in sites.items()
        if _is_data(site) and site["scale"] is not None
    }


@dataclasses.dataclass(frozen=True)
class Values:
    """A function of a trace that returns the values of some sites."""

    names: tuple[str, ...]

    def __call__(self, sites: dict) -> dict:
        return {name: jnp.asarray(sites[name]["value"]) for name in self.names}


def _is_data(site: dict) -> bool:
    """Whether a site is observed and not a factor."""
    return site["type"] == "sample" and site["is_observed"] and not is_factor(site["fn"])


def _total(site: dict) -> jax.Array:
    """Compute the site's term of the log joint density."""
    terms = jnp.asarray(site["fn"].log_prob(site["value"]))
    return jnp.sum(terms if site["scale"] is None else site["scale"] * terms)


def _by_row(given: Distribution, y: jax.Array) -> jax.Array:
    """Compute log p(y_i | z) per row.

    Where one multivariate normal holds all rows, it is log p(y_i | y_-i, z).
    """
    # one event of independent entries: each is a row
    while isinstance(given, Independent) and not given.batch_shape:
        given = given.base_dist
    if isinstance(given, MultivariateNormal) and not given.batch_shape:
        return _left_out(jnp.broadcast_to(given.loc, y.shape), given.scale_tril, y)
    if isinstance(given, LeavesOut):
        return given.left_out(y)[0]
    return jnp.asarray(given.log_prob(y))


def _left_out(
    mean: Float[Any, "rows"], lower: Float[Any, "rows rows"], y: Float[Any, "rows"]
) -> Float[Any, "rows"]:
    """Compute log p(y_i | y_-i) for y ~ N(mean, C) with C = lower lower'.

    With g = C^-1 (y - mean) and c = diag C^-1 it is the log density of N(y_i - g_i / c_i, 1 / c_i)
    at y_i (Sundararajan and Keerthi 2001; Bürkner, Gabry and Vehtari 2021, arXiv:1810.10559).
    """
    c, g = _precisions(mean, lower, y)
    return 0.5 * (jnp.log(c) - jnp.log(2 * jnp.pi) - g**2 / c)


def _precisions(
    mean: Float[Any, "rows"], lower: Float[Any, "rows rows"], y: Float[Any, "rows"]
) -> tuple[Float[Any, "rows"], Float[Any, "rows"]]:
    """Compute diag C^-1 and C^-1 (y - mean) for C = lower lower'."""
    root = solve_triangular(lower, jnp.eye(len(y), dtype=lower.dtype), lower=True)
    return jnp.sum(root**2, axis=0), root.T @ (root @ (y - mean))
