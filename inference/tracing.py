"""Abstract runs of programs: sites, shapes and operations, without any arithmetic."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import Distribution
from numpyro.infer.initialization import init_to_sample

from inference.arguments import join_static, split_static
from inference.core.fingerprint import hash_traced
from inference.core.program import AbstractTraceable, Program, unwrap
from inference.process.quiet import quiet


def trace_abstractly(
    program: Program, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[dict[str, dict], ClosedJaxpr]:
    """Return the abstract trace of a program: its sites by name, and its operations.

    There is no arithmetic. A program that needs no values is given shapes alone, so that nothing is
    as large as its data.
    """
    sites: dict[str, dict] = {}

    def run(key: jax.Array, args: tuple, kwargs: dict) -> tuple:
        drawn = handlers.substitute(handlers.seed(program, key), substitute_fn=_without_sampler)
        with quiet():
            sites.update(handlers.trace(drawn).get_trace(*args, **kwargs))
        return ()

    key, given = jax.random.key(0), (args, dict(kwargs))
    if isinstance(unwrap(program), AbstractTraceable):
        return sites, jax.make_jaxpr(run)(key, *given)
    return sites, jax.make_jaxpr(lambda key: run(key, *given))(key)


def _without_sampler(site: dict) -> Any:
    """Return a value for sites that cannot be sampled, such as those of improper priors."""
    if site["type"] != "sample" or site["is_observed"]:
        return None
    distribution = site["fn"]
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    sampler = getattr(type(distribution), "sample", None)
    return init_to_sample(site) if sampler is Distribution.sample else None


def find_content(
    program: Program, args: tuple, kwargs: Mapping[str, Any], traced: bool
) -> tuple[str, bool]:
    """Return a hash of what a program computes, and whether it takes traced arrays.

    Two runs of one function have different hashes where a global variable, or anything else that
    it reads, has changed between them. Arrays that the program takes traced do not enter the hash.

    Args:
        program: the program.
        args: its positional arguments.
        kwargs: its keyword arguments.
        traced: whether to try traced arrays.
    """
    if traced:
        arrays, static = split_static((args, dict(kwargs)))

        def on_arrays(key: jax.Array, arrays: list) -> list:
            args, kwargs = join_static(arrays, static)
            return _numbers_of_sites(program, key, args, kwargs)

        # a program may need the values of its arguments, and fail in any way without them
        with contextlib.suppress(Exception):
            return hash_traced(jax.make_jaxpr(on_arrays)(jax.random.key(0), arrays)), True
    on_values = functools.partial(_numbers_of_sites, program, args=args, kwargs=dict(kwargs))
    return hash_traced(jax.make_jaxpr(on_values)(jax.random.key(0))), False


def _numbers_of_sites(program: Program, key: jax.Array, args: tuple, kwargs: dict) -> list:
    """Return values, log densities and parameters of the distributions of all sites."""
    drawn = handlers.substitute(handlers.seed(program, key), substitute_fn=_without_sampler)
    found: list[Any] = []
    with quiet():
        for site in handlers.trace(drawn).get_trace(*args, **kwargs).values():
            found.append(site["value"])
            if site["type"] == "sample":
                found.append(site["fn"])
                # some distributions have none, or none of this value
                with contextlib.suppress(Exception):
                    found.append(site["fn"].log_prob(site["value"]))
    return [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, ArrayLike)]
