"""Whether discrete latent sites can be summed out, and why not."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import Distribution
from numpyro.infer.util import log_density

from inference.core.enumeration.posed import part_of, root_of, terms_at
from inference.core.enumeration.terms import HINT, EnumerationError, Term, Terms, is_installed
from inference.core.problem import Problem
from inference.core.typing import SiteArrays
from inference.wrappers import innermost

# entries of the largest array in the log density; 10 million take 40 MB
LARGEST = 10_000_000

# draws of the program at which the sum is held against its terms
NUM_CHECKED = 3

# compiling with this level takes a part of the time
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


@functools.lru_cache(maxsize=8)
def why_not_summed(problem: Problem) -> str | None:
    """Return the reason why discrete latent sites cannot be summed out, or None.

    The sum is held against the program itself: with all values but one ruled out, it must be the
    program's own log density there. So a program that uses a site in a way that enumeration does
    not know, such as `z.sum()` over a plate, is refused.
    """
    names = sorted(problem.summed)
    if not names:
        return None
    sites = ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    listed = why_not_listed(problem)
    if listed:
        return listed
    if not is_installed():
        return f"discrete latent sites ({sites}) are summed out by funsor, not installed: {HINT}"
    try:
        traced = jax.jit(functools.partial(_both, problem)).trace(*next(_random_points(problem)))
    except EnumerationError as error:
        return f"discrete latent sites ({sites}) cannot be summed out: {error}"
    except Exception as error:
        if "Ran out of free dims" in str(error):
            return (
                f"discrete latent sites ({sites}) are too many to be summed together: {len(names)} "
                f"sites outside of plates and scans have too many joint values; {ADVICE}"
            )
        return (
            f"discrete latent sites ({sites}) cannot be summed out, as the program cannot run with "
            f"all their values at once ({type(error).__name__}); {ADVICE}"
        )
    size = max((math.prod(v.aval.shape) for e in traced.jaxpr.eqns for v in e.outvars), default=0)
    if size > LARGEST:
        return (
            f"discrete latent sites ({sites}) have too many joint values: the sum needs arrays of "
            f"{size:,} numbers, at most {LARGEST:,} are made; {ADVICE}"
        )
    check = traced.lower().compile(QUICK if jax.default_backend() == "cpu" else {})
    for point in _random_points(problem):
        own, summed = map(float, check(*point))
        if np.isfinite(own) and not np.isclose(own, summed, rtol=2e-5, atol=1e-3):
            return (
                f"discrete latent sites ({sites}) cannot be summed out: at one of their values the "
                f"program's log density is {own:.6g}, and the term of the sum is {summed:.6g}. The "
                "program uses several rows of a site at once, or rows of another plate; "
                f"{ADVICE}"
            )
    return None


def why_not_listed(problem: Problem) -> str | None:
    """Return the reason why the values of a discrete latent site cannot be listed, or None."""
    for name in sorted(problem.summed):
        distribution = problem.trace[name]["fn"]
        if not distribution.has_enumerate_support:
            return (
                f"latent site '{name}' is discrete and has infinitely many values "
                f"({_kind(distribution)}), which cannot be summed out; give its observations if "
                "they were forgotten, or draw it up to a largest value: bdl.Gibbs(largest=...)"
            )
        if distribution.event_shape:
            return (
                f"latent site '{name}' is discrete and is one event of shape "
                f"{distribution.event_shape}, whose values multiply; give it a numpyro.plate "
                "instead of to_event, or draw them with bdl.Gibbs()"
            )
    return None


ADVICE = (
    "put rows in numpyro.plate, chains in numpyro.contrib.control_flow.scan, and index arrays by "
    "the site (array[z]) instead of asking its value in Python; rows that pick entries of a site "
    "of another plate (z[group]) can be an axis inside that plate; or draw them with bdl.Gibbs()"
)


def _kind(distribution: Distribution) -> str:
    """Return the name of a distribution without its wrappers."""
    return type(innermost(distribution)).__name__


def _random_points(problem: Problem) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield points of unconstrained space, and numbers in [0, 1) for each discrete site."""
    rng = np.random.default_rng(0)
    start = problem.log_density().shape
    for _ in range(NUM_CHECKED):
        u = rng.uniform(-2, 2, start.shape).astype(start.dtype)
        uniform = {name: rng.random(problem.unobserved[name]) for name in problem.summed}
        yield u, {name: value.astype(np.float32) for name, value in uniform.items()}


def _both(problem: Problem, u: jax.Array, uniform: SiteArrays) -> tuple[jax.Array, jax.Array]:
    """Return the program's log density at values of all sites, and what the sum makes of it."""
    found = problem.log_density().constrain(u)
    latents = {name: found[name] for name in problem.latents}
    terms = terms_at(problem, latents)
    values = {root_of(term.name): term.values for term in terms.terms if term.values is not None}
    index = {
        name: jnp.minimum((share * len(values[name])).astype(int), len(values[name]) - 1)
        for name, share in uniform.items()
    }
    discrete = {name: values[name][index[name]] for name in index}
    program = handlers.seed(problem.program, jax.random.key(0))
    own = log_density(program, problem.args, dict(problem.kwargs), latents | discrete)[0]
    return jnp.asarray(own), sum(
        (_entry(terms, term, index) for term in terms.terms), jnp.zeros(())
    )


def _entry(terms: Terms, term: Term, index: SiteArrays) -> jax.Array:
    """Return the weighted sum of a term's entries at values of the sites that are summed out."""
    shape = term.log_prob.shape
    places = []
    for dim in range(-len(shape), 0):
        name = term.names.get(dim, "")
        if root_of(name) in index:
            chosen = part_of(terms, term, name, index[root_of(name)])
            places.append(chosen.reshape((1,) * (len(shape) - chosen.ndim) + chosen.shape))
        else:
            places.append(np.arange(shape[dim]).reshape((-1,) + (1,) * (-dim - 1)))
            places[-1] = places[-1].reshape((1,) * (len(shape) + dim) + places[-1].shape)
    return jnp.sum(term.scale * term.log_prob[tuple(places)])
