"""Compiled functions of problems, shared by problems that differ in their numbers alone.

Such problems are the folds of a cross-validation, the data sets of a simulation, or a second fit
with other rows of the same shape. The numbers (arrays of the data, parameters of the program) are
arguments of what is compiled; everything else is the problem's *form*, which compares by content.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from inference.arguments import join_static, split_static
from inference.core.program import AbstractTraceable, WholePlates
from inference.core.structure import AbstractStructure
from inference.core.typing import Key, Program, PyTree

if TYPE_CHECKING:
    from inference.core.problem import Problem

# the number of functions that are kept, with their programs
MOST_FUNCTIONS = 64
# how many draws are made side by side
KEYS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Form:
    """A problem without its numbers.

    Attributes:
        kind: the class of the problem.
        program: the program without its numbers.
        structure: what the problem offers beyond its program, where that compares by content;
            otherwise it holds data, and no compiled function reads it.
        drawn: the discrete sites that the engine draws itself.
        static: the arguments that are no arrays, and where arrays stand among them.
    """

    kind: type[Problem]
    program: Program
    structure: AbstractStructure | None
    drawn: frozenset[str]
    static: Hashable

    def problem(self, numbers: tuple[list, PyTree]) -> Problem:
        """Return the problem with these numbers, which may be traced."""
        arrays, params = numbers
        args, kwargs = join_static(arrays, self.static)
        program: Any = self.program
        if isinstance(program.program, AbstractTraceable):
            whole = program.program.merge_params(params)
            program = dataclasses.replace(program, program=whole)
        return self.kind(program, args, kwargs, self.structure, self.drawn)


def split_problem(problem: Problem) -> tuple[Form, tuple[list, PyTree]] | None:
    """Split a problem into its form and its numbers; None where its program needs the numbers."""
    program, params = problem.program, None
    if not isinstance(program, WholePlates) or not program.takes_traced:
        return None
    if isinstance(program.program, AbstractTraceable):
        bare, params = program.program.split_params()
        program = dataclasses.replace(program, program=bare)
    arrays, static = split_static((problem.args, dict(problem.kwargs)))
    structure = problem.structure
    if type(structure).__eq__ is object.__eq__:
        structure = None
    form = Form(type(problem), program, structure, problem.drawn, static)
    return form, (arrays, params)


def compile_with_data(
    problem: Problem, function: Callable[..., Any], *settings: Hashable
) -> Callable[..., Any]:
    """Compile `function(problem, *settings, *rest)`, and return it as a function of `rest`.

    Data that a compiled function closes over are constants of its program: XLA computes with them
    while it compiles (the Gram matrix of a Gaussian process, say), which takes many times as long
    as later, and other data are compiled anew.

    Args:
        problem: the problem. Its numbers are arguments of what is compiled, where its program takes
            them traced; otherwise they are constants.
        function: what to compile: a function of a module, since what is compiled is kept by it.
        *settings: what else it depends on, and compares by content.
    """
    split = split_problem(problem)
    if split is None:
        return jax.jit(functools.partial(function, problem, *settings))
    form, numbers = split
    return functools.partial(_compile(function, form, shapes_of(numbers), settings), numbers)


def shapes_of(numbers: PyTree) -> Hashable:
    """Return what a compiled function must know of its arguments: shapes, types and tree."""
    leaves, structure = jax.tree.flatten(numbers)
    return structure, tuple((np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)


@dataclasses.dataclass(frozen=True, eq=False)
class ProblemFunction:
    """`function(problem, *settings, *rest, *fixed)` as a function of `rest`.

    Attributes:
        problem: the problem.
        function: a function of a module.
        settings: what it depends on, and compares by content.
        fixed: arrays that it depends on.
    """

    problem: Problem
    function: Callable[..., Any]
    settings: tuple[Hashable, ...] = ()
    fixed: tuple[PyTree, ...] = ()

    def __call__(self, *rest: Any) -> Any:
        return self.function(self.problem, *self.settings, *rest, *self.fixed)


def compile_over_keys(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function(key, params)` as a function of many keys, in batches of bounded memory.

    Where it is a `ProblemFunction`, problems of one form share what is compiled.
    """
    if not isinstance(function, ProblemFunction):
        return jax.jit(functools.partial(_over_keys, function))
    parts = function.function, function.settings
    compiled = compile_with_data(function.problem, _problem_over_keys, *parts)
    return lambda keys, params: compiled(keys, params, *function.fixed)


def _over_keys(function: Callable[..., Any], keys: Key, params: dict, *fixed: PyTree) -> Any:
    """Call a function for each key, in batches that bound the memory."""
    return jax.lax.map(
        lambda key: function(key, params, *fixed), keys, batch_size=min(len(keys), KEYS_AT_ONCE)
    )


def _problem_over_keys(
    problem: Problem, function: Callable[..., Any], settings: tuple, *rest: Any
) -> Any:
    """Call a function of a problem for each key."""
    return _over_keys(functools.partial(function, problem, *settings), *rest)


@functools.lru_cache(MOST_FUNCTIONS)
def _compile(
    function: Callable[..., Any], form: Form, shapes: Hashable, settings: tuple
) -> Callable[..., Any]:
    """Compile a function, or return the one that was compiled for an equal form.

    There is one function for each shape of the numbers, so that `MOST_FUNCTIONS` bounds what is
    compiled.
    """

    @jax.jit
    def on_numbers(numbers: tuple[list, PyTree], *rest: Any) -> Any:
        return function(form.problem(numbers), *settings, *rest)

    return on_numbers
