"""Names of what a site holds: of its dimensions, and of the entries along them.

A dimension is one axis of a site; its coordinates are the labels of the entries along it. The axis
of a plate is named by the plate, any other axis is `<site>_dim_0`, `<site>_dim_1`, ...
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bayesdl.data.validation import DataError
from inference.core.problem import Problem
from inference.core.typing import Info

Dimensions: TypeAlias = dict[str, tuple[str, ...]]
"""The names of the axes of each site."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The names that a user gave.

    Attributes:
        coords: the labels of the entries along each dimension.
        dims: the names of the axes of sites; None for one without a name.
    """

    coords: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    dims: Mapping[str, tuple[str | None, ...]] = dataclasses.field(default_factory=dict)

    def to_data(self) -> Info:
        """Return the names as JSON data."""
        return {part: {k: list(v) for k, v in getattr(self, part).items()} for part in PARTS}

    @classmethod
    def from_data(cls, data: Info) -> Names:
        """Return the names from what `to_data` gave."""
        return cls(*({k: tuple(v) for k, v in data.get(part, {}).items()} for part in PARTS))


PARTS = ("coords", "dims")


def learn_names(
    problem: Problem, coords: object = None, dims: object = None, by_model: Names = Names()
) -> Names:
    """Return the names that a model knows and a user gave, checked against the sites of a problem.

    Args:
        problem: the problem.
        coords: labels by dimension, or None.
        dims: names of axes by site, or None.
        by_model: the names that the model knows, which the user's take the place of.

    Raises:
        DataError: for unknown sites and dimensions, and for other numbers of names or labels than
            there are axes or entries.
    """
    by_site = dict(by_model.dims) | _mapping("dims", dims, "{'z': ['subject']}")
    by_dim = dict(by_model.coords) | _mapping("coords", coords, "{'subject': ['Ann', 'Finn']}")
    shapes = _shapes(problem)
    checked = {site: _axes(site, names, shapes) for site, names in by_site.items()}
    names = Names({dim: _labels(dim, labels) for dim, labels in by_dim.items()}, checked)
    found = _sizes(problem, names, shapes)
    for dim, labels in names.coords.items():
        if dim not in found:
            known = list(found) or "none: name the axes of sites with dims="
            raise DataError(f"coords: no site has a dimension {dim!r}; the dimensions are {known}.")
        for site, size in found[dim]:
            if size != len(labels):
                raise DataError(
                    f"coords[{dim!r}] has {len(labels)} labels, and dimension {dim!r} of site "
                    f"{site!r} has {size} entries: expected one label each."
                )
    for dim, uses in found.items():
        by_user = [use for use in uses if use[0] in checked]
        other = [use for use in uses if by_user and use[1] != by_user[0][1]]
        if other:
            (one, size), (two, size_2) = by_user[0], other[0]
            raise DataError(
                f"dims: dimension {dim!r} has {size} entries in site {one!r} and {size_2} in site "
                f"{two!r}: give two names."
            )
    return names


def site_dims(problem: Problem, names: Names) -> Dimensions:
    """Return the names of the axes of every site.

    A plate's name that stands for another size elsewhere names the axes of the first site only.
    """
    shapes, sizes, found = _shapes(problem), {}, {}
    # what a user named is first, as it was checked
    for site in sorted(shapes, key=lambda site: site not in names.dims):
        own, chosen = 0, []
        for dim, size in zip(_dims_of(problem, names, site), shapes[site], strict=True):
            if dim is None or dim in chosen or sizes.setdefault(dim, size) != size:
                dim, own = f"{site}_dim_{own}", own + 1
            chosen.append(dim)
        found[site] = tuple(chosen)
    return found


def entry_labels(
    site: str, shape: Sequence[int], dims: Dimensions, names: Names, between: str = ","
) -> list[str]:
    """Return a label for each entry of a site, such as "z[Finn]", in the order of flat values.

    Args:
        site: the name of the site; it alone is the label of a scalar.
        shape: the shape of its value.
        dims: the names of the axes of sites.
        names: the labels along dimensions.
        between: what stands between the labels of several axes.
    """
    along = [
        labels if len(labels := names.coords.get(dim, ())) == size else range(size)
        for dim, size in zip(dims.get(site, ()), shape, strict=False)
    ]
    along = along if len(along) == len(shape) else [range(size) for size in shape]
    return [
        f"{site}[{between.join(str(along[k][i]) for k, i in enumerate(index))}]" if index else site
        for index in np.ndindex(*shape)
    ]


def _mapping(word: str, given: object, example: str) -> dict[str, Any]:
    """Return a mapping of names.

    Raises:
        DataError: for anything else.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise DataError(
            f"{word}: expected a dictionary such as {example}, got {type(given).__name__}."
        )
    return dict(given)


