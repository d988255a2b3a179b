"""From a program and its arguments to a problem: found to run, or refused in one error."""

from __future__ import annotations

import dataclasses
import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from bayesdl.data.arguments import (
    Columns,
    describe,
    with_frames,
    with_tuples_as_arrays,
)
from bayesdl.data.validation import DataError, ModelError
from bayesdl.typing import Program
from inference.arguments import DiffersFromPandasError, TableArray, is_frame
from inference.core.fingerprint import hash_traced
from inference.core.problem import Problem, ProblemError
from inference.core.program import WholePlates, innermost, name_of, signature_of
from inference.core.typing import Arguments, KeywordArguments
from inference.tracing import find_content

# where a program cannot run, the words for what to do about it
COLUMNS = (
    " JAX computes with arrays: where the columns of a table meet latent sites, write "
    "df['x'].to_numpy()."
)


def pose(
    function: Program, args: Arguments, kwargs: KeywordArguments, *, compiled: bool = True
) -> Problem:
    """Return the problem of a program with its arguments, after an abstract run.

    Tables of pandas reach the program as they are. Where it fails with them, as where it multiplies
    them by weights, it gets their arrays, whose columns have names too. Programs that read values
    of JAX arrays in Python run with `WholePlates(eager=True)`; tuples of whole numbers become
    arrays where the program fails with tuples.

    Args:
        function: the program.
        args: its positional arguments.
        kwargs: its keyword arguments.
        compiled: whether the problem will be compiled as it is, so that it must know what its
            program computes.

    Raises:
        ModelError: where the program fails.
    """
    errors = []
    for problem in _forms(function, args, kwargs):
        try:
            problem.trace  # noqa: B018
        except (DataError, ModelError, ProblemError):
            raise
        except DiffersFromPandasError as error:
            raise ModelError(_explain(function, args, kwargs, error)) from error
        except Exception as error:
            errors.append(error)
        else:
            return _identified(problem) if compiled else problem
    # that pandas cannot compute with what JAX traces says nothing of the mistake
    first = next((e for e in errors if not isinstance(e, jax.errors.JAXTypeError)), errors[0])
    raise ModelError(_explain(function, args, kwargs, first)) from first


def _identified(problem: Problem) -> Problem:
    """Return the problem with a program that knows what it computes."""
    program = problem.program
    if not isinstance(program, WholePlates):
        return problem
    try:
        content = find_content(program, problem.args, problem.kwargs)
    # as of a program that keeps traced values outside, which is refused elsewhere
    except Exception:
        content = hash_traced(problem.traced[1])
    return _with_program(problem, dataclasses.replace(program, content=content))


def share_compilation(problem: Problem) -> Problem:
    """Return the problem with a program whose arrays are traced, as its user says that they may be.

    Raises:
        ModelError: for a program that needs the values of its arguments.
    """
    program: Any = problem.program
    try:
        content = find_content(program, problem.args, problem.kwargs, traced=True)
    except Exception as error:
        what = str(error).strip().split("\n")[0]
        raise ModelError(
            f"compile_once=True: {name_of(program)} needs the values of its arguments "
            f"({type(error).__name__}: {what}): leave it out, and each fit compiles anew."
        ) from error
    return _with_program(problem, dataclasses.replace(program, content=content, arrays_only=True))


def _with_program(problem: Problem, program: Program) -> Problem:
    """Return the problem with its program described anew; it has run."""
    known = dataclasses.replace(problem, program=program)
    known.__dict__["traced"] = problem.traced
    return known


def runs(problem: Problem) -> bool:
    """Return whether a program runs with its arguments, in an abstract run that is kept."""
    try:
        problem.trace  # noqa: B018
    # a program may fail in any way
    except Exception:
        return False
    return True


def _forms(function: Program, args: Arguments, kwargs: KeywordArguments) -> Iterator[Problem]:
    """Yield the problem as it is given, and in the forms that some programs need."""
    framed = tuple(map(with_frames, args)), {k: with_frames(v) for k, v in kwargs.items()}
    if any(map(is_frame, jax.tree.leaves(framed))):
        yield Problem(function, *framed)
    yield Problem(function, args, dict(kwargs))
    yield Problem(WholePlates(function, eager=True), args, dict(kwargs))
    args, kwargs = with_tuples_as_arrays(list(args)), with_tuples_as_arrays(dict(kwargs))
    yield Problem(function, tuple(args), kwargs)


def position_names(function: Program, count: int) -> list[str]:
    """Return the names of positional arguments, those of `*args` numbered."""
    names = []
    for parameter in signature_of(function).parameters.values():
        if parameter.kind == inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        else:
            names.append(parameter.name)
    return names[:count]


def _explain(function: Program, args: Arguments, kwargs: KeywordArguments, error: Exception) -> str:
    """Say where a program fails, with which arguments."""
    names = position_names(function, len(args))
    given = dict(zip(names, args, strict=True)) | dict(kwargs)
    shown = "; ".join(describe(name, value) for name, value in given.items())
    what = str(error).strip().split("\n")[0] or "no text"
    hint = _hint(given, error)
    return (
        f"{name_of(function)} fails{_line(function, error)} with the arguments {shown}: "
        f"{type(error).__name__}: {what}{'' if what.endswith('.') else '.'}{hint}"
    )


def _hint(given: dict[str, Any], error: Exception) -> str:
    """Return what may be the mistake: no rows, a column that is not there, or columns as pandas."""
    empty = [name for name, value in given.items() if np.shape(value)[:1] == (0,)]
    if empty:
        return f" Argument '{empty[0]}' has no rows."
    tables = {n: value for n, value in given.items() if isinstance(value, TableArray | Columns)}
    if isinstance(error, KeyError):
        columns = {n: list(getattr(value, "parts", value)) for n, value in tables.items()}
        return "".join(f" '{n}' has the columns {', '.join(c)}." for n, c in columns.items())
    return COLUMNS if tables else ""


def _line(function: Program, error: Exception) -> str:
    """Return in which line of the user's file the program fails, where that is known."""
    code = getattr(innermost(function), "__code__", None)
    if code is None:
        return ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == code.co_filename
    ]
    return f" in line {lines[-1]}" if lines else ""
