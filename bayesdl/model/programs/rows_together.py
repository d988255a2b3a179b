"""Warnings of programs in which a row is another one when other rows are given with it."""

from __future__ import annotations

import warnings
import weakref

import numpy as np

from bayesdl.model.programs.held_out import optional_given, values_at
from bayesdl.model.programs.new_data import Rows, Shapes
from bayesdl.model.programs.other_rows import at_rows, parameters_at, shapes_of
from bayesdl.warnings import TrustWarning
from inference.core.problem import Problem
from inference.core.program import name_of, signature_of

# rows that are looked at alone, and among how many others
FEW, MANY = 2, 200


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
    known = _ALONE.setdefault(posed, {})
    if site not in known:
        known[site] = _is_row_alone(posed, trained, rows, site)
    if not known[site]:
        warnings.warn(
            f"In {name_of(trained.program)} what site '{site}' is in a row depends on which rows "
            "are given together, as where the function takes the mean of inputs or targets, "
            "numbers groups, or counts rows. Predictions at new data take these from the new rows "
            "alone: compute them before the fit, and give them as arguments.",
            TrustWarning,
            stacklevel=5,
        )


# whether rows stand alone, of the programs that were asked for other rows
_ALONE: weakref.WeakKeyDictionary[Problem, dict[str, bool]] = weakref.WeakKeyDictionary()


def _is_row_alone(posed: Problem, trained: Problem, rows: Rows, site: str) -> bool:
    """Whether rows have the same distribution and data alone and among others, as far as known."""
    count = rows.shape[0] if rows.shape else 0
    if count <= FEW or not rows.arguments:
        return True
    many = np.arange(max(0, count - MANY), count)
    among = _found(trained, posed, rows, site, many)
    return all(
        _alike(_found(trained, posed, rows, site, many[-size:]), among, size, len(many), site)
        for size in sorted({FEW, len(many) // 2})
    )


def _found(
    trained: Problem, posed: Problem, rows: Rows, site: str, index: np.ndarray
) -> tuple[Shapes | None, list | None, list | None]:
    """Return shapes of latent sites, parameters of the site and its values, at some rows."""
    part = at_rows(trained, rows, index)
    observed = _observed(at_rows(posed, rows, index), site)
    return shapes_of(lambda: part), parameters_at(part, site), observed


def _alike(alone: tuple, among: tuple, few: int, many: int, site: str) -> bool:
    """Whether some rows are the same alone and as the last of more rows."""
    shapes = alone[0], among[0]
    # sites of other shapes have other draws
    latent = [{n: at for n, at in (found or {}).items() if n != site} for found in shapes]
    if None in shapes or latent[0] != latent[1]:
        return True
    pairs = zip(alone[1:], among[1:], strict=True)
    return all(_same_last_rows(one, other, few, many) for one, other in pairs)


def _same_last_rows(alone: list | None, among: list | None, few: int, many: int) -> bool:
    """Whether arrays agree in their last rows, as far as their shapes can be compared."""
    if alone is None or among is None or len(alone) != len(among):
        return True
    for one, other in zip(alone, among, strict=True):
        same = other[-few:] if other.shape[:1] == (many,) else other
        if same.shape == one.shape and not np.allclose(one, same, 1e-3, 1e-4, equal_nan=True):
            return False
    return True


def _observed(problem: Problem, site: str) -> list[np.ndarray] | None:
    """Return what a site observes; None where the program does not run."""
    try:
        return [np.asarray(values_at(problem, [site])[site])]
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def warn_of_left_out(trained: Problem, new: Problem, site: str) -> None:
    """Warn where an argument that the fit had is left out, and the predicted site depends on it.

    Args:
        trained: the program with the training data, without observations where it runs so.
        new: the program with the new data.
        site: the predicted site.
    """
    left_out = optional_given(trained).keys() - optional_given(new).keys()
    known = _LEFT_OUT.setdefault(trained, {})
    for name in left_out:
        if (name, site) not in known:
            known[name, site] = _depends_on(name, trained, site)
        if known[name, site]:
            warnings.warn(
                f"Argument '{name}' was given in the fit, and site '{site}' depends on it: it is "
                "left out now, so that the default of the function is taken.",
                TrustWarning,
                stacklevel=5,
            )


# whether a site depends on an optional argument, by both names
_LEFT_OUT: weakref.WeakKeyDictionary[Problem, dict[tuple[str, str], bool]]
_LEFT_OUT = weakref.WeakKeyDictionary()


def _depends_on(name: str, trained: Problem, site: str) -> bool:
    given = signature_of(trained.program).bind(*trained.args, **trained.kwargs)
    del given.arguments[name]
    without = parameters_at(Problem(trained.program, given.args, given.kwargs), site)
    return not _same_last_rows(without, parameters_at(trained, site), 0, -1)
