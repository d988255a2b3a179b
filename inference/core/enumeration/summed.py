"""A program whose discrete latent sites are summed out, as engines take it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax.extend.core import Literal
from numpyro import handlers

from inference.core.enumeration.handlers import Shown
from inference.core.enumeration.terms import Terms
from inference.core.typing import Program, SiteArrays


@dataclasses.dataclass(frozen=True)
class Summed:
    """A program whose discrete latent sites are summed out.

    Other programs see its continuous latent sites, without their densities, and one factor: the log
    density of everything.

    Attributes:
        program: the program.
        sites: the names of the sites that are summed out.
        hidden: the names of other sites that are not shown: observed sites, and deterministic ones
            that depend on what is summed out.
        dim: the first dimension, counted from the right, that batches leave free.
    """

    program: Program
    sites: frozenset[str]
    hidden: frozenset[str]
    dim: int

    @property
    def __wrapped__(self) -> Program:
        """The program inside, for `inspect.signature`."""
        return self.program

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        key = numpyro.prng_key()
        shown = handlers.trace(Shown(self.program, self.sites, self.hidden))
        trace = shown.get_trace(*args, **kwargs)
        values = {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] in ("param", "mutable", "plate")
            or (site["type"] == "sample" and not site["is_observed"])
        }
        program = handlers.substitute(self.program, data=values)
        program = program if key is None else handlers.seed(program, key)
        numpyro.factor("_summed", Terms.of(program, self.sites, self.dim, args, kwargs).total())


def dependent_sites(
    program: Program,
    trace: Mapping[str, dict],
    summed: Collection[str],
    args: tuple,
    kwargs: Mapping[str, Any],
) -> frozenset[str]:
    """Return the names of the deterministic sites that depend on what is summed out.

    Args:
        program: the program with its keys.
        trace: its sites by name.
        summed: the names of the sites that are summed out.
        args: the positional arguments of the program.
        kwargs: its keyword arguments.
    """
    names = [name for name, site in trace.items() if site["type"] == "deterministic"]
    if not summed or not names:
        return frozenset()

    def values(discrete: SiteArrays) -> list:
        given = handlers.substitute(program, data=discrete)
        sites = handlers.trace(given).get_trace(*args, **kwargs)
        return [jax.tree.leaves(sites[name]["value"]) for name in names]

    like = {name: trace[name]["value"] for name in summed}
    given = {name: jnp.zeros(value.shape, value.dtype) for name, value in like.items()}
    leaves = [len(jax.tree.leaves(trace[name]["value"])) for name in names]
    owners = [name for name, count in zip(names, leaves, strict=True) for _ in range(count)]
    found = _depends_on(values, given)
    return frozenset(name for name, yes in zip(owners, found, strict=True) if yes)


def _depends_on(function: Callable[[SiteArrays], Any], inputs: SiteArrays) -> list[bool]:
    """Return for each output of a function whether it depends on its inputs.

    It may say so of an output that does not, where both pass through one inner function.
    """
    traced = jax.make_jaxpr(function)(inputs)
    reached = set(traced.jaxpr.invars)
    for equation in traced.jaxpr.eqns:
        used = (v for v in equation.invars if not isinstance(v, Literal))
        if not reached.isdisjoint(used):
            reached.update(equation.outvars)
    return [not isinstance(v, Literal) and v in reached for v in traced.jaxpr.outvars]
