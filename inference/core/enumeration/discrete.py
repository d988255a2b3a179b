"""Probabilities and draws of discrete latent sites that are summed out.

With the log potentials phi of a site's values and Z the sum over all sites,

    p(s = k given y, z) = d log Z / d phi(k),

which is exact for every program that can be summed, Markov chains included: there the gradient of
the forward algorithm is the backward one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from inference.core.enumeration.posed import own_dim, root_of, terms_at
from inference.core.enumeration.terms import EnumerationError, Term, Terms, time_dim
from inference.core.problem import Problem
from inference.core.typing import Key, SiteArrays

# in nats; double precision reaches exp(-700)
FLOOR = 500.0


def probabilities(problem: Problem, sites: Mapping[str, ArrayLike]) -> SiteArrays:
    """Compute p(s = k given y, z) for each site that is summed out, at one draw of z.

    Returns:
        Probabilities by site, shape (*site shape, values).
    """
    terms = terms_at(problem, sites)
    tables = _joint_probabilities(terms, [term for term in terms.terms if term.enumerated])
    summed = {term.name for term in terms.terms if term.enumerated}
    parts: dict[str, list] = {}
    for term in terms.terms:
        if term.enumerated:
            own = own_dim(term)
            other = [dim for dim, name in term.names.items() if name in summed and dim != own]
            table = tables[term.name].sum(tuple(other), keepdims=True)
            table = table[..., None] if own is None else jnp.moveaxis(table[None], own, -1)
            parts.setdefault(root_of(term.name), []).append((term, table))
    return {name: _join(problem.unobserved[name], found) for name, found in parts.items()}


def values_of(problem: Problem, sites: Mapping[str, ArrayLike]) -> SiteArrays:
    """Return the values of each site that is summed out, shape (values,)."""
    terms = terms_at(problem, sites).terms
    return {root_of(term.name): term.values for term in terms if term.values is not None}


def _joint_probabilities(terms: Terms, of: list[Term]) -> SiteArrays:
    """Return the probabilities of all combinations of values in terms, given the data."""
    zeros = {term.name: jnp.zeros(term.log_prob.shape, term.log_prob.dtype) for term in of}
    return jax.grad(lambda added: terms.log_sum(added))(zeros)


def _join(shape: tuple[int, ...], parts: list[tuple[Term, jax.Array]]) -> jax.Array:
    """Join the first steps of a Markov chain and the others; shape (*shape, ...).

    Args:
        shape: the shape of the site.
        parts: terms of the site, and for each a table with one more, last axis.
    """
    if len(parts) == 1:
        table = parts[0][1]
        return table.reshape(*shape, table.shape[-1])
    ordered = sorted(parts, key=lambda part: -part[0].name.count("_PREV_"))
    tables = [table.reshape(-1, *shape[1:], table.shape[-1]) for _, table in ordered]
    return jnp.concatenate(tables)


def draw(
    problem: Problem,
    sites: Mapping[str, ArrayLike],
    key: Key,
    names: Collection[str] | None = None,
) -> SiteArrays:
    """Draw the sites that are summed out from p(s given y, z), jointly, at one draw of z.

    Sites outside of plates come first: given them, rows are independent. A Markov chain is drawn
    step by step from the joint probabilities of neighbours.

    Args:
        problem: the problem.
        sites: the values of the latent sites.
        key: the random key.
        names: the sites to draw; all by default. Others are drawn where they come first.

    Raises:
        EnumerationError: for chains in which more than one site, or step, is remembered.
    """
    found: SiteArrays = {}
    shapes = problem.unobserved
    order = sorted(problem.summed, key=lambda name: (sum(n > 1 for n in shapes[name]), name))
    for name, one in zip(order, jax.random.split(key, len(order)), strict=True):
        if names is not None and set(names) <= set(found):
            break
        terms = terms_at(problem, sites, found)
        own = [term for term in terms.terms if root_of(term.name) == name]
        tables = _joint_probabilities(terms, own)
        values = next(term.values for term in own)
        assert values is not None
        if len(own) > 1:
            index = _draw_chain(terms, own, tables, one)
        else:
            at = own_dim(own[0])
            summed = {term.name for term in terms.terms if term.enumerated} - {name}
            other = [dim for dim, label in own[0].names.items() if label in summed]
            table = tables[name].sum(tuple(other), keepdims=True)
            table = table[..., None] if at is None else jnp.moveaxis(table[None], at, -1)
            index = jax.random.categorical(one, jnp.log(table))
        found[name] = values[index.reshape(shapes[name])]
    return found


def _draw_chain(terms: Terms, own: list[Term], tables: SiteArrays, key: Key) -> jax.Array:
    """Draw the indices of a Markov chain's values, with steps along the first axis.

    Args:
        terms: all terms.
        own: those of the chain: its first step, and the others.
        tables: the joint probabilities of each of them.
        key: the random key.
    """
    first, rest = sorted(own, key=lambda term: -term.name.count("_PREV_"))[:2]
    before = f"_PREV_{rest.name}"
    remembered = {n for term in terms.terms for n in term.names.values() if n.startswith("_PREV_")}
    if len(own) != 2 or remembered != {before}:
        raise EnumerationError(
            f"Draws of '{rest.name}' are made for chains that remember one site of one step, and "
            f"this one remembers {sorted(map(root_of, remembered))}."
        )
    summed = {term.name for term in terms.terms if term.enumerated}

    def table_of(term: Term) -> jax.Array:
        """Return probabilities with the axes: rows, value before, value."""
        dims = term.names.items()
        keep = [d for d, n in dims if n == term.name]
        keep += [d for d, n in dims if n == before != term.name]
        other = [d for d, n in term.names.items() if n in summed and d not in keep]
        table = tables[term.name].sum(tuple(other), keepdims=True)
        table = jnp.moveaxis(table[None, None], keep[0], -1)
        return table if len(keep) == 1 else jnp.moveaxis(table, _moved(keep[1], keep[0]), -2)

    start = table_of(first)
    start = start.reshape(-1, start.shape[-1])
    time = time_dim(rest)
    assert time is not None
    keys = jax.random.split(key, rest.log_prob.shape[time] + 1)
    steps = table_of(rest)
    steps = steps.reshape(len(keys) - 1, len(start), -1, start.shape[-1])

    def step(state: jax.Array, given: tuple) -> tuple[jax.Array, jax.Array]:
        table, key = given
        row = table[jnp.arange(len(state)), state if table.shape[1] > 1 else 0]
        new = jax.random.categorical(key, jnp.log(row))
        return new, new

    state = jax.random.categorical(keys[0], jnp.log(start))
    states = jax.lax.scan(step, state, (steps, keys[1:]))[1]
    return jnp.concatenate([state[None], states])


def _moved(dim: int, taken: int) -> int:
    """Return where a dimension is, counted from the right, after another one went to the end."""
    return dim - 1 if dim > taken else dim


def row_log_probs(problem: Problem, sites: Mapping[str, ArrayLike]) -> SiteArrays:
    """Compute log p(y_i given all other data, z) for sites that depend on what is summed out.

    With the probabilities q of a row's discrete values given all data it is
    -log sum over s of q(s) / p(y_i given s, z). Where rows are independent given z, that is
    log p(y_i given z). Probabilities may be tiny, so it must be run in double precision.

    Returns:
        Log probabilities by observed site, in its shape.
    """
    terms = terms_at(problem, sites)
    summed = {term.name for term in terms.terms if term.enumerated}

    def is_row(term: Term) -> bool:
        return term.observed and root_of(term.name) in problem.observed

    def floored(term: Term) -> Term:
        """Return the term where no value is much less probable than its row's best one."""
        wide = term.log_prob.astype(float)
        best = wide.max(_dims_of(term, summed), keepdims=True)
        return dataclasses.replace(term, log_prob=jnp.maximum(wide, best - FLOOR))

    held = tuple(floored(t) if is_row(t) and t.depends else t for t in terms.terms)
    of = [term for term in held if is_row(term) and term.depends]
    shares = _joint_probabilities(dataclasses.replace(terms, terms=held), of)
    parts: dict[str, list] = {}
    for term in held:
        if not is_row(term):
            continue
        rows = term.log_prob
        if term.depends:
            dims, share = _dims_of(term, summed), shares[term.name]
            rows = -logsumexp(-term.log_prob, dims, b=share, keepdims=True)
        parts.setdefault(root_of(term.name), []).append((term, rows[..., None]))
    return {n: _join(_batch_of(problem, n), found)[..., 0] for n, found in parts.items()}


