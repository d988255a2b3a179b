"""Pictures of effects, and of the mean of the outcome over a band."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.plots.axes import COLOURS, Panel, axes_for
from bayesdl.posterior.means import Effects, MeanPrediction
from bayesdl.typing import AxesLike, ColumnLike, DataFrame

MOST = 40  # points that can be told apart


def effects(found: Effects, ax: AxesLike = None) -> Panel:
    """Draw effects with their 90 % intervals: bands along numbers, points along names.

    Along two columns there is a colour for each value of the second.

    Args:
        found: the effects, of which those for single rows are too many to draw.
        ax: matplotlib axes; by default new ones.

    Raises:
        ValueError: for more than three columns, or too many points.
    """
    panel = axes_for(ax, 1)[0]
    table: DataFrame = found.to_pandas()
    columns = [*found.along, *(name for name in found.fixed if name != "column")]
    along = [name for name in columns if len(set(table[name])) > 1]
    if not along:
        along = ["column"]
        table = table if "column" in found.fixed else table.assign(column=found.outcome)
    if not found.along and len(table) > MOST:
        raise ValueError(
            f"{len(table)} effects of single rows: average them (average=True, by='g'), or ask for "
            "a grid with conditional='x'."
        )
    if len(along) > 3:
        raise ValueError(f"Effects along {along} cannot be drawn: ask for two columns at most.")
    first, rest = along[0], along[1:]
    parts: list[tuple[str, Any]] = [("", table)]
    if rest:
        keys = table[rest].astype(str).agg(", ".join, axis=1)
        parts = [(key, table[keys == key]) for key in dict.fromkeys(keys)]
    numeric = table[first].dtype.kind in "iuf"
    places = None if numeric else list(dict.fromkeys(table[first]))
    for k, (label, part) in enumerate(parts):
        shift = 0.0 if numeric else 0.15 * (k - (len(parts) - 1) / 2)
        _draw(panel, part, first, label, COLOURS[k % len(COLOURS)], places, shift)
    if places is not None:
        panel.set_xticks(range(len(places)), [str(value) for value in places])
        panel.set_xlim(-0.5, len(places) - 0.5)
    is_ratio = "contrast" in found.fixed and " / " in str(table["contrast"].iloc[0])
    if found.kind != "predictions":
        panel.axhline(1.0 if is_ratio else 0.0, color="0.5", lw=0.8, ls=":")
    if rest:
        panel.legend(title=", ".join(rest), frameon=False, fontsize="small")
    panel.spines[["top", "right"]].set_visible(False)
    panel.set(xlabel="" if first == "column" else first, ylabel=_title(found))
    return panel


def band(prediction: MeanPrediction, x: ColumnLike | None = None, ax: AxesLike = None) -> Panel:
    """Draw the mean of the outcome with its 50 and 90 % bands against x, or the row number.

    Args:
        prediction: the distribution of the mean, as `predict(kind="mean")` gives it.
        x: what to draw against, shape (rows,).
        ax: matplotlib axes; by default new ones.
    """
    panel = axes_for(ax, 1)[0]
    rows = prediction.draws.shape[1]
    values = np.arange(rows) if x is None else np.asarray(x, np.float64).ravel()
    if len(values) != rows:
        raise ValueError(f"x has {len(values)} numbers, expected {rows}: one per predicted row.")
    order = np.argsort(values, kind="stable")
    draws = prediction.draws.reshape(len(prediction.draws), rows, -1)
    for j in range(draws.shape[2]):
        colour = COLOURS[j % len(COLOURS)]
        label = str(prediction.names[j]) if prediction.names else None
        own = draws[:, order, j]
        for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.3)):
            bounds = np.quantile(own, [low, high], axis=0)
            if _zigzags(own.mean(0)):
                panel.vlines(values[order], *bounds, color=colour, alpha=2 * alpha, lw=1.5)
            else:
                panel.fill_between(values[order], *bounds, color=colour, alpha=alpha, lw=0)
        line = "o" if _zigzags(own.mean(0)) else "-"
        panel.plot(values[order], own.mean(0), line, color=colour, lw=1.8, ms=3, label=label)
    panel.spines[["top", "right"]].set_visible(False)
    if prediction.names:
        panel.legend(frameon=False, fontsize="small")
    panel.set(xlabel=str(getattr(x, "name", None) or ("row" if x is None else "x")), ylabel="mean")
    return panel


def _zigzags(means: np.ndarray) -> bool:
    """Return whether other columns than x vary, so that a line from row to row has no meaning."""
    steps = np.sign(np.diff(means))
    turns = np.sum(steps[1:] * steps[:-1] < 0)
    return bool(len(means) > 4 and turns > 0.2 * len(means))


def _draw(
    panel: Panel,
    part: DataFrame,
    first: str,
    label: str,
    colour: str,
    places: list | None,
    shift: float,
) -> None:
    """Draw estimates along a column of numbers, or at the places of its values."""
    if places is None and len(part) > 10:
        part = part.sort_values(first)
        panel.fill_between(part[first], part["5%"], part["95%"], color=colour, alpha=0.2, lw=0)
        panel.plot(part[first], part["estimate"], color=colour, lw=1.8, label=label or None)
        return
    at = np.asarray(
        part[first] if places is None else [places.index(one) + shift for one in part[first]], float
    )
    below, above = part["estimate"] - part["5%"], part["95%"] - part["estimate"]
    panel.errorbar(
        at,
        part["estimate"],
        [below, above],
        fmt="o",
        color=colour,
        lw=1.8,
        ms=5,
        label=label or None,
    )


def _title(found: Effects) -> str:
    """Return what the estimates are."""
    if found.kind == "predictions":
        return f"mean of {found.outcome}" if not found.outcome.startswith("P(") else found.outcome
    what = "slope" if found.kind == "slopes" else "change"
    return f"{what} of {found.outcome} with {found.keys['column'].iloc[0]}"
