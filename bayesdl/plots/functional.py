"""Pictures of functions of a prior beside those of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesdl.plots.axes import BLUE, GREY, axes_for

if TYPE_CHECKING:
    from bayesdl.functional.report import PriorReport

SHOWN = 8  # functions
PAIRS = 2000  # of points, whose correlations are shown


def plot_report(report: PriorReport, before: PriorReport | None, axes: Any) -> Any:
    """Functions against the input where there is one; otherwise quantiles and correlations of both sides.

    Args:
        report: of the prior.
        before: of an earlier prior, or None.
        axes: matplotlib axes, one per panel.
    """
    if before is not None and not np.array_equal(before.points, report.points):
        raise ValueError(
            "before: the two reports are at different points; make both with the same inputs and num_points."
        )
    if (
        report.points.ndim == 2
        and report.points.shape[1] == 1
        and report.network.shape[1] == len(report.points)
    ):
        return plot_curves(report, before, axes)
    return plot_scatters(report, before, axes)


def plot_curves(report: PriorReport, before: PriorReport | None, axes: Any) -> Any:
    """A panel of functions for each side, on common axes."""
    sides = {} if before is None else {"before": before.network}
    sides |= {"network" if before is None else "matched": report.network, "target": report.target}
    axes = axes_for(axes, len(sides))
    x, limit = report.points[:, 0], 1.2 * max(np.quantile(np.abs(f), 0.99) for f in sides.values())
    for panel, (name, functions) in zip(axes, sides.items(), strict=True):
        low, high = np.quantile(functions, [0.05, 0.95], axis=0)
        color = GREY if name == "before" else BLUE
        panel.fill_between(x, low, high, color=color, alpha=0.18, lw=0, label="90 % of functions")
        panel.plot(x, functions[:SHOWN].T, color=color, lw=0.9)
        panel.set(title=name, xlabel="x", ylim=(-limit, limit))
        panel.legend(frameon=False, fontsize="small", loc="upper right")
    axes[0].set_ylabel("f(x)")
    return axes


def plot_scatters(report: PriorReport, before: PriorReport | None, axes: Any) -> Any:
    """Quantiles at each point, and correlations of pairs of points, of the network against the target."""
    axes = axes_for(axes, 2)
    sides = [] if before is None else [("before", before, GREY)]
    sides += [("network" if before is None else "matched", report, BLUE)]
    for name, one, color in sides:
        axes[0].plot(
            one.quantiles[1].ravel(),
            one.quantiles[0].ravel(),
            ".",
            ms=3,
            color=color,
            alpha=0.5,
            label=name,
        )
        pairs = np.random.default_rng(0).integers(0, one.target.shape[1], (2, PAIRS))
        theirs, ours = (np.corrcoef(f.T)[pairs[0], pairs[1]] for f in (one.target, one.network))
        axes[1].plot(theirs, ours, ".", ms=3, color=color, alpha=0.5, label=name)
    for panel, what in zip(
        axes, ("quantiles at points, 5 to 95 %", "correlations between points"), strict=True
    ):
        low, high = panel.get_xlim()
        panel.plot([low, high], [low, high], color="black", lw=0.8)
        panel.set(title=what, xlabel="target", ylabel="network")
        panel.legend(frameon=False, fontsize="small")
    return axes
