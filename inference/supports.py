"""Supports of latent sites that are known only while a program runs."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from inference.core.problem import Problem
from inference.core.program import KeyPerName
from inference.core.typing import Key


def traced_supports(problem: Problem) -> Iterator[str]:
    """Yield the continuous latent sites whose support has bounds that the program computes."""
    for name in problem.latents:
        distribution = problem.trace[name]["fn"]
        bounds = [] if distribution.support.is_discrete else jax.tree.leaves(distribution.support)
        if any(isinstance(bound, Tracer) for bound in bounds):
            yield name


def moving_support(problem: Problem) -> str | None:
    """Return a latent site whose support depends on other sites, or None.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> def program():
        ...     top = numpyro.sample("top", dist.HalfNormal(1))
        ...     numpyro.sample("below", dist.Uniform(0, top))
        >>> moving_support(Problem(program))
        'below'
    """
    names = list(traced_supports(problem))
    if not names:
        return None

    def bounds(key: Key) -> list:
        drawn = handlers.substitute(KeyPerName(problem.program, key), substitute_fn=init_to_sample)
        sites = handlers.trace(drawn).get_trace(*problem.args, **problem.kwargs)
        return [jax.tree.leaves(sites[name]["fn"].support) for name in names]

    compiled = jax.jit(bounds)
    first, second = compiled(jax.random.key(0)), compiled(jax.random.key(1))
    changed = jax.tree.map(lambda a, b: not bool(jnp.array_equal(a, b)), first, second)
    moving = (name for name, ends in zip(names, changed, strict=True) if any(ends))
    return next(moving, None)
