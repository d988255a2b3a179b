"""Compiled functions of chains, shared by problems that differ in their numbers only, as those of cross-validation do."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from inference.core.problem import Problem
from inference.core.program import AbstractTraceable, unwrap
from inference.mcmc.layout import Layout, replicate
from inference.mcmc.sampler import AbstractSampler

if TYPE_CHECKING:
    from inference.mcmc.engine import AbstractMCMC

KEPT = 32  # compiled functions, with their programs

SamplerOf = Callable[[Any], AbstractSampler]


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled function, `(states, given, ...)`, with what is given."""

    function: Callable
    given: Any

    def __call__(self, states: Any, *rest: Any) -> Any:
        return self.function(states, self.given, *rest)


def compile_for(
    make: Callable, engine: AbstractMCMC, sampler: AbstractSampler, layout: Layout, *settings: Any
) -> Compiled:
    """The function of a problem that `make(sampler_of, layout, *settings)` compiles.

    Given are the arrays of the problem and the numbers of its program, and `sampler_of(given)` is the sampler, inside the
    compiled function. Where the program does not take them traced nothing is given, and the function is not kept.
    """
    problem = sampler.problem
    program = unwrap(problem.program)
    if isinstance(program, AbstractTraceable):
        program, numbers = program.split_params()
        given = replicate((problem.args, dict(problem.kwargs), numbers), layout)
        leaves, structure = jax.tree.flatten(given)
        shapes = structure, tuple((np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)
        return Compiled(cached_compile(make, engine, program, shapes, layout, *settings), given)
    return Compiled(make(lambda _: sampler, layout, *settings), ())


@functools.lru_cache(KEPT)
def cached_compile(
    make: Callable,
    engine: AbstractMCMC,
    program: AbstractTraceable,
    shapes: Any,
    layout: Layout,
    *settings: Any,
) -> Callable:
    """Equal programs share a function for each shape of what is given, so that `KEPT` bounds what is compiled."""

    def sampler_of(given: tuple[tuple, dict, Any]) -> AbstractSampler:
        args, kwargs, numbers = given
        sampler = engine.sampler(Problem(program.merge_params(numbers), args, kwargs))
        sampler.prepare()
        return sampler

    return make(sampler_of, layout, *settings)
