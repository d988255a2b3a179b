"""Warnings of programs in which a row is another one when other rows are given with it."""

from __future__ import annotations

import warnings

import numpy as np

from bayesdl.model.programs.held_out import optional_given, values_at, without_data
from bayesdl.model.programs.new_data import Rows, Shapes
from bayesdl.model.programs.other_rows import at_rows, differ, parameters_at, shapes_of
from bayesdl.warnings import TrustWarning
from inference.core.problem import Problem
from inference.core.program import name_of, signature_of
from inference.process.cached import remembered

# rows that are looked at alone, and among how many others
FEW, MANY = 2, 200


def warn_of_rows_together(posed: Problem, rows: Rows, site: str) -> None:
    """Warn where a row's distribution depends on which rows are given with it.

    So it is where a program centres its inputs, numbers its groups or counts its rows itself: at
    new rows these are other numbers than in the fit.

    Args:
        posed: the program with the training data.
        rows: the rows of the predicted site.
        site: the predicted site.
    """
    if not _is_row_alone(posed, rows, site):
        warnings.warn(
            f"In {name_of(posed.program)} what site '{site}' is in a row depends on which rows are "
            "given together, as where the function takes the mean of inputs or targets, numbers "
            "groups, or counts rows. Predictions at new data take these from the new rows alone: "
            "compute them before the fit, and give them as arguments.",
            TrustWarning,
            stacklevel=5,
        )


@remembered
def _is_row_alone(posed: Problem, rows: Rows, site: str) -> bool:
    """Whether rows have the same distribution and data alone and among others, as far as known."""
    count = rows.shape[0] if rows.shape else 0
    if count <= FEW or not rows.arguments:
        return True
    many = np.arange(max(0, count - MANY), count)
    among = _at(posed, rows, site, many)
    return all(
        _alike(_at(posed, rows, site, many[-size:]), among, size, len(many))
        for size in sorted({FEW, len(many) // 2})
    )


def _at(
    posed: Problem, rows: Rows, site: str, index: np.ndarray
) -> tuple[Shapes | None, list | None, list | None]:
    """Return shapes of latent sites, parameters of the site and its values, at some rows."""
    part = at_rows(without_data(posed), rows, index)
    shapes = shapes_of(lambda: part)
    latent = None if shapes is None else {name: shapes[name] for name in shapes if name != site}
    return latent, parameters_at(part, site), _observed(at_rows(posed, rows, index), site)


def _alike(alone: tuple, among: tuple, few: int, many: int) -> bool:
    """Whether some rows are the same alone and as the last of more rows."""
    # sites of other shapes have other draws
    if alone[0] is None or alone[0] != among[0]:
        return True
    pairs = zip(alone[1:], among[1:], strict=True)
    return not any(differ(one, _last_rows(other, few, many)) for one, other in pairs)


def _last_rows(arrays: list | None, few: int, many: int) -> list | None:
    """Return the last rows of the arrays that have rows."""
    return arrays and [one[-few:] if one.shape[:1] == (many,) else one for one in arrays]


def _observed(problem: Problem, site: str) -> list[np.ndarray] | None:
    """Return what a site observes; None where the program does not run."""
    try:
        return [np.asarray(values_at(problem, [site])[site])]
    # a program may fail in any way, as where the number of rows is an argument too
    except Exception:
        return None


def warn_of_left_out(posed: Problem, new: Problem, site: str) -> None:
    """Warn where an argument that the fit had is left out, and the predicted site depends on it.

    Args:
        posed: the program with the training data.
        new: the program with the new data.
        site: the predicted site.
    """
    trained = without_data(posed)
    for name in optional_given(trained).keys() - optional_given(new).keys():
        if _depends_on(trained, name, site):
            warnings.warn(
                f"Argument '{name}' was given in the fit, and site '{site}' depends on it: it is "
                "left out now, so that the default of the function is taken.",
                TrustWarning,
                stacklevel=5,
            )


@remembered
def _depends_on(trained: Problem, name: str, site: str) -> bool:
    """Whether a site depends on an optional argument."""
    given = signature_of(trained.program).bind(*trained.args, **trained.kwargs)
    del given.arguments[name]
    without = parameters_at(Problem(trained.program, given.args, given.kwargs), site)
    return differ(without, parameters_at(trained, site))
