"""Refusals of predictions from parameters that a distribution cannot have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bayesdl.data.validation import DataError
from inference.core.result import Conditional
from inference.parameters import wrong_parameters

# statistics that are remembered with a check beside them
REMEMBERED = 64
# rows that an error names
NAMED = 5


@functools.lru_cache(REMEMBERED)
def with_wrong_parameters(statistic: Callable[..., Any]) -> Callable[..., Any]:
    """Return a statistic that also gives what `refuse_wrong_parameters` takes."""

    def compute(conditionals: Conditional, given: Any) -> tuple[Any, dict]:
        wrong = jax.vmap(wrong_parameters)(conditionals.distribution)
        return statistic(conditionals, given), at_all_draws(wrong)

    return compute


def at_all_draws(wrong: dict[str, jax.Array]) -> dict[str, tuple]:
    """Return which entries are wrong at any draw, and at how many of how many draws any is.

    Args:
        wrong: truth values by parameter, with a leading axis of draws.
    """
    return {
        name: (found.any(0), found.reshape(len(found), -1).any(1).sum(), len(found))
        for name, found in wrong.items()
    }


def refuse_wrong_parameters(wrong: dict[str, tuple]) -> None:
    """Refuse predictions where a parameter is NaN or outside its range.

    Args:
        wrong: what `at_all_draws` gives.

    Raises:
        DataError: naming the parameter and the rows.
    """
    for name, (entries, draws, total) in wrong.items():
        if not int(draws):
            continue
        entries = np.asarray(entries)
        several = entries.ndim and len(entries) > 1
        rows = np.flatnonzero(entries.reshape(len(entries), -1).any(1)) if several else []
        listed = ", ".join(map(str, rows[:NAMED])) + ", ..." * (len(rows) > NAMED)
        which = f" in row{'s' * (len(rows) > 1)} {listed}" if len(rows) else ""
        raise DataError(
            f"The parameter '{name}' of the predicted distribution is NaN or outside its range"
            f"{which}, at {int(draws)} of {int(total)} draws: look at the new data there, and "
            "whether the program allows such values (a rate or a scale needs exp or softplus)."
        )
