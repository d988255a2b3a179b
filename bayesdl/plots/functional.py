"""Pictures of functions of a prior beside those of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from bayesdl.plots.axes import BLUE, GREY, axes_for, ink
from bayesdl.typing import AxesLike

# functions that are shown on a panel
SHOWN = 8
# pairs of points whose correlations are shown
PAIRS = 2000


class FunctionsOfBothSides(Protocol):
    """Functions of a prior and of a target at the same points, as `bdl.PriorReport` holds them.

    Attributes:
        points: the points, shape (points, ...).
        network: functions of the network, shape (functions, values).
        target: functions of the target, shape (functions, values).
        quantiles: quantiles of network and target, shape (2, levels, values).
    """

    # properties, as the fields of a frozen report are read-only

    @property
    def points(self) -> np.ndarray: ...

    @property
    def network(self) -> np.ndarray: ...

    @property
    def target(self) -> np.ndarray: ...

    @property
    def quantiles(self) -> np.ndarray: ...


if TYPE_CHECKING:
    Report = FunctionsOfBothSides
else:
    Report = object


def plot_report(report: Report, before: Report | None, axes: AxesLike) -> np.ndarray:
    """Plot functions against a single input; otherwise quantiles and correlations of both sides.

    Args:
        report: the report of the prior.
        before: the report of an earlier prior, or None.
        axes: matplotlib axes, one per panel.

    Returns:
        The axes.

    Raises:
        ValueError: for two reports at different points.
    """
    if before is not None and not np.array_equal(before.points, report.points):
        raise ValueError(
            "before: the two reports are at different points; make both with the same inputs and "
            "num_points."
        )
    one_input = report.points.ndim == 2 and report.points.shape[1] == 1
    if one_input and report.network.shape[1] == len(report.points):
        return _plot_curves(report, before, axes)
    return _plot_scatters(report, before, axes)


def _plot_curves(report: Report, before: Report | None, axes: AxesLike) -> np.ndarray:
    """Plot a panel of functions for each side, with a common scale."""
    sides = {} if before is None else {"before": before.network}
    sides |= {"network" if before is None else "matched": report.network, "target": report.target}
    panels = axes_for(axes, len(sides))
    x, limit = report.points[:, 0], 1.2 * max(np.quantile(np.abs(f), 0.99) for f in sides.values())
    for panel, (name, functions) in zip(panels, sides.items(), strict=True):
        low, high = np.quantile(functions, [0.05, 0.95], axis=0)
        color = GREY if name == "before" else BLUE
        panel.fill_between(x, low, high, color=color, alpha=0.18, lw=0, label="90 % of functions")
        panel.plot(x, functions[:SHOWN].T, color=color, lw=0.9)
        panel.set(title=name, xlabel="x", ylim=(-limit, limit))
        panel.legend(frameon=False, fontsize="small", loc="upper right")
    panels[0].set_ylabel("f(x)")
    return panels


def _plot_scatters(report: Report, before: Report | None, axes: AxesLike) -> np.ndarray:
    """Plot quantiles at points, and correlations of pairs of points, of both sides."""
    panels = axes_for(axes, 2)
    sides = [] if before is None else [("before", before, GREY)]
    sides += [("network" if before is None else "matched", report, BLUE)]
    for name, one, color in sides:
        style = {"ms": 3, "color": color, "alpha": 0.5, "label": name}
        panels[0].plot(one.quantiles[1].ravel(), one.quantiles[0].ravel(), ".", **style)
        pairs = np.random.default_rng(0).integers(0, one.target.shape[1], (2, PAIRS))
        theirs, ours = (np.corrcoef(f.T)[pairs[0], pairs[1]] for f in (one.target, one.network))
        panels[1].plot(theirs, ours, ".", **style)
    titles = ("quantiles at points, 5 to 95 %", "correlations between points")
    for panel, title in zip(panels, titles, strict=True):
        low, high = panel.get_xlim()
        panel.plot([low, high], [low, high], color=ink(), lw=0.8)
        panel.set(title=title, xlabel="target", ylabel="network")
        panel.legend(frameon=False, fontsize="small")
    return panels
