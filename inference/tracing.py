"""Abstract runs of programs: sites, shapes and operations, without any arithmetic."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
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
    program: Program, args: tuple, kwargs: Mapping[str, Any], traced: bool = False
) -> str:
    """Return a hash of what a program computes: its sites, and all operations that give them.

    Two runs of one function have different hashes where a global variable that it reads, or
    anything else that the operations show, has changed between them.

    Args:
        program: the program.
        args: its positional arguments.
        kwargs: its keyword arguments.
        traced: whether its arrays are traced, so that they do not enter the hash.
    """
    arrays, static = split_static((args, dict(kwargs))) if traced else ([], None)
    described: list[str] = []

    def run(key: jax.Array, arrays: list) -> list:
        given: Any = join_static(arrays, static) if traced else (args, dict(kwargs))
        return _numbers_of_sites(program, key, given[0], given[1], described)

    operations = hash_traced(jax.make_jaxpr(run)(jax.random.key(0), arrays))
    if jnp.result_type(float) == jnp.float32:
        # numbers differ that single precision holds to be one; some programs run in it alone
        with contextlib.suppress(Exception), jax.enable_x64(True):
            operations += hash_traced(jax.make_jaxpr(run)(jax.random.key(0), arrays))
    # without the addresses of objects
    said = re.sub("0x[0-9a-f]+", "", "\n".join([operations, *described]))
    return hashlib.sha256(said.encode()).hexdigest()


def _numbers_of_sites(
    program: Program, key: jax.Array, args: tuple, kwargs: dict, described: list[str]
) -> list:
    """Return values, log densities, scales and parameters of all sites, and describe the sites."""
    drawn = handlers.substitute(handlers.seed(program, key), substitute_fn=_without_sampler)
    found: list[Any] = []
    with quiet():
        sites = handlers.trace(drawn).get_trace(*args, **kwargs)
    for name, site in sites.items():
        frames = [(frame.name, frame.dim, frame.size) for frame in site.get("cond_indep_stack", ())]
        described.append(repr((name, site["type"], site.get("is_observed"), frames)))
        found += [site["value"], site.get("scale")]
        if site["type"] == "sample":
            described.append(f"{type(site['fn']).__name__} {jax.tree.structure(site['fn'])}")
            found.append(site["fn"])
            # some distributions have none, or none of this value
            with contextlib.suppress(Exception), quiet():
                found.append(site["fn"].log_prob(site["value"]))
    return [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, ArrayLike)]
