"""What the searches for hyperparameters of Gaussian processes share."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from inference.core.problem import Problem
from inference.core.typing import Key, SiteArrays


def some_rows(problem: Problem, count: int | None, key: Key) -> Problem:
    """Return the problem with at most so many of its rows, chosen at random; with all for None."""
    rows = len(problem.args[0])
    if count is None or rows <= count:
        return problem
    chosen = np.random.default_rng(int(jax.random.bits(key))).permutation(rows)[:count]
    args = tuple(np.asarray(arg)[chosen] for arg in problem.args)
    return dataclasses.replace(problem, args=args)


def one_row(problem: Problem) -> Problem:
    """Return the problem with one row, for what does not depend on the rows."""
    return dataclasses.replace(problem, args=tuple(arg[:1] for arg in problem.args))


def prior_draw(problem: Problem, key: Key) -> jax.Array:
    """Draw from the prior on flat unconstrained space; compiled, it makes no kernel matrix."""
    density = problem.log_density()
    return density.ravel(density.prior_draw(key))


def hyperparameters_at(problem: Problem, u: jax.Array) -> SiteArrays:
    """Return the latent sites at u; compiled, it makes no kernel matrix."""
    values = problem.log_density().constrain(u)
    return {name: values[name] for name in problem.latents}
