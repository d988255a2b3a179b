"""Plots of predictive checks, prior predictive draws and simulation-based calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Real, Shaped

from bayesdl.checks.calibration import Calibration, transform
from bayesdl.checks.predictive import PredictiveCheck
from bayesdl.checks.prior import PriorPredictive
from bayesdl.data.target import Target
from bayesdl.plots.axes import ABOVE, BLUE, GREY, Panel, abscissa, axes_for, columns_of, ink
from bayesdl.typing import AxesLike, ColumnLike

# data sets drawn as lines
CURVES = 50
FUNCTIONS = 15
# counts, from which on they are drawn as numbers
MANY = 40
BINS = 30
GRID = 256


def predictive_check(check: PredictiveCheck, ax: AxesLike = None) -> Any:
    """Draw the observed targets against replicated ones.

    Numbers have densities, counts and classes have shares.

    Args:
        check: the result of `post.check_predictive()`.
        ax: matplotlib axes, one per target column.

    Returns:
        The axes; an array of them where there are several target columns.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 30)
        >>> model, engine = bdl.BNN(hidden=()), bdl.Laplace()
        >>> post = bdl.fit(model, x[:, None], x + np.sin(40 * x), engine=engine, progress=False)
        >>> predictive_check(post.check_predictive()).get_xlabel()
        'y'
    """
    return _data_sets(check.target, check.replicated, check.observed, ax, "replicated data sets")


def prior_predictive(
    prior: PriorPredictive, x: ColumnLike | None = None, ax: AxesLike = None
) -> Any:
    """Draw what the prior makes of the data's rows.

    Numbers against x: central 50 and 90 % intervals of targets, and some functions. Without an x,
    and for classes: the densities, or shares, of some data sets.

    Args:
        prior: the result of `bdl.prior_predictive`.
        x: what to draw against, shape (rows,); by default the input column where there is one.
        ax: matplotlib axes, one per target column.

    Returns:
        The axes; an array of them where there are several target columns.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 30)
        >>> prior_predictive(bdl.prior_predictive(bdl.GP(), x[:, None], np.sin(3 * x))).get_ylabel()
        'y'
    """
    against = prior.x if x is None else x
    if against is None or prior.target.classes is not None:
        observed = prior.observed
        return _data_sets(prior.target, prior.y, observed, ax, "data sets from the prior")
    targets = columns_of(prior.y, skip=1)
    functions = None if prior.function is None else columns_of(prior.function[:FUNCTIONS], skip=1)
    axes = axes_for(ax, targets.shape[-1])
    for j, panel in enumerate(axes):
        where, order, label, _ = abscissa(against, targets[0, :, j])
        for level, shade in ((0.9, 0.18), (0.5, 0.35)):
            low, high = np.quantile(
                targets[:, order, j], [(1 - level) / 2, (1 + level) / 2], axis=0
            )
            name = f"{100 * level:.0f} % interval of y"
            panel.fill_between(where, low, high, color=BLUE, alpha=shade, lw=0, label=name)
        if functions is not None:
            lines = panel.plot(where, functions[:, order, j].T, color=ink(), lw=0.6, alpha=0.6)
            lines[0].set_label("E[y | x]")
        if prior.observed is not None:
            data = columns_of(prior.observed)
            panel.plot(where, data[order, j], "o", color=ink(), ms=3, label="observed")
        panel.set(xlabel=label if x is not None else prior.x_name, ylabel=prior.target.names[j])
        panel.legend(**ABOVE)
    return axes if len(axes) > 1 else axes[0]


def _data_sets(
    target: Target,
    sets: Shaped[np.ndarray, "sets *y"],
    y: Shaped[np.ndarray, "*y"] | None,
    ax: AxesLike,
    name: str,
) -> Any:
    """Densities or shares of simulated data sets, and of the observed one."""
    width = len(target.names)  # a program's site has one name, and all its entries go together
    many = sets.reshape(len(sets), -1, width)
    one = None if y is None else y.reshape(-1, width)
    axes = axes_for(ax, width)
    for j, panel in enumerate(axes):
        observed = None if one is None else one[:, j]
        if target.classes is not None:
            _shares(panel, np.array(target.classes), many[..., j], observed, name)
        elif target.kind == "count" and (counts := _counted(many[..., j], observed)) is not None:
            _shares(panel, counts, many[..., j], observed, name)
        elif target.kind == "count":
            _binned(panel, many[..., j], observed, name)
        else:
            _densities(panel, many[:CURVES, :, j], observed, name)
        panel.set(xlabel=target.names[j])
        panel.legend(**ABOVE)
    return axes if width > 1 else axes[0]


def _counted(sets: np.ndarray, y: np.ndarray | None) -> np.ndarray | None:
    """Return the counts to draw, or None for many.

    They go from the smallest to the largest observed, and to nearly the largest simulated.
    """
    low, high = sets.min(), np.quantile(sets, 0.975, method="higher")
    low, high = (low, high) if y is None else (min(low, y.min()), max(high, y.max()))
    return np.arange(low, high + 1) if high - low < MANY else None


def _shares(
    panel: Panel,
    values: np.ndarray,
    sets: Shaped[np.ndarray, "sets rows"],
    y: np.ndarray | None,
    name: str,
) -> None:
    """Draw the share of each value: central 90 % over data sets, and observed."""
    each = np.stack([(sets == value).mean(1) for value in values], axis=1)
    low, high = np.quantile(each, [0.05, 0.95], axis=0)
    at = np.arange(len(values)) if values.dtype.kind not in "iuf" else values
    panel.vlines(at, low, high, color=BLUE, alpha=0.35, lw=7, label=f"90 % of {name}")
    panel.plot(at, each.mean(0), "_", color=BLUE, ms=9, label="mean")
    if y is not None:
        panel.plot(
            at,
            [(y == value).mean() for value in values],
            "o",
            color=ink(),
            ms=4,
            label="observed",
        )
    if len(values) <= 12:
        panel.set_xticks(
            at, [str(value) if values.dtype.kind not in "f" else f"{value:g}" for value in values]
        )
    panel.set(ylabel="share of rows", ylim=(0, None))


def _binned(
    panel: Panel,
    sets: Real[np.ndarray, "sets rows"],
    y: Real[np.ndarray, "rows"] | None,
    name: str,
) -> None:
    """Draw the shares of counts in bins as bars: mean and central 90 % over data sets, observed.

    The last bin holds all that is larger, so that a few large counts do not flatten the rest.
    """
    low, high = float(sets.min()), float(np.quantile(sets, 0.975))
    if y is not None:
        low, high = min(low, y.min()), max(y.max(), min(high, y.max() + 2 * np.ptp(y)))
    # counts begin at zero where they come near it
    low = 0.0 if 0 < low < 0.25 * high else low
    width = max(1, int(np.ceil((high - low + 1) / BINS)))
    edges = np.arange(low, high + 1 + width, width)
    open_at = edges[-1]
    edges = np.append(edges, edges[-1] + width)

    def share(values: np.ndarray) -> np.ndarray:
        counts, _ = np.histogram(np.minimum(values, open_at), edges)
        return counts / len(values)

    each = np.stack([share(values) for values in sets])
    bottom, top = np.quantile(each, [0.05, 0.95], axis=0)
    at = edges[:-1] + (width - 1) / 2
    panel.bar(at, each.mean(0), 0.9 * width, color=BLUE, alpha=0.25, label=f"mean of {name}")
    panel.vlines(at, bottom, top, color=BLUE, alpha=0.6, lw=1.5, label="90 % of them")
    if y is not None:
        panel.plot(at, share(y), "o", color=ink(), ms=4, label="observed")
    if (sets >= open_at).any():
        panel.annotate(
            f"{open_at:.0f} and more",
            (at[-1], 0),
            (0, -22),
            textcoords="offset points",
            ha="right",
            fontsize="x-small",
            color=GREY,
        )
    panel.set(ylabel="share of rows", ylim=(0, None), xlim=(low - 0.5, edges[-1] - 0.5))


def _densities(
    panel: Panel, sets: Real[np.ndarray, "sets rows"], y: Real[np.ndarray, "rows"] | None, name: str
) -> None:
    """Draw kernel density estimates.

    They are drawn on the range and up to the height of nearly all, so that a few do not flatten
    the rest.
    """
    low, high = np.quantile(sets, [0.005, 0.995])
    if y is not None:
        spread = y.max() - y.min()  # a model that makes far too much would otherwise hide the data
        low, high = max(low, y.min() - 2 * spread), min(high, y.max() + 2 * spread)
        low, high = min(low, y.min()), max(high, y.max())
    margin = 0.05 * (high - low)
    limits = float(low - margin), float(high + margin)
    peaks = [_draw_density(panel, values, limits, color=BLUE, lw=0.6, alpha=0.4) for values in sets]
    panel.plot([], [], color=BLUE, lw=1.2, label=name)  # the legend's line is not as faint
    top = float(np.quantile(peaks, 0.9))
    if y is not None:
        top = max(top, _draw_density(panel, y, limits, color=ink(), lw=2, label="observed"))
    panel.set(ylabel="density", ylim=(0, 1.08 * top if top > 0 else None), yticks=[], xlim=limits)


def _draw_density(
    panel: Panel, values: np.ndarray, limits: tuple[float, float], **style: Any
) -> float:
    """Draw the density and return its peak.

    Values that are all the same are a vertical line, of peak zero.
    """
    from arviz_stats.base.array import array_stats

    inside = values[(limits[0] <= values) & (values <= limits[1])].astype(np.float64)
    if len(inside) < 2 or inside.std() == 0:
        panel.axvline(values.mean(), **style)
        return 0.0
    grid, density, _ = array_stats.kde(
        inside, custom_lims=limits, bound_correction=False, grid_len=GRID
    )
    density = density * len(inside) / len(values)
    panel.plot(grid, density, **style)
    return float(density.max())


def calibration_ranks(
    result: Calibration, names: list[str] | None = None, ax: AxesLike = None
) -> Any:
    """Draw how the ranks of simulation-based calibration differ from uniform ones.

    Drawn is their distribution function less the diagonal. A line that leaves the band, which holds
    all of a uniform one with 95 % probability, says how the posterior is wrong: above zero it lies
    too high, below too low; first above and then below it is too narrow, the other way round too
    wide.

    Args:
        result: the result of `bdl.sbc`.
        names: the names of the quantities; by default the six with the smallest p-values.
        ax: matplotlib axes.

    Returns:
        The axes.

    Example:
        >>> from bayesdl.checks.calibration import judge
        >>> rng = np.random.default_rng(0)
        >>> result = judge({"z": rng.normal(size=(50, 1))}, {"z": rng.normal(size=(50, 30))}, rng)
        >>> calibration_ranks(result).get_ylabel()
        'share of ranks below, less p'
    """
    from arviz_stats.ecdf_utils import ecdf_pit

    shown = names or sorted(result.p_values, key=lambda name: result.p_values[name])[:6]
    unknown = [name for name in shown if name not in result.ranks]
    if unknown:
        raise ValueError(f"No quantity {unknown[0]!r}: expected some of {list(result.ranks)}.")
    (axes,) = axes_for(ax, 1)
    curves = {
        name: transform(result.ranks[name], result.num_draws, np.random.default_rng(0))
        for name in shown
    }
    for name, u in curves.items():
        x, ecdf, _, _ = ecdf_pit(u, 0.95, 1000)
        axes.plot(x, ecdf - x, lw=1, label=f"{name}  p = {result.p_values[name]:.2g}")
    x, _, low, high = ecdf_pit(curves[shown[0]], 0.95, 1000)
    axes.fill_between(x, low - x, high - x, color=BLUE, alpha=0.15, lw=0, label="95 % band")
    axes.axhline(0, color=GREY, lw=0.5)
    axes.set(xlabel="rank / draws, p", ylabel="share of ranks below, less p")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return axes
