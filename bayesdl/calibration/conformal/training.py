"""The densities of training rows at posterior draws, as adding one in takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from bayesdl.calibration.conformal.add_one_in import AddOneIn, TrainingDensities
from bayesdl.calibration.held_out import given_labels
from bayesdl.calibration.ranks import refuse_few
from bayesdl.checks.rows import rows_of
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.core import AbstractPosterior, at_site
from inference.core.result import Conditional
from inference.wrappers import marginal, unmasked

# rows that are ranked, and draws that weigh them; more cost time and gain little
MOST_ROWS, MOST_DRAWS = 2000, 2000

EXACT = (
    "It holds for new rows like the training rows, on average over them and whatever the model, up "
    "to the Monte Carlo error of the draws."
)
ABOUT = (
    "Draws are of an approximation, so that it holds for about as many rows as it says; held-out "
    "rows, post.conformal(level, X, y), give a guarantee."
)
TOGETHER = (
    "Rows vary together given a draw, so that it holds for about as many rows as it says; held-out "
    "rows, post.conformal(level, X, y), give a guarantee."
)


def added_in(posterior: AbstractPosterior, level: float, groups: object, seed: int) -> AddOneIn:
    """Return the conformal sets of a posterior by adding one in.

    Args:
        posterior: the posterior, with draws.
        level: the level of the sets.
        groups: a label for each training row, within which rows are ranked; None for one group.
        seed: the seed of the choice among more than `MOST_ROWS` rows.

    Raises:
        ModelError: for a posterior without draws, or rows with weights.
        DataError: for fewer rows than the level needs.
    """
    _need_draws(posterior)
    total = len(next(iter(posterior.predict().stream.draws.values())))
    draws = np.unique(np.linspace(0, total - 1, min(total, MOST_DRAWS)).astype(int))
    found = _log_densities(posterior, draws, lambda rows: _chosen(rows, seed))
    count, chosen = found.count, found.chosen
    labels = None if groups is None else _labels(groups, count)[chosen]
    if labels is None:
        refuse_few(len(chosen), level, "The training data")
    else:
        for group in np.unique(labels):
            refuse_few(int(np.sum(labels == group)), level, f"The group {group!r} of training rows")
    power = 1 / posterior.raw.temperature
    densities = TrainingDensities.of(found.values, draws, power)
    # what has no chains to agree is an approximation
    exact = bool(posterior.raw.groups())
    note = TOGETHER if posterior.model.rows_correlated else EXACT if exact else ABOUT
    return AddOneIn(level, densities, note, chosen, labels)


def restored(posterior: AbstractPosterior, stored: dict) -> AddOneIn:
    """Rebuild what `AddOneIn.stored` gave, for the posterior with its draws."""
    draws, chosen = stored["draws"], stored["chosen"]
    found = _log_densities(posterior, draws, lambda rows: chosen)
    densities = TrainingDensities.of(found.values, draws, 1 / posterior.raw.temperature)
    groups = None if stored["groups"] is None else np.array(stored["groups"])
    return AddOneIn(stored["level"], densities, stored["note"], chosen, groups)


class _Ranked(NamedTuple):
    """The rows that are ranked.

    Attributes:
        values: their log densities, shape (draws, rows, ...).
        count: the number of all rows.
        chosen: which rows they are.
    """

    values: np.ndarray
    count: int
    chosen: np.ndarray


def _log_densities(
    posterior: AbstractPosterior, draws: np.ndarray, choose: Callable[[int], np.ndarray]
) -> _Ranked:
    """Return the log densities of the training rows that are chosen."""
    if posterior.model.rows_are_independent and not posterior.model.rows_correlated:
        count = len(posterior.problem.args[0])
        chosen = choose(count)
        return _Ranked(_of_table(posterior, chosen, draws), count, chosen)
    site = posterior.model.target_site(posterior.problem)
    rows = rows_of(at_site(posterior, site), site)
    blocks = [block.reshape(-1, block.shape[-1])[draws] for block in rows.blocks]
    found = np.concatenate(blocks, axis=1) + posterior.model.log_unit(posterior.schema)
    chosen = choose(found.shape[1])
    return _Ranked(found[:, chosen], found.shape[1], chosen)


def _need_draws(posterior: AbstractPosterior) -> None:
    """Refuse posteriors that cannot be reweighted.

    Raises:
        ModelError: naming what to do instead.
    """
    if posterior.model.rows_are_independent and "weights" in posterior.problem.kwargs:
        raise ModelError(
            "The rows of this fit have weights that are no counts, and conformal sets rank each "
            "row as one: give held-out rows, post.conformal(level, X, y)."
        )
    stream = posterior.predict().stream
    if not stream.draws or not stream.traceable:
        raise ModelError(
            f"{posterior!r} has no draws to reweight, which sets without held-out rows need: give "
            "held-out rows, post.conformal(level, X, y); for numbers in a table fit it ten times, "
            "post.conformal(level, refits=10); or fit with bdl.NUTS() or bdl.VI()."
        )


def _chosen(rows: int, seed: int) -> np.ndarray:
    """Return the rows that are ranked: all, or as many as there is time for, at random."""
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))


def _labels(groups: object, rows: int) -> np.ndarray:
    """Return the group of each training row.

    Raises:
        DataError: for anything but a label for each row.
    """
    if isinstance(groups, str):
        raise DataError(
            f"groups={groups!r}: without held-out rows the table is not at hand any more. Give a "
            "label for each training row, groups=table[...], and predict(X, groups=...)."
        )
    column: Any = groups
    return given_labels(column, rows, None)


def _of_table(posterior: AbstractPosterior, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return log p(y_i | x_i, z_s) of rows of a table, shape (draws, rows, ...)."""
    stream = posterior.predict().stream
    args = tuple(np.asarray(arg)[rows] for arg in stream.args)
    kept = {name: value[draws] for name, value in stream.draws.items()}
    some = dataclasses.replace(stream, args=args, num_rows=len(rows), draws=kept, batch_size=256)
    y = np.asarray(posterior.problem.args[1])[rows]
    return np.asarray(some.map(_at_draws, y, axis=1), np.float64)


def _at_draws(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """Compute log p(y_i | z) of each entry by itself, shape (draws, rows, ...)."""

    def one(given: Distribution) -> jax.Array:
        return jnp.asarray(marginal(unmasked(given)).log_prob(y))

    return jax.vmap(one)(conditionals.distribution)
