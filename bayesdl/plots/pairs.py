"""Plots of draws or columns against each other, and of counts against what models make of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.checks.predictive import PredictiveCheck
from bayesdl.plots.axes import ABOVE, COLOURS, GREY, Panel, axes_for, new_axes
from bayesdl.plots.chains import moving_scalars
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import AxesLike, DataFrame

MOST = 6  # scalars of one picture
MOST_WRITTEN = 12  # columns whose dependence is written too
POINTS = 2000  # draws that are shown


def pair(
    posterior: AbstractPosterior, sites: list[str] | None = None, axes: AxesLike = None
) -> np.ndarray:
    """Draw each scalar against each other one, and mark the draws that diverged.

    Divergences that gather in one place show where the sampler cannot follow the posterior.

    Args:
        posterior: the posterior.
        sites: the names of the sites; by default those that summaries show, the first 6 scalars.
        axes: matplotlib axes, shape (scalars - 1, scalars - 1); by default new ones.

    Returns:
        The array of axes; those above the diagonal are not shown.

    Raises:
        ValueError: for unknown sites, a single scalar, or too few axes.

    Example:
        >>> import bayesdl as bdl
        >>> df = {"x": np.arange(8.0), "y": 2 * np.arange(8.0) + np.tile([0.1, -0.1], 4)}
        >>> post = bdl.fit(bdl.Formula("y ~ x"), df, engine=bdl.Laplace(), progress=False)
        >>> pair(post).shape
        (2, 2)
    """
    every = moving_scalars(posterior, sites)
    shown = dict(list(every.items())[:MOST])
    count = len(shown) - 1
    if count < 1:
        raise ValueError(f"pair: got the scalars {list(shown)}, expected two or more.")
    if axes is None:
        size = 1.2 + 2.2 * count
        axes = new_axes(count, count, (size, size))
    panels = np.atleast_1d(np.asarray(axes, dtype=object))
    if panels.size != count**2:
        raise ValueError(f"axes: got {panels.size}, expected {count} rows of {count}.")
    panels = panels.reshape(count, count)
    names, values = list(shown), [one.ravel() for one in shown.values()]
    stats: Any = getattr(posterior.raw, "stats", {})
    diverged = np.ravel(stats.get("diverging", np.zeros(len(values[0]), bool))).astype(bool)
    some = np.unique(np.linspace(0, len(values[0]) - 1, POINTS).astype(int))
    for row in range(count):
        for column in range(count):
            panel = panels[row, column]
            if column > row:
                panel.set_visible(False)
                continue
            x, y = values[column], values[row + 1]
            panel.plot(x[some], y[some], ".", color=COLOURS[0], ms=4, alpha=0.5, mew=0)
            if diverged.any():
                panel.plot(x[diverged], y[diverged], ".", color=COLOURS[5], ms=6, label="diverged")
            if row == count - 1:
                panel.set_xlabel(names[column])
            if column == 0:
                panel.set_ylabel(names[row + 1])
    if diverged.any():
        panels[0, 0].legend(**ABOVE)
    if len(shown) < len(every):
        panels[0, 0].figure.suptitle(
            f"the first {MOST} of {len(every)} scalars; choose with sites=[...]", fontsize="small"
        )
    return panels


def rootogram(check: PredictiveCheck, ax: AxesLike = None) -> Panel:
    """Draw how often each count occurs, hanging from how often the model expects it.

    Heights are square roots of frequencies, so that rare counts show too: a bar that ends above
    zero stands for a count that is too rare in the data, one below zero for one that is too
    frequent. The band holds 90 % of replicated data sets (Kleiber and Zeileis 2016,
    arXiv:1605.01311).

    Args:
        check: the result of `post.check_predictive()` of a model of counts.
        ax: matplotlib axes.

    Raises:
        ValueError: for targets that are no counts.
    """
    observed, replicated = np.asarray(check.observed), np.asarray(check.replicated)
    if check.target.kind != "count":
        raise ValueError(
            f"rootogram: the targets are of kind {check.target.kind!r}, expected counts."
        )
    panel: Panel = axes_for(ax, 1)[0]
    sets = replicated.reshape(len(replicated), -1)
    # counts of replicated data sets that hardly ever occur are left out
    top = int(max(observed.max(), np.quantile(sets, 0.999)))
    counts = np.arange(top + 1)
    seen = np.sqrt((observed.ravel()[:, None] == counts).sum(0))
    each = np.stack([(one[:, None] == counts).sum(0) for one in sets])
    expected = np.sqrt(each.mean(0))
    low, high = np.quantile(np.sqrt(each), [0.05, 0.95], axis=0)
    panel.bar(
        counts, seen, bottom=expected - seen, width=0.8, color=COLOURS[0], alpha=0.7, label="data"
    )
    panel.fill_between(
        counts, expected - high, expected - low, color=GREY, alpha=0.35, lw=0, step="mid",
        label="90 % of replicated data",
    )  # fmt: skip
    panel.plot(counts, expected, "o-", color=COLOURS[5], ms=3, lw=1.2, label="expected")
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set(xlabel=check.target.names[0], ylabel="root of the frequency")
    panel.legend(**ABOVE)
    return panel


def dependence(information: DataFrame, ax: AxesLike = None) -> Panel:
    """Draw how much columns of a table tell about each other.

    Shades are sqrt(1 - exp(-2 I)) of the mutual information I, between 0 and 1: two normal numbers
    with that correlation have as much of it. Linfoot (1957).

    Args:
        information: mutual information by pairs of columns in nats, as `post.dependence()` of a
            circuit gives it.
        ax: matplotlib axes; by default new ones.

    Raises:
        ValueError: for a table whose rows are not its columns.

    Example:
        >>> import pandas as pd
        >>> I = pd.DataFrame([[1.0, 0.3], [0.3, 1.0]], ["x", "y"], ["x", "y"])
        >>> dependence(I).get_title()
        'what columns tell about each other'
    """
    names = [str(name) for name in information.columns]
    if names != [str(name) for name in information.index]:
        raise ValueError(
            f"dependence: got rows {list(information.index)[:5]} and columns {names[:5]}, expected "
            "the same names, as post.dependence() has."
        )
    count = len(names)
    if ax is None:
        ax = new_axes(1, 1, (2.2 + 0.5 * count, 1.4 + 0.5 * count))
    (panel,) = axes_for(ax, 1)
    shades = np.sqrt(-np.expm1(-2 * np.maximum(information.to_numpy(float), 0)))
    np.fill_diagonal(shades, np.nan)
    image = panel.imshow(shades, vmin=0, vmax=1, cmap="Blues")
    panel.set_xticks(range(count), names, rotation=45, ha="right")
    panel.set_yticks(range(count), names)
    for row, column in zip(*np.nonzero(~np.isnan(shades)), strict=True):
        if count <= MOST_WRITTEN:
            value = shades[row, column]
            colour = "white" if value > 0.6 else "#333333"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    panel.figure.colorbar(image, ax=panel, label="as a correlation")
    panel.set_title("what columns tell about each other")
    return panel
