"""Latent sites whose entries belong to rows: those of the training rows say nothing of others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.model.names import is_unseen_part, site_in
from bayesdl.model.programs.held_out import without_data
from bayesdl.model.programs.new_data import Rows, Shapes, dependent_dims, is_in_scan
from bayesdl.model.programs.other_rows import (
    at_rows,
    by_path,
    differ,
    parameters_at,
    shapes_of,
    with_more_rows,
)
from bayesdl.warnings import TrustWarning
from inference.arguments import is_frame
from inference.core.problem import Problem
from inference.core.program import is_factor, name_of
from inference.process.cached import remembered


def sites_of_other_rows(
    posed: Problem, rows: Rows, new: Problem, drawn: Shapes, site: str
) -> frozenset[str]:
    """Return the latent sites with an entry a row, where the new rows are not the training rows.

    Sites with an entry for each missing cell are among them.

    Args:
        posed: the program with the training data.
        rows: the rows of the predicted site.
        new: the program with the new data.
        drawn: the shapes of the draws by site.
        site: the predicted site.
    """
    trained = without_data(posed)
    candidates = set(drawn) & set(new.unobserved) & set(trained.unobserved)
    candidates -= {name for name in candidates if is_unseen_part(posed.trace, name)}
    if not candidates or not rows.shape or _same_rows(trained, rows, new):
        return frozenset()
    # groups are as many with all rows twice; what there is for each row, or each gap, is not
    longer = _shapes_of_rows_twice(trained, rows)
    if longer is not None:
        found = frozenset(name for name in candidates if longer.get(name) != drawn[name])
        _check_groups(candidates - found, trained, rows, new, drawn)
        return found
    plates = _plates(trained, site_in(trained.trace, site))
    return frozenset(name for name in candidates if _plates(trained, name) & plates)


@remembered
def _shapes_of_rows_twice(trained: Problem, rows: Rows) -> Shapes | None:
    """Return the shapes of latent sites with all training rows twice; None where it fails."""
    index = np.tile(np.arange(rows.shape[0]), 2)
    return shapes_of(lambda: at_rows(trained, rows, index))


def _check_groups(
    names: set[str], trained: Problem, rows: Rows, new: Problem, drawn: Shapes
) -> None:
    """Refuse new rows whose groups the program numbers by itself, as other ones.

    Raises:
        DataError: naming the site, and the cure.
    """
    sized = {name for name in names if drawn[name] and new.unobserved[name] == drawn[name]}
    more, known = by_path(new), by_path(trained)
    paths = [path for path in rows.arguments if path in known]
    if not sized or not paths or any(path not in more for path in paths):
        return
    joined = shapes_of(lambda: with_more_rows(trained, rows, more)) or {}
    for name in sorted(sized):
        if joined.get(name, drawn[name]) != drawn[name]:
            raise DataError(
                f"Site '{name}' has shape {drawn[name]} at the training rows and at the new ones, "
                f"and {joined[name]} at both together: {name_of(new.program)} numbers the groups "
                "of the rows that it is given, so that new codes mean other groups. Compute the "
                "codes before the fit, and give them and the number of groups as arguments."
            )


def sites_drawn_anew(
    names: frozenset[str],
    posed: Problem,
    rows: Rows,
    new: Problem,
    drawn: Shapes,
    site: str,
    sample: bool,
) -> tuple[str, ...]:
    """Return the sites of rows that are drawn anew; refuse those that can be neither.

    As many rows with other data may be the same units at other inputs: then the draws of the
    training rows hold, which is said in a warning. They do not where the data change the
    distribution of the site.

    Args:
        names: what `sites_of_other_rows` gave.
        posed: the program with the training data.
        rows: the rows of the predicted site.
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
        elif not _is_of_same_units(name, rows, without_data(posed), new, drawn):
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
    if is_in_scan(new.trace[name]):
        raise DataError(f"{about}It is inside a scan, where none can be drawn anew.")
    if dependent_dims(new.trace[name]["fn"]):
        raise DataError(
            f"{about}Its entries depend on each other, so {name_of(new.program)} can predict the "
            "training rows only: leave the data out of predict()."
        )


def _is_of_same_units(name: str, rows: Rows, trained: Problem, new: Problem, drawn: Shapes) -> bool:
    """Whether a site has an entry a row, as many as before, and the same distribution."""
    if rows.shape[0] not in drawn[name] or new.unobserved[name] != drawn[name]:
        return False
    before, after = parameters_at(trained, name), parameters_at(new, name)
    if before is None or after is None:
        return False
    alike = [one.shape for one in before] == [one.shape for one in after]
    return alike and not differ(before, after)


def _same_rows(trained: Problem, rows: Rows, new: Problem) -> bool:
    """Whether the arguments that have a row for each row are those of the training data."""
    before, after = by_path(trained), by_path(new)
    paths = [path for path in rows.arguments if path in before and path in after]
    return all(_same_values(before[path], after[path]) for path in paths)


def _same_values(one: Any, other: Any) -> bool:
    if is_frame(one) and is_frame(other):
        return one.reset_index(drop=True).equals(other.reset_index(drop=True))
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def _plates(problem: Problem, site: str) -> set[str]:
    return {frame.name for frame in problem.trace[site].get("cond_indep_stack", ())}
