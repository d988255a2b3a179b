"""Functions of a problem, compiled with its data as arguments.

Data that a compiled function closes over are constants of its program: XLA computes with them while
it compiles (the Gram matrix of a Gaussian process, say), which takes many times as long as later.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from inference.core.program import AbstractTraceable, unwrap


def compile_with_data(problem: Any, function: Callable) -> Callable:
    """Compile `function(problem, *rest)`, and return it as a function of `rest`.

    Args:
        problem: the problem. Its arrays are arguments of what is compiled where its program takes
            them traced, otherwise they are constants.
        function: what to compile.
    """
    if not isinstance(unwrap(problem.program), AbstractTraceable):
        return jax.jit(functools.partial(function, problem))

    @jax.jit
    def on_data(args: tuple, kwargs: Mapping[str, Any], *rest: Any) -> Any:
        return function(dataclasses.replace(problem, args=args, kwargs=kwargs), *rest)

    return functools.partial(on_data, problem.args, dict(problem.kwargs))
