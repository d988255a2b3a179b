"""Compiled functions of chains, shared by problems with the same shapes.

Such problems are the folds of a cross-validation, for example.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import TypeAlias

from inference.core.typing import PyTree
from inference.mcmc.runner.layout import Layout, replicate
from inference.mcmc.runner.sampler import AbstractSampler
from inference.mcmc.runner.settings import AbstractChainSettings
from inference.sharing import Form, shapes_of, split_problem

# the number of compiled functions that are kept, with their programs
CACHE_SIZE = 32

SamplerOf: TypeAlias = Callable[[PyTree], AbstractSampler]
"""A function from the inputs of a compiled function to the sampler, inside that function."""


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled function of (states, inputs, ...), with its inputs.

    Attributes:
        function: the compiled function.
        inputs: the numbers of the problem; empty if its program does not take them traced.
    """

    function: Callable
    inputs: PyTree

    def __call__(self, states: PyTree, *rest: PyTree) -> PyTree:
        """Call the function with its inputs."""
        return self.function(states, self.inputs, *rest)


def compile_for(
    make: Callable,
    engine: AbstractChainSettings,
    sampler: AbstractSampler,
    layout: Layout,
    *settings: Hashable,
) -> Compiled:
    """Compile the function that `make(sampler_of, layout, *settings)` returns for a problem.

    The function's inputs are the numbers of the problem, and `sampler_of(inputs)` is the sampler
    inside it. If the program does not take them traced, there are no inputs, and the function is
    not kept.
    """
    split = split_problem(sampler.problem)
    if split is None:
        return Compiled(make(lambda _: sampler, layout, *settings), ())
    form, numbers = split
    inputs = replicate(numbers, layout)
    shapes = shapes_of(inputs)
    return Compiled(cached_compile(make, engine, form, shapes, layout, *settings), inputs)


@functools.lru_cache(CACHE_SIZE)
def cached_compile(
    make: Callable,
    engine: AbstractChainSettings,
    form: Form,
    shapes: Hashable,
    layout: Layout,
    *settings: Hashable,
) -> Callable:
    """Compile a function, or return the one that was compiled for an equal form.

    There is one function for each shape of the inputs, so that `CACHE_SIZE` bounds what is
    compiled.
    """

    def sampler_of(inputs: PyTree) -> AbstractSampler:
        sampler = engine.sampler(form.problem(inputs))
        sampler.prepare()
        return sampler

    return make(sampler_of, layout, *settings)
