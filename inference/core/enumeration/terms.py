"""Programs with their discrete latent sites summed out, through NumPyro's enumeration and funsor.

With z for the continuous and s for the discrete latent sites,

    log p(y, z) = log sum over s of p(y, s, z).

A site in a plate is summed for each row by itself, a Markov chain (`numpyro.contrib.control_flow`'s
`scan`) by the forward algorithm. Obermeyer et al. (2019), "Tensor variable elimination for plated
factor graphs", ICML.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro import handlers

from inference.core.enumeration.handlers import (
    Enumerated,
    enumerated_plates,
    packed_trace,
    support_of,
)
from inference.core.typing import Program
from inference.process.threads import one_at_a_time

# NumPyro's names of dimensions, and how funsor reads terms, belong to the process
FUNSOR = threading.RLock()

HINT = 'pip install "bayesdl[enum]"'


def is_installed() -> bool:
    """Whether the library that sums is installed."""
    return importlib.util.find_spec("funsor") is not None


class EnumerationError(ValueError):
    """Discrete latent sites cannot be summed out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """The log density of one site for all values of the sites that are summed out.

    Attributes:
        name: the name of the site; the first steps of a Markov chain have prefixes `_PREV_`.
        log_prob: the log density, one entry for each row and each combination of values.
        names: the names of its dimensions that are longer than one, counted from the right.
        scale: the weight of the site.
        enumerated: whether the site itself is summed out.
        observed: whether the site has data.
        depends: whether it depends on a site that is summed out.
        values: the values that a site that is summed out can have, in order; otherwise None.
    """

    name: str
    log_prob: jax.Array
    names: Mapping[int, str]
    scale: Any
    enumerated: bool
    observed: bool
    depends: bool
    values: jax.Array | None


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """The terms of a log density whose discrete sites are enumerated.

    Attributes:
        terms: the terms, one for each site.
        plates: the names of all dimensions that rows run along.
    """

    terms: tuple[Term, ...]
    plates: frozenset[str]

    @classmethod
    def of(
        cls, program: Program, sites: frozenset[str], dim: int, args: tuple, kwargs: Mapping
    ) -> Terms:
        """Return the terms of a program whose other latent sites have values.

        Args:
            program: the program with its values.
            sites: the names of the sites that are enumerated.
            dim: the first dimension, counted from the right, that batches leave free.
            args: the positional arguments of the program.
            kwargs: its keyword arguments.
        """
        with jax.numpy_rank_promotion("allow"):
            return cls.of_trace(enumerated_trace(program, sites, dim, args, kwargs))

    @classmethod
    def of_trace(cls, trace: Mapping[str, dict]) -> Terms:
        """Return the terms of sites as `enumerated_trace` gives them."""
        found = [site for site in trace.values() if site["type"] == "sample"]
        summed = {site["name"] for site in found if site["infer"].get("summed")}
        terms = [_term(site, summed) for site in found]
        every = {name for term in terms for name in term.names.values()}
        return cls(tuple(terms), frozenset(every - summed))

    def total(self, added: Mapping[str, ArrayLike] | None = None) -> jax.Array:
        """Return the log density, a scalar.

        Args:
            added: what is added to the log density of sites, by name, in the shape of its term.
        """
        own = [term for term in self.terms if not term.depends]
        total = sum((_weighted(term) for term in own), jnp.zeros(()))
        rest = [term for term in self.terms if term.depends]
        if not rest:
            return total
        return total + common_scale(rest) * self.log_sum(added)

    @one_at_a_time(FUNSOR)
    def log_sum(self, added: Mapping[str, ArrayLike] | None = None) -> jax.Array:
        """Return the log of the sum of the terms that depend on what is summed, without weight."""
        import funsor
        import funsor.optimizer

        factors = {
            term.name: as_factor(term, (added or {}).get(term.name))
            for term in self.terms
            if term.depends
        }
        result: Any = funsor.optimizer.apply_optimizer(self.lazy_log_sum(factors))
        if result.inputs:
            left = ", ".join(sorted(name.replace("_PREV_", "") for name in result.inputs))
            raise EnumerationError(f"the sum over '{left}' has no order in which it can be done")
        return result.data

    def lazy_log_sum(self, factors: Mapping[str, Any]) -> Any:
        """Return `log_sum` as an expression of funsor that is not computed yet.

        It is what `numpyro.contrib.funsor.log_density` does with its factors.

        Args:
            factors: the terms that depend on what is summed, as funsor's factors.
        """
        import funsor
        from numpyro.contrib.funsor.infer_util import _get_shift, compute_markov_factors

        outside: list[Any] = []
        by_time: dict[Any, list] = defaultdict(list)
        firsts: dict[Any, frozenset] = defaultdict(frozenset)
        dims: dict[Any, frozenset] = defaultdict(frozenset)
        terms = [term for term in self.terms if term.depends]
        names = {term.name: frozenset(term.names.values()) for term in terms}
        summed = frozenset(term.name for term in terms if term.enumerated)
        plates, history = frozenset(self.plates), 0
        for term in terms:
            time = time_dim(term)
            if time is None:
                outside.append(factors[term.name])
                continue
            variable = funsor.Variable(term.names[time], funsor.Bint[term.log_prob.shape[time]])
            by_time[variable].append(factors[term.name])
            before = frozenset(name for name in names[term.name] if name.startswith("_PREV_"))
            firsts[variable] |= before
            history = max([history, *map(_get_shift, before)])
        if history == 0:
            outside += [factor for several in by_time.values() for factor in several]
            by_time = {}
        plates -= frozenset(variable.name for variable in by_time)
        for variable in by_time:
            for name in firsts[variable]:
                current = name.replace("_PREV_", "")
                if name in names.get(current, ()):
                    dims[variable] |= names[current]
        ops = funsor.ops.logaddexp, funsor.ops.add
        if by_time:
            outside += compute_markov_factors(
                by_time, firsts, dims, summed | plates, plates, history, *ops
            )
        with funsor.interpretations.lazy:
            return funsor.sum_product.sum_product(
                *ops, outside, eliminate=summed | plates, plates=plates
            )


