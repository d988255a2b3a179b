"""Latent sites whose entries belong to rows: those of the training rows say nothing of others."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from bayesdl.data.validation import DataError
from bayesdl.model.names import site_in
from bayesdl.model.programs.new_data import Rows, Shapes, dependent_dims
from bayesdl.warnings import TrustWarning
from inference.arguments import SeriesArray, TableArray, is_frame, table_array
from inference.core.problem import Problem
from inference.core.program import KeyPerName, arguments_of, is_factor, name_of, signature_of

# rows that are looked at alone, and among how many others
FEW, MANY = 2, 200


def sites_of_other_rows(
    trained: Problem, rows: Rows, new: Problem, drawn: Shapes, site: str
) -> frozenset[str]:
    """Return the latent sites with an entry a row, where the new rows are not the training rows.

    Args:
        trained: the program with the training data, without observations where it runs so.
        rows: the rows of the predicted site.
        new: the program with the new data.
        drawn: the shapes of the draws by site.
        site: the predicted site.
    """
    count = rows.shape[0] if rows.shape else None
    candidates = {name for name, shape in drawn.items() if count in shape}
    candidates &= set(new.unobserved) & set(trained.unobserved)
    if not candidates or _same_rows(trained, rows, new):
        return frozenset()
    longer = _shapes_with_one_more_row(trained, rows)
    if longer is not None:
        return frozenset(name for name in candidates if longer.get(name) != drawn[name])
    plates = _plates(trained, site_in(trained.trace, site))
    return frozenset(name for name in candidates if _plates(trained, name) & plates)


def sites_drawn_anew(
    names: frozenset[str], trained: Problem, new: Problem, drawn: Shapes, site: str, sample: bool
) -> tuple[str, ...]:
    """Return the sites of rows that are drawn anew; refuse those that can be neither.

    As many rows with other data may be the same units at other inputs: then the draws of the
    training rows hold, which is said in a warning. They do not where the data change the
    distribution of the site.

    Args:
        names: what `sites_of_other_rows` gave.
        trained: the program with the training data, without observations where it runs so.
        new: the program with the new data.
        drawn: the shapes of the draws by site.
        site: the predicted site.
        sample: whether entries are drawn anew.

    Raises:
        DataError: naming the site, and the cure.
    """
    others = [at for at in new.observed if at != site and not is_factor(new.trace[at]["fn"])]
    for name in sorted(names):
        about = f"Site '{name}' has an entry for each training row, and the new rows are others. "
        if others:
            raise DataError(
                f"{about}What the new data say of it at site '{others[0]}' would be left out, so "
                f"{name_of(new.program)} cannot predict them: fit it with these rows among its "
                "data."
            )
        if sample:
            _check_can_be_drawn(name, new, about)
        elif new.unobserved[name] != drawn[name] or not _same_distribution(name, trained, new):
            raise DataError(
                f"{about}Draw its entries from their prior given the other sites with "
                "predict(..., new_levels='sample'); for the training rows leave the data out of "
                "predict()."
            )
    if names and not sample:
        listed = ", ".join(map(repr, sorted(names)))
        warnings.warn(
            f"Site{'s' * (len(names) > 1)} {listed} ha{'ve' if len(names) > 1 else 's'} an entry "
            "for each training row. The new rows are taken to be the same units in the same order, "
            "at other inputs. Where they are other units, use "
            "predict(..., new_levels='sample').",
            TrustWarning,
            stacklevel=5,
        )
    return tuple(sorted(names)) if sample else ()


def _check_can_be_drawn(name: str, new: Problem, about: str) -> None:
    """Refuse a site whose entries depend on each other.

    Raises:
        DataError: naming the site.
    """
    found: Any = new.trace[name]
    if found.get("_control_flow_done") or found.get("infer", {}).get("_scan_current_index"):
        raise DataError(f"{about}It is inside a scan, where none can be drawn anew.")
    if dependent_dims(found["fn"]):
        raise DataError(
            f"{about}Its entries depend on each other, so {name_of(new.program)} can predict the "
            "training rows only: leave the data out of predict()."
        )


def _same_distribution(name: str, trained: Problem, new: Problem) -> bool:
    """Whether a latent site has the same distribution at other data, as far as can be told."""
    before, after = _parameters(trained, name), _parameters(new, name)
    if before is None or after is None or len(before) != len(after):
        return False
    return all(
        one.shape == other.shape and np.allclose(one, other, 1e-3, 1e-4, equal_nan=True)
        for one, other in zip(before, after, strict=True)
    )


def _same_rows(trained: Problem, rows: Rows, new: Problem) -> bool:
    """Whether the arguments that have a row for each row are those of the training data."""
    before, after = (
        {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(
                arguments_of(problem.program, problem.args, problem.kwargs)
            )[0]
        }
        for problem in (trained, new)
    )
    paths = [path for path in rows.arguments if path in before and path in after]
    return all(_same_values(before[path], after[path]) for path in paths)


def _same_values(one: Any, other: Any) -> bool:
    if is_frame(one) and is_frame(other):
        return one.reset_index(drop=True).equals(other.reset_index(drop=True))
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def warn_of_rows_together(posed: Problem, trained: Problem, rows: Rows, site: str) -> None:
    """Warn where a row's distribution depends on which rows are given with it.

    So it is where a program centres its inputs, numbers its groups or counts its rows itself: at
    new rows these are other numbers than in the fit.

    Args:
        posed: the program with the training data, of which the answer is remembered.
        trained: the same without observations, where it runs so.
        rows: the rows of the predicted site.
        site: the predicted site.
    """
    if posed not in _ALONE:
        _ALONE[posed] = _is_row_alone(trained, rows, site)
    if not _ALONE[posed]:
        warnings.warn(
            f"In {name_of(trained.program)} the distribution of a row of site '{site}' depends on "
            "which rows are given together, as where the function takes the mean of its inputs, "
            "numbers their groups, or counts them. Predictions at new data take these from the "
            "new rows alone: compute them before the fit, and give them as arguments.",
            TrustWarning,
            stacklevel=5,
        )


# whether rows stand alone, of the programs that were asked for other rows
_ALONE: weakref.WeakKeyDictionary[Problem, bool] = weakref.WeakKeyDictionary()


def _is_row_alone(trained: Problem, rows: Rows, site: str) -> bool:
    """Whether the last rows have the same distribution alone and among others, as far as known."""
    count = rows.shape[0] if rows.shape else 0
    if count <= FEW or not rows.arguments:
        return True
    few, many = np.arange(count - FEW, count), np.arange(max(0, count - MANY), count)
    parts = [_at_rows(trained, rows, index) for index in (few, many)]
    alone, among = (_parameters(part, site) for part in parts)
    if alone is None or among is None or len(alone) != len(among):
        return True
    # sites of other shapes have other draws
    shapes = [{n: at for n, at in part.unobserved.items() if n != site} for part in parts]
    if shapes[0] != shapes[1]:
        return True
    for one, other in zip(alone, among, strict=True):
        same = other[-FEW:] if other.shape[:1] == (len(many),) else other
        if same.shape == one.shape and not np.allclose(one, same, 1e-3, 1e-4, equal_nan=True):
            return False
    return True


def _parameters(problem: Problem, site: str) -> list[np.ndarray] | None:
    """Return the parameters of a site's distribution at one draw from the prior.

    Sites of one shape have the same draws whatever the rows; None where the program does not run.
    """

    def latent(one: dict) -> object:
        return None if one["name"] == site else init_to_sample(one)

    def run(key: jax.Array) -> list[jax.Array]:
        drawn = handlers.substitute(KeyPerName(problem.program, key), substitute_fn=latent)
        sites = handlers.trace(drawn).get_trace(*problem.args, **problem.kwargs)
        distribution = sites[site_in(sites, site)]["fn"]
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(distribution)]

    try:
        return [np.asarray(leaf) for leaf in jax.jit(run)(jax.random.key(0))]
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def _shapes_with_one_more_row(trained: Problem, rows: Rows) -> Shapes | None:
    """Return the shapes of latent sites with the last row twice; None where it does not run."""
    count = rows.shape[0]
    try:
        return _at_rows(trained, rows, np.r_[0:count, count - 1]).unobserved
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def _at_rows(trained: Problem, rows: Rows, index: np.ndarray) -> Problem:
    """Return the program with some of its training rows."""
    given = signature_of(trained.program).bind(*trained.args, **trained.kwargs)
    leaves, structure = jax.tree_util.tree_flatten_with_path(dict(given.arguments))
    chosen = [
        _take(leaf, index) if jax.tree_util.keystr(path) in rows.arguments else leaf
        for path, leaf in leaves
    ]
    given.arguments.update(jax.tree.unflatten(structure, chosen))
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


def _plates(problem: Problem, site: str) -> set[str]:
    return {frame.name for frame in problem.trace[site].get("cond_indep_stack", ())}
