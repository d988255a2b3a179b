"""Predictions, comparisons and slopes, computed draw by draw.

With m_z(x) = E[y | x, z] for a posterior draw z, and x' a row with one column changed:

    prediction  m_z(x),    comparison  m_z(x') - m_z(x)  or  m_z(x') / m_z(x),    slope  dm_z / dx.

Means over rows are taken draw by draw, so intervals are those of the mean effect; ratios and lifts
are those of the means (Arel-Bundock,
Greifer and Heiss 2024, "How to interpret statistical models using marginaleffects").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bayesdl.data.validation import DataError, is_number
from bayesdl.effects.grids import (
    Conditional,
    check_column,
    column_in,
    columns_of,
    frame_of,
    grid,
    levels,
    like,
)
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.means import Effects, averaged
from bayesdl.typing import Cells, Contrast, DataFrame, TableLike

By: TypeAlias = str | Sequence[str] | None
"""A column, or a list of columns."""

CONTRASTS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lift": lambda high, low: (high - low) / low,
}
STEP = 1e-6  # of a slope, relative to the range of the column
RESULTS = ("estimate", "std")


def predictions(
    posterior: AbstractPosterior,
    data: TableLike | None = None,
    *,
    conditional: Conditional = None,
    by: By = None,
    average: bool = False,
    **named: object,
) -> Effects:
    """Return E[y | x] for rows, on average, by groups of rows, or at a grid of typical rows.

    Args:
        posterior: any fit that predicts.
        data: the rows; by default those of the training data, where the model keeps them.
        conditional: the columns along which a grid runs, the others at typical values: a name, a
            list of names, or `{"x": [0, 1], "g": None}`. Effects of groups are left out then.
        by: the columns by which predictions of rows are averaged.
        average: whether all rows are averaged.
        **named: what `post.predict` takes, such as groups="population".

    Example:
        >>> import bayesdl as bdl
        >>> df = {"x": np.arange(8.0), "y": 2 * np.arange(8.0) + np.tile([0.1, -0.1], 4)}
        >>> post = bdl.fit(bdl.Formula("y ~ x"), df, engine=bdl.Laplace(), progress=False)
        >>> len(predictions(post, conditional={"x": [0, 1]}))
        2
    """
    asked = _asked(posterior, data, conditional, by, named)
    return asked.effects("predictions", asked.means(asked.rows), {}, bool(asked.groups) or average)


def comparisons(
    posterior: AbstractPosterior,
    column: str | Mapping[str, Any],
    data: TableLike | None = None,
    *,
    contrast: Contrast = "difference",
    conditional: Conditional = None,
    by: By = None,
    average: bool = True,
    **named: object,
) -> Effects:
    """Return how E[y | x] changes when a column changes, all else being equal.

    Args:
        posterior: any fit that predicts.
        column: the column: numbers go up by 1, truth values and 0/1 from 0 to 1, other values
            from the first one of the training data to each other one.
            `{"x": [0, 10]}` gives the values instead, of which each is compared with the first.
        data: the rows, as for `predictions`.
        contrast: "difference", "ratio", or "lift" (the difference over the first); on average
            and by groups of the mean predictions.
        conditional: the columns along which a grid of typical rows runs, as for `predictions`.
        by: the columns by which comparisons of rows are averaged.
        average: whether all rows are averaged; a grid never is.
        **named: what `post.predict` takes.

    Raises:
        ValueError: for an unknown contrast.
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"contrast={contrast!r}: expected one of {', '.join(CONTRASTS)}.")
    asked = _asked(posterior, data, conditional, by, named)
    pooled = bool(asked.groups) or (average and conditional is None)
    name, values = _values(column, asked)
    sign = {"difference": "-", "ratio": "/", "lift": "lift over"}[contrast]
    low = asked.means(_with(asked.rows, name, values[0]))
    parts = []
    for value in values[1:]:
        high = asked.means(_with(asked.rows, name, value))
        is_step = isinstance(value, _Shifted) and contrast == "difference"
        keys = {
            "column": name,
            "contrast": str(value) if is_step else f"{value} {sign} {values[0]}",
        }
        base, top = (asked.effects("comparisons", one, keys, pooled, name) for one in (low, high))
        change = CONTRASTS[contrast](top.draws, base.draws)
        parts.append(dataclasses.replace(top, draws=change))
    return _joined(parts)