@one_at_a_time(FUNSOR)
def enumerated_trace(
    program: Program, sites: frozenset[str], dim: int, args: tuple, kwargs: Mapping
) -> dict[str, dict]:
    """Return the sites of a program in which some have all their values at once; see `Terms.of`."""
    from numpyro.contrib.funsor import enum

    enumerated = enum(Enumerated(program, sites), first_available_dim=dim)
    packed = packed_trace()(enumerated)
    with handlers.block(), enumerated_plates(), jax.numpy_rank_promotion("allow"):
        return packed.get_trace(*args, **kwargs)


def time_dim(term: Term) -> int | None:
    """Return the dimension that runs along the steps of a Markov chain, or None."""
    return next((dim for dim, name in term.names.items() if name.startswith("_time")), None)


def _term(site: dict, summed: set[str]) -> Term:
    """Return the term of a traced site."""
    value, given = site["value"], site["intermediates"]
    log_prob = site["fn"].log_prob(value, given) if given else site["fn"].log_prob(value)
    names, base = site["infer"]["names"], getattr(site["fn"], "base", site["fn"])
    return Term(
        site["name"],
        jnp.asarray(log_prob),
        names,
        1.0 if site["scale"] is None else site["scale"],
        site["name"] in summed,
        site["is_observed"],
        site["name"] in summed or not summed.isdisjoint(names.values()),
        support_of(base) if site["name"] in summed else None,
    )


def _weighted(term: Term) -> jax.Array:
    """Return the sum of a term."""
    return jnp.sum(term.scale * term.log_prob)


def common_scale(terms: list[Term]) -> Any:
    """Return the one weight of terms that are summed together.

    Raises:
        EnumerationError: if they have different weights, or a weight for each row.
    """
    first = terms[0].scale
    for term in terms:
        same = term.scale is first or (
            _is_number(term.scale) and _is_number(first) and float(term.scale) == float(first)
        )
        if not same or np.ndim(first):
            raise EnumerationError(
                f"sites '{terms[0].name}' and '{term.name}' are summed together and have different "
                "weights (numpyro.handlers.scale, or a minibatch of a plate that only one of them "
                "is in); give both one weight"
            )
    return first


def _is_number(value: object) -> bool:
    """Whether a weight is one number that is known."""
    return isinstance(value, int | float | np.number)


def as_factor(term: Term, added: ArrayLike | None = None) -> Any:
    """Return a term as funsor's factor, with something added to it."""
    import funsor

    log_prob = term.log_prob if added is None else term.log_prob + added
    if not term.names:
        return funsor.to_funsor(log_prob.reshape(()), output=funsor.Real)
    names = OrderedDict((dim, term.names[dim]) for dim in sorted(term.names))
    return funsor.to_funsor(log_prob, output=funsor.Real, dim_to_name=names)
