"""Checks of new data against the draws and the training data of a NumPyro program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import Distribution, ExpandedDistribution, Independent
from numpyro.primitives import Messenger

from bayesdl.data.validation import DataError
from bayesdl.model.names import is_partly_seen, site_in
from inference.core.problem import Problem
from inference.core.program import Message, arguments_of, expanded_batch, name_of
from inference.core.typing import NewEntries, Program

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which arguments of a program have a row for each row of the training data.

    Attributes:
        shape: the shape of the predicted site's values.
        arguments: the arguments, as paths, whose first axis is as long as that shape's.
        without_plate: whether the site's distribution has fewer entries than values, so that it
            is the distribution of each of them.
    """

    shape: tuple[int, ...]
    arguments: tuple[str, ...]
    without_plate: bool

    @classmethod
    def of(cls, problem: Problem, site: str) -> Rows:
        """Return the rows of a problem's observed site."""
        found = problem.trace[site_in(problem.trace, site)]
        shape = tuple(np.shape(found["value"]))
        lengths = _lengths(arguments_of(problem.program, problem.args, problem.kwargs))
        paths = tuple(path for path, length in lengths.items() if shape[:1] == (length,))
        return cls(shape, paths, "rows_without_plate" in found)

    def following(self, new: Problem, site: str) -> Rows:
        """Return the rows without arguments that are as long as the rows by chance.

        Args:
            new: the program with new data; what keeps its length where the site does not is none.
            site: the site.
        """
        got = tuple(new.trace[site_in(new.trace, site)]["fn"].shape())[:1]
        if not got or got == self.shape[:1]:
            return self
        found = _lengths(arguments_of(new.program, new.args, new.kwargs))
        kept = [path for path in self.arguments if found.get(path, got[0]) == got[0]]
        return dataclasses.replace(self, arguments=tuple(kept))

    def count(self, arguments: Mapping[str, Any]) -> int | None:
        """Return the number of rows of new arguments; None where they do not tell."""
        found = _lengths(arguments)
        lengths = {found[path] for path in self.arguments if path in found}
        return lengths.pop() if len(lengths) == 1 else None

    def expand(self, distribution: Distribution, arguments: Mapping[str, Any]) -> Distribution:
        """Return the distribution of each row, where a plate is missing."""
        if not self.without_plate:
            return distribution
        rows = self.count(arguments)
        shape = self.shape if rows is None else (rows, *self.shape[1:])
        batch = expanded_batch(distribution, shape)
        return distribution if batch is None else distribution.expand(batch)