def slopes(
    posterior: AbstractPosterior,
    column: str,
    data: TableLike | None = None,
    *,
    conditional: Conditional = None,
    by: By = None,
    average: bool = True,
    **named: object,
) -> Effects:
    """Return the derivative of E[y | x] by a column of numbers.

    It is a central difference over 1e-6 of the column's range, in double precision, and at the
    ends of the training data a difference to the inside.

    Args:
        posterior: any fit that predicts.
        column: the column.
        data: the rows, as for `predictions`.
        conditional: the columns along which a grid of typical rows runs, as for `predictions`.
        by: the columns by which slopes of rows are averaged.
        average: whether all rows are averaged; a grid never is.
        **named: what `post.predict` takes.

    Raises:
        DataError: for a column that holds no numbers, or does not vary.
    """
    asked = _asked(posterior, data, conditional, by, named)
    name = check_column(asked.rows, column, "slopes")
    known = asked.known(name)
    if not is_number(known):
        raise DataError(f"slopes of {name!r}, which holds no numbers: see bdl.effects.comparisons.")
    low, high = (float(end(np.asarray(known, np.float64))) for end in (np.min, np.max))
    if high == low:
        raise DataError(f"slopes: the column {name!r} does not vary.")
    asked = dataclasses.replace(asked, named=asked.named | {"double": True})
    at, step = np.asarray(asked.rows[name], np.float64), STEP * (high - low)
    # splines end with the training data: no step leads out of it
    up = np.where(at <= high, np.minimum(at + step, high), at + step)
    down = np.where(at >= low, np.maximum(at - step, low), at - step)
    rise = asked.means(asked.rows.assign(**{name: up}))
    rise = rise - asked.means(asked.rows.assign(**{name: down}))
    pooled = bool(asked.groups) or (average and conditional is None)
    keys = {"column": name, "contrast": "dy/dx"}
    return asked.effects("slopes", rise / (up - down)[:, None], keys, pooled)


