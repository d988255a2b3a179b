"""Rows that no draw from the prior gives a density, such as a count where the rate is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from inference.core.program import KeyPerName, is_factor
from inference.process.quiet import quiet

if TYPE_CHECKING:
    from inference.core.problem import Problem

NUM_DRAWS = 16
# the number of rows that a sentence names
NAMED = 5


def impossible_rows(problem: Problem) -> str:
    """Return a sentence that names observed rows without a density, or nothing.

    Args:
        problem: the problem; latent sites are drawn from the prior.
    """

    def finite(key: jax.Array) -> dict[str, jax.Array]:
        program = handlers.substitute(
            KeyPerName(problem.program, key), substitute_fn=init_to_sample
        )
        sites = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
        data = [name for name in problem.observed if not is_factor(sites[name]["fn"])]
        return {name: _has_density(sites[name]) for name in data}

    try:
        with quiet():
            keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
            found = jax.jit(lambda keys: jax.lax.map(finite, keys))(keys)
    # a program may fail in any way, and the sentence is only a help
    except Exception:
        return ""
    lines = [_about(name, np.logical_not(np.asarray(has).any(0))) for name, has in found.items()]
    return " ".join(line for line in lines if line)


def _has_density(site: dict) -> jax.Array:
    with quiet():
        return jnp.isfinite(site["fn"].log_prob(site["value"]))


def _about(name: str, impossible: np.ndarray) -> str:
    """Say which rows are impossible; nothing where none or all are."""
    rows = np.flatnonzero(impossible.reshape(len(impossible), -1).any(1)) if impossible.ndim else []
    if not 0 < len(rows) < len(impossible):
        return ""
    listed = ", ".join(map(str, rows[:NAMED])) + ", ..." * (len(rows) > NAMED)
    plural = "s" * (len(rows) > 1)
    return (
        f"The observed value{plural} of site '{name}' in row{plural} {listed} had no density at "
        f"any of {NUM_DRAWS} draws from the prior: look at the other arguments there, as for an "
        "exposure of zero."
    )
