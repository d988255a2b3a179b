"""Which arguments of a program are observations, and what the program observes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from bayesdl.model.names import site_in
from bayesdl.model.programs.posing import runs
from bayesdl.typing import Values
from inference.core.problem import Problem
from inference.core.program import arguments_of, signature_of
from inference.process.cached import remembered
from inference.process.quiet import quiet


def optional_arguments(function: Callable) -> set[str]:
    """Return the names of a program's arguments that may be observations: their default is None."""
    return {p.name for p in signature_of(function).parameters.values() if p.default is None}


def optional_given(problem: Problem) -> dict[str, Any]:
    """Return the arguments that may be observations and were given, by name."""
    optional = optional_arguments(problem.program)
    given = arguments_of(problem.program, problem.args, problem.kwargs)
    return {name: given[name] for name in given if name in optional and given[name] is not None}


@remembered
def without_data(problem: Problem) -> Problem:
    """Return the problem without its observations, if the program runs so, or as it is."""
    given = signature_of(problem.program).bind(*problem.args, **problem.kwargs)
    for name in observed_at(problem):
        del given.arguments[name]
    unseen = Problem(problem.program, given.args, given.kwargs)
    # the data may tell the number of rows: `n = len(y)`
    return unseen if runs(unseen) else problem


@remembered
def observed_at(problem: Problem) -> dict[str, str]:
    """Return the site of each argument that is an observation.

    It is the observed site that has the argument's name, otherwise one that has its value,
    otherwise one that is observed only where the argument is given.
    """
    optional = optional_given(problem)
    found = {name: name for name in optional if name in problem.observed}
    sites = [site for site in problem.observed if site not in found]
    if sites and len(found) < len(optional):
        values = values_at(problem, sites)
        for name in optional:
            same = [site for site in sites if same_value(optional[name], values[site])]
            found |= {name: same[0]} if name not in found and same else {}
    return found | _observed_where_given(problem, [n for n in optional if n not in found])


def _observed_where_given(problem: Problem, names: Iterable[str]) -> dict[str, str]:
    """Return the site of each argument without which the site is no longer observed."""
    found = {}
    for name in names:
        given = signature_of(problem.program).bind(*problem.args, **problem.kwargs)
        del given.arguments[name]
        without = Problem(problem.program, given.args, given.kwargs)
        lost = [site for site in problem.observed if runs(without) and site in without.latents]
        found |= {name: lost[0]} if lost else {}
    return found


def value_observed(problem: Problem, site: str, given: Values) -> Values:
    """Return what a site observes; what was given where that is the same.

    A program may observe a function of its argument, such as its logarithm.

    Args:
        problem: the program with the data.
        site: the site.
        given: the argument that it observes.
    """
    name = site_in(problem.trace, site)
    if not problem.trace[name].get("is_observed"):
        return given
    observed = values_at(problem, [name])[name]
    return given if same_value(given, observed) else np.asarray(observed)


def values_at(problem: Problem, sites: list[str]) -> dict[str, Any]:
    """Return the values of observed sites.

    Compiled, so that only what they depend on is computed: parameters that a distribution cannot
    have are refused where they are predicted from.
    """

    def run(key: jax.Array) -> dict[str, jax.Array]:
        # improper priors have no sampler
        seeded = handlers.seed(problem.program, key)
        program = handlers.substitute(seeded, substitute_fn=init_to_sample)
        trace = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
        return {site: jnp.asarray(trace[site]["value"]) for site in sites}

    with quiet():
        return jax.jit(run)(jax.random.key(0))


def same_value(one: Values, other: Values) -> bool:
    """Return whether two values are one object, or have the same shape and content."""
    if one is other:
        return True
    numeric = np.ndarray | jax.Array | int | float
    if not (isinstance(one, numeric) and isinstance(other, numeric)):
        return False
    if np.shape(one) != np.shape(other):
        return False
    one, other = np.asarray(one), np.asarray(other)
    # the program may see the argument in another precision
    if one.dtype.kind == other.dtype.kind == "f":
        return np.array_equal(one.astype(other.dtype), other, equal_nan=True)
    return np.array_equal(one, other)
