"""Predictions, comparisons and slopes, computed draw by draw.

With m_z(x) = E[y | x, z] for a posterior draw z, and x' a row with one column changed:

    prediction  m_z(x),    comparison  m_z(x') - m_z(x)  or  m_z(x') / m_z(x),    slope  dm_z / dx.

Means over rows are taken draw by draw, so intervals are those of the mean effect (Arel-Bundock,
Greifer and Heiss 2024, "How to interpret statistical models using marginaleffects").
"""

from __future__ import annotations

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
from bayesdl.typing import Contrast, DataFrame, TableLike

By: TypeAlias = str | Sequence[str] | None
"""A column, or a list of columns."""

CONTRASTS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lift": lambda high, low: (high - low) / low,
}
STEP = 1e-4  # of a slope, relative to the range of the column


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
    rows, along, plain, named = _rows(posterior, data, conditional, named)
    groups = _groups(by, rows)
    found = _effects(
        posterior, "predictions", rows, _means(posterior, rows, plain, named), {}, along
    )
    return averaged(found, groups) if groups or average else found


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
        column: the column: numbers go up by 1, other values from the first one to each other one.
            `{"x": [0, 10]}` gives the values instead, of which each is compared with the first.
        data: the rows, as for `predictions`.
        contrast: "difference", "ratio", or "lift" (the difference over the first).
        conditional: the columns along which a grid of typical rows runs, as for `predictions`.
        by: the columns by which comparisons of rows are averaged.
        average: whether all rows are averaged; a grid never is.
        **named: what `post.predict` takes.

    Raises:
        ValueError: for an unknown contrast.
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"contrast={contrast!r}: expected one of {', '.join(CONTRASTS)}.")
    rows, along, plain, named = _rows(posterior, data, conditional, named)
    groups = _groups(by, rows)
    name, values = _values(column, rows)
    parts = []
    low = _means(posterior, _with(rows, name, values[0]), plain, named)
    sign = {"difference": "-", "ratio": "/", "lift": "lift over"}[contrast]
    for value in values[1:]:
        high = _means(posterior, _with(rows, name, value), plain, named)
        if isinstance(value, _Shifted):
            title = f"{value} {sign} {values[0]}" if sign != "-" else str(value)
        else:
            title = f"{value} {sign} {values[0]}"
        change = CONTRASTS[contrast](high, low)
        keys = {"column": name, "contrast": title}
        parts.append(_effects(posterior, "comparisons", rows, change, keys, along, name))
    found = _joined(parts)
    return averaged(found, groups) if groups or (average and conditional is None) else found


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

    It is a central difference over 1e-4 of the column's range, computed in double precision.

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
    every, _ = frame_of(posterior, data)
    name = check_column(every, column, "slopes")
    if not is_number(every[name]):
        raise DataError(f"slopes of {name!r}, which holds no numbers: see bdl.effects.comparisons.")
    extent = float(np.ptp(np.asarray(every[name], np.float64)))
    if extent == 0:
        raise DataError(f"slopes: the column {name!r} does not vary.")
    rows, along, plain, named = _rows(posterior, data, conditional, named)
    groups = _groups(by, rows)
    step = STEP * extent
    named = named | {"double": True}
    up = _means(posterior, _with(rows, name, _Shifted(step)), plain, named)
    down = _means(posterior, _with(rows, name, _Shifted(-step)), plain, named)
    keys = {"column": name, "contrast": "dy/dx"}
    found = _effects(posterior, "slopes", rows, (up - down) / (2 * step), keys, along, name)
    return averaged(found, groups) if groups or (average and conditional is None) else found


class _Shifted(float):
    """A number that is added to a column."""

    def __str__(self) -> str:
        return f"{float(self):+g}"


def _rows(
    posterior: AbstractPosterior, data: TableLike | None, conditional: Conditional, named: dict
) -> tuple[DataFrame, tuple[str, ...], bool, dict]:
    """Return the rows, the columns along which they run, whether they were an array, settings."""
    frame, plain = frame_of(posterior, data)
    if conditional is None:
        return frame, (), plain, named
    rows, along = grid(frame, conditional)
    return rows, along, plain, posterior.model.typical_settings(along) | named


def _groups(by: By, rows: DataFrame) -> list[str]:
    return [] if by is None else columns_of(by, rows, "by")


def _means(posterior: AbstractPosterior, rows: DataFrame, plain: bool, named: dict) -> np.ndarray:
    """Return E[y | x, z], shape (draws, rows, outcomes)."""
    given = rows.to_numpy(np.float64) if plain else rows
    values = posterior.predict(given, kind="mean", **named).draws
    return values.reshape(*values.shape[:2], -1)


def _values(column: str | Mapping[str, Any], rows: DataFrame) -> tuple[str, list[Any]]:
    """Return the column that is changed, and the values that it takes, the first one to compare."""
    if isinstance(column, Mapping):
        if len(column) != 1:
            raise ValueError(f"comparisons of {list(column)}: expected one column.")
        ((given, values),) = column.items()
        name, values = check_column(rows, given, "comparisons"), list(values)
    else:
        name = check_column(rows, column, "comparisons")
        values = (
            [_Shifted(0), _Shifted(1)] if is_number(rows[name]) else levels(column_in(rows, name))
        )
    if len(values) < 2:
        raise DataError(f"comparisons of {name!r}: got the values {values}, expected two or more.")
    return name, values


def _with(rows: DataFrame, name: str, value: object) -> DataFrame:
    """Return the rows with another value in a column."""
    if isinstance(value, _Shifted):
        return rows.assign(**{name: np.asarray(rows[name], np.float64) + float(value)})
    return rows.assign(**{name: like(column_in(rows, name), [value] * len(rows))})


def _effects(
    posterior: AbstractPosterior,
    kind: str,
    rows: DataFrame,
    values: np.ndarray,
    keys: dict[str, str],
    along: tuple[str, ...],
    changed: str = "",
) -> Effects:
    """Return estimates for each row and outcome."""
    import pandas as pd

    target = posterior.model.target(posterior.schema, posterior.problem)
    names: list[Any] = list(target.classes or target.names)
    if target.classes is not None and len(names) == 2:
        names, values = names[1:], values[..., 1:]
    several = len(names) > 1
    shown = rows.drop(columns=[changed]) if changed and changed not in along else rows
    tables, draws = [], []
    for j, name in enumerate(names):
        table = shown.reset_index(drop=True)
        first = keys | ({"class": name} if several else {})
        tables.append(pd.concat([pd.DataFrame(first, index=table.index), table], axis=1))
        draws.append(values[..., j])
    outcome = target.names[0]
    if target.classes is not None:
        outcome = f"P({outcome} = {names[0]})" if not several else f"P({outcome})"
    return Effects(
        kind, pd.concat(tables, ignore_index=True), np.concatenate(draws, axis=1), along, outcome
    )


def _joined(parts: list[Effects]) -> Effects:
    """Return the effects of several contrasts as one."""
    import pandas as pd

    keys = pd.concat([part.keys for part in parts], ignore_index=True)
    draws = np.concatenate([part.draws for part in parts], axis=1)
    return Effects(parts[0].kind, keys, draws, parts[0].along, parts[0].outcome)
