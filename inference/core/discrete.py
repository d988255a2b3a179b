"""Discrete latent sites that are summed out: whether they can be, their probabilities and draws.

With the log potentials phi of a site's values and Z the sum over all sites,

    p(s = k given y, z) = d log Z / d phi(k),

which is exact for every program that can be summed, Markov chains included: there the gradient of
the forward algorithm is the backward one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.infer.util import log_density

from inference.core.enumeration import (
    HINT,
    EnumerationError,
    Term,
    Terms,
    as_factor,
    is_installed,
    time_dim,
)
from inference.core.problem import Problem
from inference.core.typing import Key, SiteArrays

# entries of the largest array in the log density; 10 million take 40 MB
LARGEST = 10_000_000

# draws of the program at which the sum is held against its terms
NUM_CHECKED = 3

# compiling with this level takes a part of the time
QUICK = {"xla_backend_optimization_level": 0}


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
    for name in names:
        distribution = problem.trace[name]["fn"]
        if not distribution.has_enumerate_support:
            return (
                f"latent site '{name}' is discrete and has infinitely many values "
                f"({_kind(distribution)}), which cannot be summed out; give its observations if "
                "they were forgotten, or truncate it: dist.Categorical over 0, ..., K with "
                "the same probabilities"
            )
        if distribution.event_shape:
            return (
                f"latent site '{name}' is discrete and is one event of shape "
                f"{distribution.event_shape}, whose values multiply; give it a numpyro.plate "
                "instead of to_event, or fit with bdl.Gibbs()"
            )
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
    check = traced.lower().compile(QUICK if jax.default_backend() == "cpu" else None)
    for point in _random_points(problem):
        own, summed = map(float, check(*point))
        if np.isfinite(own) and not np.isclose(own, summed, rtol=1e-3, atol=1e-2):
            return (
                f"discrete latent sites ({sites}) cannot be summed out: at one of their values the "
                f"program's log density is {own:.6g}, and the term of the sum is {summed:.6g}. The "
                "program uses several rows of a site at once, or rows of another plate; "
                f"{ADVICE}"
            )
    return None


ADVICE = (
    "put rows in numpyro.plate, chains in numpyro.contrib.control_flow.scan, and index arrays by "
    "the site (array[z]) instead of asking its value in Python; or fit with bdl.Gibbs()"
)


def _kind(distribution: Any) -> str:
    """Return the name of a distribution without its wrappers."""
    return type(getattr(distribution, "base_dist", distribution)).__name__


def terms_at(problem: Problem, sites: Mapping[str, ArrayLike]) -> Terms:
    """Return the terms of the log density at values of the latent sites, in their own space."""
    program = handlers.substitute(problem.program, data=dict(sites))
    seeded = handlers.seed(program, jax.random.key(0))
    return Terms.of(
        seeded, problem.summed, problem.first_free_dim, problem.args, dict(problem.kwargs)
    )


def _random_points(problem: Problem) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield points of unconstrained space, and numbers in [0, 1) for each discrete site."""
    rng = np.random.default_rng(0)
    density = problem.log_density()
    start = jax.eval_shape(lambda key: density.ravel(density.prior_draw(key)), jax.random.key(0))
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
    return own, sum((_entry(terms, term, index) for term in terms.terms), jnp.zeros(()))


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


def probabilities(problem: Problem, sites: Mapping[str, ArrayLike]) -> SiteArrays:
    """Compute p(s = k given y, z) for each site that is summed out, at one draw of z.

    Returns:
        Probabilities by site, shape (*site shape, values).
    """
    terms = terms_at(problem, sites)
    enumerated = [term for term in terms.terms if term.enumerated]
    zeros = {term.name: jnp.zeros(term.log_prob.shape) for term in enumerated}
    gradients = jax.grad(lambda added: terms.log_sum(added))(zeros)
    summed = frozenset(term.name for term in enumerated)
    parts: dict[str, list] = {}
    for term in enumerated:
        own = own_dim(term)
        other = [dim for dim, name in term.names.items() if name in summed and dim != own]
        table = gradients[term.name].sum(tuple(other), keepdims=True)
        table = table[..., None] if own is None else jnp.moveaxis(table[None], own, -1)
        parts.setdefault(root_of(term.name), []).append((term, table))
    return {name: _join(problem.unobserved[name], parts[name]) for name in parts}


def _join(shape: tuple[int, ...], parts: list[tuple[Term, jax.Array]]) -> jax.Array:
    """Join the first steps of a Markov chain and the others; shape (*shape, values)."""
    if len(parts) == 1:
        table = parts[0][1]
        return table.reshape(*shape, table.shape[-1])
    ordered = sorted(parts, key=lambda part: -part[0].name.count("_PREV_"))
    tables = [table.reshape(-1, *shape[1:], table.shape[-1]) for _, table in ordered]
    return jnp.concatenate(tables)


def draw(problem: Problem, sites: Mapping[str, ArrayLike], key: Key) -> SiteArrays:
    """Draw the sites that are summed out from p(s given y, z), jointly, at one draw of z.

    Markov chains are drawn by forward filtering and backward sampling, which funsor derives.
    """
    import funsor

    terms = terms_at(problem, sites)
    with funsor.interpretations.lazy:
        factors = {term.name: as_factor(term) for term in terms.terms if term.depends}
        total = terms.lazy_log_sum(factors)
    with funsor.montecarlo.MonteCarlo(rng_key=key):
        found = funsor.adjoint.adjoint(funsor.ops.logaddexp, funsor.ops.add, total)
    return {"_": found, "terms": terms, "factors": factors}
