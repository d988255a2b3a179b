"""The terms of a problem's log density, and the parts of its sites that they refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro import handlers

from inference.core.enumeration.terms import Term, Terms, time_dim
from inference.core.problem import Problem


def terms_at(
    problem: Problem,
    sites: Mapping[str, ArrayLike],
    discrete: Mapping[str, ArrayLike] | None = None,
) -> Terms:
    """Return the terms of the log density at values of the latent sites, in their own space.

    Args:
        problem: the problem.
        sites: values of the latent sites that are inferred.
        discrete: values of some of the others, which are then given and not summed out.
    """
    given = discrete or {}
    values: dict[str, Any] = {name: jnp.asarray(value) for name, value in given.items()}
    latents: dict[str, Any] = {**sites}
    program = handlers.condition(problem.program, data=values)
    program = handlers.seed(handlers.substitute(program, data=latents), jax.random.key(0))
    names = problem.summed - set(given)
    return Terms.of(program, names, problem.first_free_dim, problem.args, dict(problem.kwargs))


def root_of(name: str) -> str:
    """Return the name that the program gives to a site; steps of a Markov chain have prefixes."""
    return name.replace("_PREV_", "")


def own_dim(term: Term) -> int | None:
    """Return the dimension of a term along which its own values run; None if it has one value."""
    return next((dim for dim, name in term.names.items() if name == term.name), None)


def part_of(terms: Terms, term: Term, name: str, value: jax.Array) -> jax.Array:
    """Return the part of a site's value that a dimension of a term refers to.

    Args:
        terms: all terms.
        term: the term.
        name: the name of the dimension; each prefix `_PREV_` is a step back.
        value: the value of the site, with the steps of a Markov chain along its first axis.
    """
    firsts = sum(root_of(other.name) == root_of(name) != other.name for other in terms.terms)
    back = name.count("_PREV_")
    if not firsts:
        return value
    time = time_dim(term)
    if time is None:
        return value[firsts - back]
    rest = value[firsts - back : len(value) - back]
    return rest.reshape(rest.shape[:1] + (1,) * (-time - rest.ndim) + rest.shape[1:])