def _lengths(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the lengths of the arrays among arguments by path."""
    leaves = jax.tree_util.tree_flatten_with_path(dict(arguments))[0]
    return {
        jax.tree_util.keystr(path): np.shape(leaf)[0] for path, leaf in leaves if np.ndim(leaf) > 0
    }


def sites_to_draw(
    trained: Problem,
    expected: Shapes,
    new: Problem,
    drawn: Shapes,
    sample: bool,
    anew: frozenset[str],
) -> tuple[str, ...]:
    """Return the latent sites that have more entries at new data than their draws.

    Args:
        trained: the program with the training data.
        expected: the latent sites of the program without observations, at the training data.
        new: the program with the new data.
        drawn: the shapes of the draws by site.
        sample: whether further entries may be drawn.
        anew: the sites all of whose entries are drawn.

    Raises:
        DataError: naming the site and both shapes, where that is not asked for or impossible.
    """
    enlarged = []
    for name, shape in new.unobserved.items():
        # of a site that was partly seen (obs_mask), new data have all entries
        if name in trained.observed or is_partly_seen(trained.trace, name):
            continue
        if name not in drawn and name in expected:
            continue
        if name not in drawn:
            if not sample:
                raise DataError(
                    f"Site '{name}' is not among the sites that were fitted, as the new data have "
                    f"entries that the training data had not. {_cure(new)}"
                )
            continue
        if shape == drawn[name] or name in anew:
            continue
        why = _why_not(new.trace[name], drawn[name], shape)
        if not sample or why:
            raise DataError(
                f"Site '{name}' has shape {shape} at the new data, and its draws have shape "
                f"{drawn[name]}. {why or _cure(new)}"
            )
        enlarged.append(name)
    return tuple(enlarged)


def _cure(new: Problem) -> str:
    return (
        "If it belongs to groups, give as many groups as were fitted, or draw those that were not "
        "in the data from their prior given the others with predict(..., new_levels='sample'). If "
        f"it belongs to the training rows, {name_of(new.program)} cannot predict other rows: leave "
        "the data out of predict()."
    )


def _why_not(site: dict, drawn: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Say why further entries of a site cannot be drawn; empty where they can."""
    if len(drawn) != len(shape) or any(a > b for a, b in zip(drawn, shape, strict=True)):
        return (
            "Which of the draws are meant cannot be told. If it belongs to groups, give as many "
            "groups as were fitted (their number as an argument of its own); if it belongs to the "
            "training rows, the program cannot predict other rows."
        )
    events = dependent_dims(site["fn"])
    if events and drawn[-events:] != shape[-events:]:
        return (
            "Its entries depend on each other, so that further ones cannot be drawn: the program "
            "can predict the training rows only."
        )
    if is_in_scan(site):
        return "It is inside a scan, whose further steps cannot be drawn."
    return ""


def is_in_scan(site: dict) -> bool:
    """Return whether a site is inside a scan of NumPyro's."""
    return bool(site.get("_control_flow_done") or site.get("infer", {}).get("_scan_current_index"))


def dependent_dims(distribution: Distribution) -> int:
    """Return the number of last axes whose entries are not independent of each other."""
    if isinstance(distribution, Independent):
        return dependent_dims(distribution.base_dist)
    if isinstance(distribution, ExpandedDistribution):
        return dependent_dims(distribution.base_dist)
    return len(distribution.event_shape)


def check_rows(rows: Rows, new: Problem, site: str) -> None:
    """Refuse a prediction with another number of rows than the new data.

    Raises:
        DataError: naming both numbers.
    """
    arguments = arguments_of(new.program, new.args, new.kwargs)
    got = tuple(new.trace[site_in(new.trace, site)]["fn"].shape())
    _check_lengths(rows, arguments, got)
    count = rows.count(arguments)
    if count is None or rows.without_plate or not got or not rows.shape:
        return
    if len(got) == len(rows.shape) and got[0] == rows.shape[0] != count:
        raise DataError(
            f"Site '{site}' has {got[0]} rows, those of the training data, and the new data have "
            f"{count}: the rows of {name_of(new.program)} do not follow its arguments, so that it "
            "cannot predict other rows."
        )


def _check_lengths(rows: Rows, arguments: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse a row that is repeated for the several rows of the predicted site.

    Raises:
        DataError: naming the arguments.
    """
    found = _lengths(arguments)
    lengths = {path: found[path] for path in rows.arguments if path in found}
    single = [path for path, length in lengths.items() if length == 1]
    several = {path: n for path, n in lengths.items() if n > 1 and shape[:1] == (n,)}
    if single and several and rows.shape[0] > 1:
        path, length = next(iter(several.items()))
        raise DataError(
            f"Argument {_named(single[0])} has 1 row and argument {_named(path)} has {length}: "
            "give as many rows in each; the single row would be repeated."
        )


def _named(path: str) -> str:
    """Return the name of an argument, or of its part, from its path: 'x', or 'data['x']'."""
    return "'" + path.removeprefix("['").replace("']", "", 1) + "'"


class FurtherEntries(Messenger):
    """A program in which latent sites have more entries than their draws.

    The further entries are drawn from the site's distribution given the sites before it.

    Args:
        program: the program, with a handler that gives keys.
        draws: the draws of these sites.
    """

    def __init__(self, program: Program, draws: Mapping[str, ArrayLike]) -> None:
        super().__init__(program)
        self.draws = draws

    def process_message(self, msg: Message) -> None:
        if msg["type"] != "sample" or msg["name"] not in self.draws or msg["value"] is not None:
            return
        drawn = self.draws[msg["name"]]
        whole = msg["fn"](rng_key=msg["kwargs"]["rng_key"], sample_shape=())
        known = tuple(slice(0, size) for size in np.shape(drawn))
        msg["value"] = whole.at[known].set(drawn)


def with_further_draws(
    program: Program, entries: NewEntries, latents: dict, key: jax.Array
) -> tuple[Program, dict]:
    """Return a program that draws the entries without draws, and the other latent sites.

    Args:
        program: the program.
        entries: the sites that have entries without draws.
        latents: one draw of the latent sites.
        key: the key of the new entries.
    """
    if not any(entries):
        return program, latents
    enlarged = {name: latents[name] for name in entries.further}
    # the handler that is nearer to the program gives the key
    whole = FurtherEntries(handlers.seed(program, key), enlarged)
    drawn = (*entries.further, *entries.anew)
    return whole, {name: value for name, value in latents.items() if name not in drawn}
