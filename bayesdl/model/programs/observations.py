"""Checks of a program's observed values before anything is fitted: shapes, NaN, support."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Delta, Distribution, MaskedDistribution, constraints

from bayesdl.data.validation import DataError, ModelError
from bayesdl.model.names import site_in
from bayesdl.model.programs.new_data import dependent_dims
from bayesdl.warnings import TrustWarning
from inference.arguments import same_array
from inference.core.problem import Problem
from inference.core.program import name_of, unwrap
from inference.wrappers import innermost, innermost_support

# the number of rows that an error names
NAMED = 5


class PlateWarning(UserWarning):
    """Observed values that count as independent rows though no plate says so."""


def check_sites(problem: Problem) -> None:
    """Refuse a program without sites, or with sites that are neither inferred nor observed.

    Raises:
        ModelError: naming the site, and the cure.
    """
    name = name_of(problem.program)
    samples = {at: site for at, site in problem.trace.items() if site["type"] == "sample"}
    # a compiled function passes its sites the first time only
    if not samples or isinstance(unwrap(problem.program), jax.stages.Wrapped):
        raise ModelError(
            f"{name} has no site (numpyro.sample), so there is nothing to fit. A function that "
            "jax.jit compiled hides its sites: give the function itself."
        )
    for at, site in samples.items():
        if site.get("set_by_handler"):
            raise ModelError(
                f"Site '{at}' of {name} has a value by handlers.substitute, and is neither "
                "inferred nor data. Give it by handlers.condition, which observes it, or by "
                "handlers.do, which only sets it."
            )
        if not site["is_observed"] and isinstance(innermost(site["fn"]), Delta):
            raise ModelError(
                f"Site '{at}' of {name} has the distribution Delta, so there is nothing to infer: "
                f"write numpyro.deterministic('{at}', value)."
            )
        if _is_complex(site):
            raise ModelError(
                f"Site '{at}' of {name} has a complex value, or its distribution "
                f"{type(innermost(site['fn'])).__name__} has complex parameters, and log densities "
                "are real: use jnp.abs(z), or two sites for jnp.real(z) and jnp.imag(z)."
            )


def _is_complex(site: dict) -> bool:
    """Whether the log density of a site is a complex number."""
    given = site["fn"], site["value"]
    if not any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(given)):
        return False
    density = jax.eval_shape(lambda distribution, value: distribution.log_prob(value), *given)
    return bool(jnp.iscomplexobj(density))


def check_observations(problem: Problem, quiet: bool = False) -> None:
    """Refuse observed values that are not those of their distribution.

    Args:
        problem: the program with the data.
        quiet: whether to leave out the warning of a missing plate.

    Raises:
        DataError: naming the site, the shapes or the rows, and the cure.
    """
    for name in problem.observed:
        site = problem.trace[name]
        _check_shape(name, site, problem)
        _check_values(name, site)
        if site.get("rows_without_plate") is not None and not quiet:
            shape, rows = site["rows_without_plate"]
            warnings.warn(
                f"Site '{name}' has values of shape {rows} and a distribution of shape {shape}: "
                "they count as independent rows. Say so with `with numpyro.plate('rows', "
                f"{rows[-1] if rows else 1}):` around it.",
                PlateWarning,
                stacklevel=4,
            )


def missing_data(problem: Problem, optional: set[str]) -> list[str]:
    """Return a line for each site that waits for data: a latent site named like an argument.

    Args:
        problem: the program with the data.
        optional: the names of the arguments whose default is None.
    """
    waiting = [name for name in problem.unobserved if name in optional]
    observed = [
        name
        for name, site in problem.trace.items()
        if site["type"] == "sample" and site["is_observed"]
    ]
    if observed:
        return [f"the program has no data for site '{name}', which is sampled" for name in waiting]
    names = waiting or list(problem.unobserved)
    listed = ", ".join(f"'{name}'" for name in names)
    plural = "sites" if len(names) > 1 else "site"
    return [
        f"the program has no data: {plural} {listed} {'are' * (len(names) > 1) or 'is'} sampled"
    ]


def _check_shape(name: str, site: dict, problem: Problem) -> None:
    """Refuse values whose shape is not that of their distribution."""
    got, expected = tuple(np.shape(site["value"])), tuple(site["fn"].shape())
    if _without_leading_ones(got) == _without_leading_ones(expected):
        return
    # a distribution of the user's own may take values of another form
    if not type(site["fn"]).__module__.startswith("numpyro."):
        return
    if _is_constant(site, problem):
        return
    raise DataError(
        f"Site '{name}' has {_count(got)} of shape {got} and a distribution of shape {expected}"
        f"{_plates(site)}: {_cure(name, got, expected)}."
    )


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of one entry before all others, which no broadcasting repeats."""
    first = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _count(shape: tuple[int, ...]) -> str:
    size = int(np.prod(shape))
    return f"{size} observed value{'s' * (size != 1)}"


