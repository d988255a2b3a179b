"""The rows that leave-one-out leaves out, of one observed site or of all.

A row is an index of the plates around an observed site: sites in the same plates share their rows,
whose terms are summed,

    log p(row i | z) = sum over sites s in these plates of log p(y_si | z).

A site outside of plates has rows of its own (an entry of its batch shape, or all of it). Factors
(`numpyro.factor`) whose plates hold no latent site, such as the survival of censored rows, are
terms of rows too; other factors may belong to the prior and are left out. Rows that a mask hides
are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from bayesdl.checks.densities import blocks, observed_values, seen_rows, seen_values, site_terms
from bayesdl.checks.predictive import (
    describe_hidden,
    describe_left_out,
    observed_targets,
    refuse_factors_only,
    subject,
)
from bayesdl.posterior.core import AbstractPosterior, at_site
from inference.core.problem import Problem


@dataclasses.dataclass(frozen=True)
class Rows:
    """Log densities of rows.

    Attributes:
        blocks: log p(row | z), in blocks of rows.
        labels: what rows are called in messages.
        observed: the targets of the rows; labels where they are classes.
        notes: what is left out, or taken together, a sentence each.
    """

    blocks: Iterator[Float[np.ndarray, "chain draw rows"]]
    labels: Sequence[object]
    observed: np.ndarray
    notes: tuple[str, ...]


def rows_of(posterior: AbstractPosterior, site: str | None = None) -> Rows:
    """Return the rows of one observed site, or of all.

    Args:
        posterior: the posterior, with draws.
        site: the observed site; None for all.

    Raises:
        ModelError: for a site that is not observed, or a program that observes nothing.
    """
    one = at_site(posterior, site)
    if posterior.model.observed_values(posterior.schema, posterior.problem) is not None:
        parts, y = blocks(posterior)["y"], observed_targets(posterior)
        flat = (part.reshape(*part.shape[:2], -1) for part in parts)
        return Rows(flat, range(y.size), y, ())
    refuse_factors_only(posterior.problem, "leave-one-out")
    sites, factors = list(posterior.problem.observed), _row_factors(posterior.problem)
    if one.model.predicts_one(one.problem) and len(sites) > 1:
        sites, factors = [one.model.target_site(one.problem)], []
    return _rows_of_sites(posterior, sites, factors)


def _rows_of_sites(posterior: AbstractPosterior, sites: list[str], factors: list[str]) -> Rows:
    """Return the rows of some sites and factors of a program."""
    terms, seen = site_terms(posterior, factors=True), seen_rows(posterior)
    groups: dict[object, list[str]] = {}
    for name in [*sites, *factors]:
        groups.setdefault(_place(posterior.problem, name, terms[name].shape[2:]), []).append(name)
    arrays, labels, hidden = [], [], 0
    for names in groups.values():
        visible = np.asarray(np.any([seen[name] for name in names], axis=0))
        counted = [np.where(seen[name], terms[name], 0.0) for name in names]
        arrays.append(np.sum(counted, axis=0)[:, :, visible].reshape(*counted[0].shape[:2], -1))
        labels += _labels("+".join(names), visible, len(groups) == 1)
        hidden += int(np.sum(~visible))
    values, entries = observed_values(posterior), seen_values(posterior)
    y = [values[name][entries[name]].ravel() for name in sites]
    notes = [
        *_describe_groups(groups, arrays, factors),
        *describe_hidden(hidden),
        *describe_left_out(posterior.problem, sites, factors, "elpd"),
    ]
    block = np.concatenate(arrays, axis=2)
    return Rows(iter([block]), labels, np.concatenate(y), tuple(notes))


def _row_factors(problem: Problem) -> list[str]:
    """Return the factors whose plates hold no latent site: they have a term for each row."""
    held = {plate for name in problem.latents for plate in _plates(problem, name)}
    return [name for name in problem.factors if (at := _plates(problem, name)) and not at & held]


def _plates(problem: Problem, site: str) -> set[str]:
    return {frame.name for frame in problem.trace[site]["cond_indep_stack"]}


def _place(problem: Problem, site: str, shape: tuple[int, ...]) -> object:
    """Return what sites with the same rows have in common: plates and shape."""
    plates = frozenset(_plates(problem, site))
    return (plates, shape) if plates else site


def _labels(site: str, visible: Bool[np.ndarray, "*rows"], alone: bool) -> list[str]:
    """Return what the rows that can be seen are called: numbers, or site and index."""
    if not visible.ndim:
        return [site] * int(visible)
    if alone:
        return [str(row) for row in np.flatnonzero(visible)]
    return [f"{site}[{','.join(map(str, index))}]" for index in np.argwhere(visible).tolist()]


def _describe_groups(
    groups: dict[object, list[str]], arrays: list[np.ndarray], factors: list[str]
) -> list[str]:
    """Say how sites and factors make rows."""
    found = [
        f"{' and '.join(map(repr, names))} have the same rows, and the terms of a row are summed."
        for names in groups.values()
        if len(names) > 1
    ]
    if len(groups) > 1:
        parts = [
            f"{array.shape[2]} of {' and '.join(map(repr, names))}"
            for names, array in zip(groups.values(), arrays, strict=True)
        ]
        listed = ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "")
        found.append(f"Rows are those of all sites: {listed}.")
    if factors:
        found.append(f"{subject('The factor', factors)} taken as terms of rows.")
    return found