def _axes(site: str, given: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, ...]:
    """Return the names that a user gave to the axes of a site.

    Raises:
        DataError: for a site that is unknown, or for names that do not fit.
    """
    if site not in shapes:
        raise DataError(f"dims: no site {site!r}; the sites are {list(shapes)}.")
    axes = (given,) if isinstance(given, str) else tuple(given)
    shape = shapes[site]
    if len(axes) != len(shape):
        raise DataError(
            f"dims[{site!r}] has {len(axes)} names, and site {site!r} has {len(shape)} dimensions "
            f"(its shape is {shape}): expected one name each, or None."
        )
    wrong = [axis for axis in axes if axis is not None and (not isinstance(axis, str) or not axis)]
    if wrong:
        raise DataError(f"dims[{site!r}]: expected names of dimensions, got {wrong[0]!r}.")
    named = [axis for axis in axes if axis is not None]
    if len(set(named)) < len(named):
        raise DataError(
            f"dims[{site!r}] names two dimensions alike ({named}): give each a name of its own."
        )
    return axes


def _labels(dim: str, given: Any) -> tuple[Any, ...]:
    """Return the labels along a dimension, as values that a file can hold.

    Raises:
        DataError: for labels that are no list, or that are not different from each other.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__") or np.ndim(given) > 1:
        raise DataError(f"coords[{dim!r}]: expected a list of labels, got {given!r:.60}.")
    labels = tuple(_plain(label) for label in given)
    seen: set[str] = set()
    for label in labels:
        if str(label) in seen:
            raise DataError(
                f"coords[{dim!r}] has the label {label!r} twice: labels of a dimension differ "
                "from each other. (The labels of groups, not of rows? np.unique gives them.)"
            )
        seen.add(str(label))
    return labels


def _plain(label: object) -> Any:
    """Return a label as a number or a text."""
    if isinstance(label, np.datetime64 | datetime.date):
        return str(label)
    plain = label.item() if isinstance(label, np.generic) else label
    return plain if isinstance(plain, bool | int | float | str) else str(plain)


def _shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all sites."""
    return {
        name: tuple(np.shape(site["value"]))
        for name, site in problem.trace.items()
        if site["type"] in ("sample", "deterministic")
    }


def _dims_of(problem: Problem, names: Names, site: str) -> tuple[str | None, ...]:
    """Return the names of the axes of a site: those given, and those of plates."""
    by_plate = _plates(problem.trace[site])
    return tuple(
        given or plate
        for given, plate in zip(names.dims.get(site, by_plate), by_plate, strict=True)
    )


def _plates(site: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return the plate of each axis of a site, None for an axis without one."""
    shape, frames = np.shape(site["value"]), site.get("cond_indep_stack", ())
    found: list[str | None] = [None] * len(shape)
    # a deterministic site does not say which of its axes are events
    is_sample = site["type"] == "sample"
    if not is_sample and len(shape) != max((-frame.dim for frame in frames), default=0):
        return tuple(found)
    batch = len(shape) - (site["fn"].event_dim if is_sample else 0)
    for frame in frames:
        axis = batch + frame.dim
        if axis >= 0 and shape[axis] == frame.size:
            found[axis] = frame.name
    return tuple(found)


def _sizes(
    problem: Problem, names: Names, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[tuple[str, int]]]:
    """Return the sites that have each named dimension, and its size there."""
    found: dict[str, list[tuple[str, int]]] = {}
    for site, shape in shapes.items():
        for dim, size in zip(_dims_of(problem, names, site), shape, strict=True):
            if dim is not None:
                found.setdefault(dim, []).append((site, size))
    return found


def is_partly_seen(trace: Mapping[str, Any], site: str) -> bool:
    """Return whether a site has an obs_mask of NumPyro's, by the parts that it makes."""
    parts = [trace.get(f"{site}_{part}", {}) for part in ("observed", "unobserved")]
    whole = trace.get(site, {}).get("type") == "deterministic"
    return whole and [part.get("is_observed") for part in parts] == [True, False]


def is_unseen_part(trace: Mapping[str, Any], name: str) -> bool:
    """Return whether a site is what an obs_mask of NumPyro's leaves unseen of another one."""
    site, _, part = name.rpartition("_")
    return part == "unobserved" and is_partly_seen(trace, site)


def site_in(trace: Mapping[str, Any], site: str) -> str:
    """Return the name that a site has in a run of its program.

    With NumPyro's obs_mask the training data have a site of the part that was seen, "y_observed";
    new data, which are not seen, have the site "y" itself.
    """
    return site if site in trace else site.removesuffix("_observed")