def _plates(site: dict) -> str:
    sizes = [f"'{frame.name}' of {frame.size}" for frame in site["cond_indep_stack"]]
    return f" (plate {', plate '.join(sizes)})" if sizes else ""


def _cure(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return what to do about two shapes."""
    if len(got) == len(expected) + 1 and got[-1] == 1 and got[:-1] == expected:
        return (
            f"each value would count for every row; give a column as one dimension, {name}.ravel() "
            f"or {name}[:, 0]"
        )
    if len(expected) == len(got) + 1 and expected[-1] == 1 and expected[:-1] == got:
        return (
            "each value would count for every row; give the distribution one dimension, e.g. "
            "mean[:, 0] in place of mean"
        )
    if len(got) == len(expected):
        return "give as many values as there are rows in the other arguments"
    return "each value would count more than once, or not at all; give both the same shape"


def _is_constant(site: dict, problem: Problem) -> bool:
    """Whether an observed value is one number that the program states itself, as 0.0 is."""
    given = site.get("given", site["value"])
    leaves = jax.tree.leaves((problem.args, dict(problem.kwargs)))
    return np.size(given) == 1 and not any(same_array(given, leaf) for leaf in leaves)


def _check_values(name: str, site: dict) -> None:
    """Refuse values that are NaN or outside the support, where they are known."""
    values = site.get("given")
    if values is None or isinstance(values, Tracer):
        return
    values, distribution = np.asarray(values), site["fn"]
    seen = _seen(distribution)
    if seen is None or values.dtype.kind not in "iufb":
        return
    events = len(distribution.event_shape)
    for wrong, trouble in _troubles(values, distribution):
        rows = wrong.reshape(*wrong.shape[: wrong.ndim - events], -1).any(axis=-1)
        if not events:
            rows = wrong
        rows = np.atleast_1d(rows & np.broadcast_to(seen, rows.shape))
        if rows.any():
            raise DataError(_about_rows(name, values, rows, trouble))


def _troubles(values: np.ndarray, distribution: Distribution) -> Iterator[tuple[np.ndarray, str]]:
    """Yield which values are NaN, and which are outside the support, in words."""
    if values.dtype.kind == "f":
        yield np.isnan(values), "NaN"
    support = innermost_support(distribution)
    if getattr(support, "event_dim", 1):
        return
    try:
        inside = support(values)
    # the support may depend on latent sites, and be of any class
    except Exception:
        return
    if not isinstance(inside, Tracer):
        outside = ~np.broadcast_to(np.asarray(inside, bool), values.shape)
        yield (
            outside,
            f"outside the support of {type(innermost(distribution)).__name__} ({_words(support)})",
        )


def _words(support: object) -> str:
    parts = re.findall("[A-Z][a-z]*|[a-z]+", type(support).__name__)
    return " ".join(parts).lower()


def _seen(distribution: Any) -> np.ndarray | None:
    """Return which rows no mask hides; None where that is known in the computation only."""
    seen = np.ones((), bool)
    while True:
        if isinstance(distribution, MaskedDistribution):
            mask = distribution._mask
            if isinstance(mask, Tracer):
                return None
            seen = seen & np.asarray(mask, bool)
        if not hasattr(distribution, "base_dist"):
            return seen
        distribution = distribution.base_dist


def _about_rows(name: str, values: np.ndarray, rows: np.ndarray, trouble: str) -> str:
    """Say which rows are wrong, and how many."""
    places = np.argwhere(np.atleast_1d(rows))
    shown = [", ".join(map(str, place)) for place in places[:NAMED]]
    listed = ", ".join(shown if places.shape[1] == 1 else (f"({place})" for place in shown))
    first = np.atleast_1d(values)[tuple(places[0])]
    count = f"{len(places)} row{'s' * (len(places) > 1)}"
    which = f"row{'s' * (len(places) > 1)} {listed}{', ...' * (len(places) > NAMED)}"
    return (
        f"Site '{name}' has {count} of observed values that are {trouble}: {which}; the first is "
        f"{first}. Leave these rows out, fill them in, or hide them with numpyro.handlers.mask."
    )


def warn_of_one_event(problem: Problem, site: str) -> None:
    """Warn where all observed values of a site are one draw, as of a process written by hand.

    Given the latent sites its distribution is that of another data set, so that predictions know
    nothing of the observed values.
    """
    distribution: Any = innermost(problem.trace[site_in(problem.trace, site)]["fn"])
    together = dependent_dims(distribution) > 0 and not distribution.batch_shape
    reals = innermost_support(distribution) is constraints.real
    if not (together and reals and max(distribution.shape()) > 1):
        return
    warnings.warn(
        f"Site '{site}' is one draw of {type(distribution).__name__} with "
        f"{np.prod(distribution.shape())} entries. Its predictions are other such draws given the "
        "latent sites: they are not conditioned on the observed entries, and log densities are of "
        "all entries together. For a process at new rows, or its rows given each other, use "
        "bdl.GP(), or a latent function with independent noise around it.",
        TrustWarning,
        stacklevel=4,
    )