class _Shifted(float):
    """A number that is added to a column."""

    def __str__(self) -> str:
        return f"{float(self):+g}"


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What is asked of a fit.

    Attributes:
        posterior: the fit.
        every: the data, of which a grid has typical values.
        rows: the rows at which effects are asked for.
        along: the columns along which they run.
        groups: the columns by which they are averaged.
        plain: whether the data were an array.
        named: what `post.predict` takes.
    """

    posterior: AbstractPosterior
    every: DataFrame
    rows: DataFrame
    along: tuple[str, ...]
    groups: tuple[str, ...]
    plain: bool
    named: dict

    def means(self, rows: DataFrame) -> np.ndarray:
        """Return E[y | x, z], shape (draws, rows, outcomes)."""
        given = rows.to_numpy(np.float64) if self.plain else rows
        values = self.posterior.predict(given, kind="mean", **self.named).draws
        return values.reshape(*values.shape[:2], -1)

    def known(self, name: str) -> Cells:
        """Return a column of the training data where the model keeps it, else of the data."""
        kept = self.posterior.model.training_frame(self.posterior.schema, self.posterior.problem)
        return column_in(self.every if kept is None or name not in kept else kept, name)

    def effects(
        self, kind: str, values: np.ndarray, keys: dict[str, str], pooled: bool, changed: str = ""
    ) -> Effects:
        """Return estimates for each row and outcome, or their means."""
        import pandas as pd

        target = self.posterior.model.target(self.posterior.schema, self.posterior.problem)
        names: list[Any] = list(target.classes or target.names)
        if target.classes is not None and len(names) == 2:
            names, values = names[1:], values[..., 1:]
        several = len(names) > 1
        fixed = (*keys, *(["class"] if several else []))
        is_shown = changed in self.along or changed in self.groups
        shown = self.rows if is_shown or not changed else self.rows.drop(columns=[changed])
        labels = _labels(shown, fixed)
        table = shown.rename(columns=labels).reset_index(drop=True)
        tables, draws = [], []
        for j, name in enumerate(names):
            first = keys | ({"class": name} if several else {})
            tables.append(pd.concat([pd.DataFrame(first, index=table.index), table], axis=1))
            draws.append(values[..., j])
        outcome = target.names[0]
        if target.classes is not None:
            outcome = f"P({outcome} = {names[0]})" if not several else f"P({outcome})"
        along = tuple(labels.get(name, name) for name in self.along)
        every, cells = pd.concat(tables, ignore_index=True), np.concatenate(draws, axis=1)
        found = Effects(kind, every, cells, along, outcome, fixed)
        if not pooled:
            return found
        return averaged(found, [labels.get(name, name) for name in self.groups])


def _asked(
    posterior: AbstractPosterior,
    data: TableLike | None,
    conditional: Conditional,
    by: By,
    named: dict,
) -> _Asked:
    """Return what is asked, with its rows."""
    every, plain = frame_of(posterior, data)
    rows, along = (every, ()) if conditional is None else grid(every, conditional)
    if conditional is not None:
        named = posterior.model.typical_settings(along) | named
    groups = () if by is None else tuple(columns_of(by, rows, "by"))
    return _Asked(posterior, every, rows, along, groups, plain, named)


def _labels(rows: DataFrame, fixed: Sequence[str]) -> dict[str, str]:
    """Return other names for the columns that are called as those of the result."""
    taken = {*fixed, *RESULTS}
    found = {}
    for name in rows.columns:
        label = name
        while label in taken or (label != name and label in rows.columns):
            label = f"{label}_"
        if label != name:
            found[name] = label
    return found


def _values(column: str | Mapping[str, Any], asked: _Asked) -> tuple[str, list[Any]]:
    """Return the column that is changed, and the values that it takes, the first one to compare."""
    if isinstance(column, Mapping):
        if len(column) != 1:
            raise ValueError(f"comparisons of {list(column)}: expected one column.")
        ((given, values),) = column.items()
        name, values = check_column(asked.rows, given, "comparisons"), list(values)
    else:
        name = check_column(asked.rows, column, "comparisons")
        values = _changes(asked.known(name), column_in(asked.rows, name))
    if len(values) < 2:
        raise DataError(f"comparisons of {name!r}: got the values {values}, expected two or more.")
    return name, values


def _changes(known: Cells, cells: Cells) -> list[Any]:
    """Return the values that are compared: both truth values, one more of numbers, or levels."""
    if any(one.dtype.kind == "b" for one in (known, cells)):
        return [False, True]
    if not is_number(known):
        return levels(known)
    if set(np.unique(np.asarray(known, np.float64))) == {0.0, 1.0}:
        return [0, 1]
    return [_Shifted(0), _Shifted(1)]


def _with(rows: DataFrame, name: str, value: object) -> DataFrame:
    """Return the rows with another value in a column."""
    if isinstance(value, _Shifted):
        return rows.assign(**{name: np.asarray(rows[name], np.float64) + float(value)})
    return rows.assign(**{name: like(column_in(rows, name), [value] * len(rows))})


def _joined(parts: list[Effects]) -> Effects:
    """Return the effects of several contrasts as one."""
    import pandas as pd

    keys = pd.concat([part.keys for part in parts], ignore_index=True)
    draws = np.concatenate([part.draws for part in parts], axis=1)
    return dataclasses.replace(parts[0], keys=keys, draws=draws)
