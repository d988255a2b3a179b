"""Arrays of NumPy that a program reads from outside: from its closure, or from global variables.

JAX remembers by the object in which precision it has seen an array of NumPy, as long as something
that it compiled holds it. A program that is run in single and in double precision would meet an
array of the other one, where `z[group]` fails. A view is another object.
"""

from __future__ import annotations

import copy
import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpyro.primitives import Messenger


def with_fresh_arrays(program: Any) -> Any:
    """Return a program that reads views of the arrays outside of it.

    What it reads through objects of classes of its own stays as it is, and so does a function that
    writes global variables.

    Args:
        program: a function, or one that handlers, `functools.partial` or decorators are around.
    """
    return _fresh(program, {})


def _fresh(value: Any, made: dict[int, Any]) -> Any:
    """Return a view of an array, a function that reads views, and anything else as it is."""
    if type(value) is np.ndarray:
        return value.view() if value.dtype.kind in "iuf" else value
    if id(value) in made:
        return made[id(value)]
    # a function that calls itself is found as it is
    made[id(value)] = value
    if isinstance(value, types.FunctionType):
        made[id(value)] = _fresh_function(value, made)
    elif isinstance(value, functools.partial):
        args = [_fresh(part, made) for part in value.args]
        words = {name: _fresh(part, made) for name, part in value.keywords.items()}
        made[id(value)] = functools.partial(_fresh(value.func, made), *args, **words)
    elif isinstance(value, types.MethodType):
        made[id(value)] = types.MethodType(_fresh(value.__func__, made), value.__self__)
    elif isinstance(value, Messenger) and value.fn is not None:
        made[id(value)] = copy.copy(value)
        made[id(value)].fn = _fresh(value.fn, made)
    return made[id(value)]


def _fresh_function(function: types.FunctionType, made: dict[int, Any]) -> types.FunctionType:
    """Return a function that reads views of arrays; itself where it reads none."""
    if _writes_globals(function.__code__):
        return function
    names = set(_names(function.__code__)) & set(function.__globals__)
    own = function.__module__
    read = {name: function.__globals__[name] for name in names}
    # functions of other modules, such as those of libraries, stay
    read = {
        name: _fresh(value, made)
        for name, value in read.items()
        if type(value) is np.ndarray or getattr(value, "__module__", None) == own
    }
    other = {name: value for name, value in read.items() if value is not function.__globals__[name]}
    before = function.__closure__ or ()
    cells = tuple(_fresh_cell(cell, made) for cell in before)
    # cells compare by what they hold
    if not other and all(one is cell for one, cell in zip(cells, before, strict=True)):
        return function
    outside = {**function.__globals__, **other} if other else function.__globals__
    anew = types.FunctionType(
        function.__code__, outside, function.__name__, function.__defaults__, cells
    )
    anew.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(anew, function)
    return anew


def _fresh_cell(cell: types.CellType, made: dict[int, Any]) -> types.CellType:
    try:
        value = cell.cell_contents
    except ValueError:  # a name that has no value yet
        return cell
    other = _fresh(value, made)
    return cell if other is value else types.CellType(other)


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function and those inside it may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@functools.lru_cache(256)
def _writes_globals(code: types.CodeType) -> bool:
    """Whether a function, or one inside it, assigns to a global variable."""
    inside = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    own = any(step.opname == "STORE_GLOBAL" for step in dis.get_instructions(code))
    return own or any(map(_writes_globals, inside))
