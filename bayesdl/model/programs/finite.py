"""Refusals of NaN and infinite numbers among arguments that leave no finite log density."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np

from bayesdl.data.validation import DataError, is_number
from bayesdl.model.programs.other_rows import parameters_at
from bayesdl.typing import Values
from inference.arguments import TableArray, is_frame
from inference.core.problem import Problem, ProblemError
from inference.core.program import arguments_of

# the number of rows that an error names
NAMED = 5


def check_finite(problem: Problem) -> None:
    """Refuse arguments with NaN or infinite numbers where no draw from the prior has a density.

    A program may know what to do with them, as one that imputes missing covariates does.

    Raises:
        DataError: naming the arguments, the rows, and the cure.
    """
    found = _not_finite(problem)
    if found and not _has_start(problem):
        raise DataError(
            f"{'; '.join(found)}. With them the log density of the program, or its gradient, is "
            "not finite. Leave these rows out, fill them in, or make what is missing a latent site "
            "(numpyro.sample) before anything is computed from it: jnp.where and masks keep NaN in "
            "gradients."
        )


def check_new_finite(new: Problem, site: str) -> None:
    """Refuse new arguments with NaN where the distribution that is predicted is NaN too.

    Raises:
        DataError: naming the arguments, the rows, and the cure.
    """
    found = _not_finite(new)
    if found and _is_nan(new, site):
        raise DataError(
            f"{'; '.join(found)}. The distribution of site '{site}' is NaN there: leave these rows "
            "out, or fill them in."
        )


def _not_finite(problem: Problem) -> list[str]:
    """Return a line for each argument with numbers that are not finite."""
    return [about for about in (_about(*one) for one in arrays_of(problem)) if about]


def arrays_of(problem: Problem) -> Iterable[tuple[str, Values]]:
    """Yield the parts of the arguments, columns of tables too, with their names in messages."""
    given = arguments_of(problem.program, problem.args, problem.kwargs)
    for path, leaf in jax.tree_util.tree_flatten_with_path(given, is_leaf=is_frame)[0]:
        name = str(path[0].key) + jax.tree_util.keystr(path[1:])
        if is_frame(leaf):
            numbers = [label for label in leaf.columns if is_number(leaf[label])]
            for label in numbers:
                values = leaf[label].to_numpy(dtype=float, na_value=np.nan)
                yield f"{name}[{label!r}]", values
        elif isinstance(leaf, TableArray):
            yield from ((f"{name}[{label!r}]", part) for label, part in leaf.parts.items())
        else:
            yield name, leaf


def _is_nan(problem: Problem, site: str) -> bool:
    """Whether parameters of a site's distribution are NaN at a draw from the prior."""
    leaves = parameters_at(problem, site) or []
    return any(np.isnan(leaf).any() for leaf in leaves if leaf.dtype.kind in "fc")


def _about(name: str, leaf: Values) -> str:
    """Say which rows of an argument are NaN or infinite; nothing where none are."""
    if not isinstance(getattr(leaf, "dtype", None), np.dtype) or leaf.dtype.kind not in "fc":
        return ""
    values = np.atleast_1d(np.asarray(leaf))
    wrong = ~np.isfinite(values)
    if not wrong.any():
        return ""
    first = values[wrong][0]
    rows = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))
    listed = ", ".join(map(str, rows[:NAMED])) + ", ..." * (len(rows) > NAMED)
    kind = "NaN" if np.isnan(first) else str(first)
    count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
    return f"Argument '{name}' is {kind} in {count}: row{'s' * (len(rows) > 1)} {listed}"


def _has_start(problem: Problem) -> bool:
    """Whether a draw from the prior has a finite density and gradient, as far as can be told."""
    try:
        problem.log_density().start(jax.random.key(0))
    except ProblemError:
        return False
    # what engines cannot compute, they say
    except Exception:
        return True
    return True
