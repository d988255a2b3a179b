"""Abstract runs of programs: sites, shapes and operations, without any arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from numpyro import handlers
from numpyro.distributions import Distribution
from numpyro.infer.initialization import init_to_sample

from inference.core.program import AbstractTraceable, Program, unwrap


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
