"""Programs with other rows of their training data, and what their sites are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from bayesdl.model.names import site_in
from bayesdl.model.programs.new_data import Rows, Shapes
from inference.arguments import SeriesArray, TableArray, is_frame, table_array
from inference.core.problem import Problem
from inference.core.program import KeyPerName, arguments_of, signature_of
from inference.process.cached import remembered
from inference.wrappers import unmasked


def at_rows(trained: Problem, rows: Rows, index: np.ndarray) -> Problem:
    """Return the program with some of its training rows."""
    return _with_rows(trained, rows, lambda path, leaf: _take(leaf, index))


def with_more_rows(trained: Problem, rows: Rows, more: dict[str, Any]) -> Problem:
    """Return the program with its training rows and other ones after them, by path."""
    return _with_rows(trained, rows, lambda path, leaf: _join(leaf, more[path]))


def shapes_of(make: Callable[[], Problem]) -> Shapes | None:
    """Return the shapes of the latent sites of a program; None where it does not run."""
    try:
        return make().unobserved
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def by_path(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a program, and their parts, by path."""
    given = arguments_of(problem.program, problem.args, problem.kwargs)
    found = jax.tree_util.tree_flatten_with_path(given)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in found}


@remembered
def parameters_at(problem: Problem, site: str) -> list[np.ndarray] | None:
    """Return the parameters of a site's distribution at one draw from the prior.

    Sites of one shape have the same draws whatever the rows; None where the program does not run.
    """

    def latent(one: dict) -> object:
        return None if one["name"] == site else init_to_sample(one)

    def run(key: jax.Array) -> list[jax.Array]:
        drawn = handlers.substitute(KeyPerName(problem.program, key), substitute_fn=latent)
        sites = handlers.trace(drawn).get_trace(*problem.args, **problem.kwargs)
        distribution = unmasked(sites[site_in(sites, site)]["fn"])
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(distribution)]

    try:
        return [np.asarray(leaf) for leaf in jax.jit(run)(jax.random.key(0))]
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def differ(some: list[np.ndarray] | None, others: list[np.ndarray] | None) -> bool:
    """Whether parameters differ by more than rounding; those of other shapes are not compared."""
    if some is None or others is None or len(some) != len(others):
        return False
    return any(
        one.shape == other.shape and not np.allclose(one, other, 1e-3, 1e-4, equal_nan=True)
        for one, other in zip(some, others, strict=True)
    )


def _with_rows(trained: Problem, rows: Rows, change: Callable[[str, Any], Any]) -> Problem:
    given = signature_of(trained.program).bind(*trained.args, **trained.kwargs)
    leaves, structure = jax.tree_util.tree_flatten_with_path(dict(given.arguments))
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
    changed = [change(path, leaf) if path in rows.arguments else leaf for path, leaf in named]
    given.arguments.update(jax.tree.unflatten(structure, changed))
    return Problem(trained.program, given.args, given.kwargs)


def _take(leaf: Any, index: np.ndarray) -> Any:
    """Return some rows of an array or a table."""
    if is_frame(leaf):
        return leaf.iloc[index]
    if isinstance(leaf, TableArray):
        frame = None if leaf.frame is None else leaf.frame.iloc[index]
        return table_array({name: part[index] for name, part in leaf.parts.items()}, frame)
    chosen = leaf[index]
    return chosen.view(SeriesArray) if isinstance(leaf, SeriesArray) else chosen


def _join(leaf: Any, more: Any) -> Any:
    """Return an array or a table with other rows after its own."""
    if is_frame(leaf):
        import pandas as pd

        return pd.concat([leaf, more], ignore_index=True)
    if isinstance(leaf, TableArray):
        parts = {
            name: np.concatenate([part, more.parts[name]]) for name, part in leaf.parts.items()
        }
        return table_array(parts)
    joined = np.concatenate([np.asarray(leaf), np.asarray(more)])
    return jnp.asarray(joined) if isinstance(leaf, jax.Array) else joined.view(type(leaf))


def with_order_of_columns(problem: Problem, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return new arguments whose tables have their columns in the order of the training data.

    A program may read a table as a matrix. Further columns come after those of the training data.

    Args:
        problem: the program with the training data.
        args: the new arguments, as programs take them.
        kwargs: those given by name.
    """
    before = arguments_of(problem.program, problem.args, problem.kwargs)
    given = signature_of(problem.program).bind(*args, **kwargs)
    for name, value in given.arguments.items():
        columns = _columns(before.get(name))
        if columns and isinstance(value, TableArray) and set(columns) <= set(value.parts):
            order = [*columns, *(label for label in value.parts if label not in columns)]
            places = [list(value.parts).index(label) for label in order]
            frame = None if value.frame is None else value.frame.iloc[:, places]
            parts = {label: value.parts[label] for label in order}
            given.arguments[name] = table_array(parts, frame)
    return given.args, given.kwargs


def _columns(value: Any) -> list[str]:
    """Return the names of a table's columns; none for anything else."""
    if is_frame(value):
        return list(map(str, value.columns))
    return list(value.parts) if isinstance(value, TableArray) else []