def _dims_of(term: Term, summed: Collection[str]) -> tuple[int, ...]:
    """Return the dimensions of a term that run along values."""
    return tuple(dim for dim, name in term.names.items() if name in summed)


def prior_log_probs(problem: Problem, sites: Mapping[str, ArrayLike]) -> SiteArrays:
    """Compute the log density of each latent site that is inferred, a scalar each.

    Raises:
        EnumerationError: if one depends on what is summed out, and so has no density of its own.
    """
    found: SiteArrays = {}
    for term in terms_at(problem, sites).terms:
        name = root_of(term.name)
        if term.enumerated or term.observed:
            continue
        if term.depends:
            raise EnumerationError(
                f"The prior of site '{name}' depends on what is summed out and has no density of "
                "its own."
            )
        found[name] = found.get(name, jnp.zeros(())) + jnp.sum(term.scale * term.log_prob)
    return found


def data_log_prob(problem: Problem, sites: Mapping[str, ArrayLike]) -> jax.Array:
    """Compute log p(y given z), all discrete sites summed out."""
    prior = sum(prior_log_probs(problem, sites).values(), jnp.zeros(()))
    return terms_at(problem, sites).total() - prior


def _batch_of(problem: Problem, name: str) -> tuple[int, ...]:
    """Return the shape of a site's rows."""
    return tuple(problem.trace[name]["fn"].batch_shape)
