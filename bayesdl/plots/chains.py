"""Plots of chains and of posterior draws."""

from __future__ import annotations

import math

import numpy as np

from bayesdl.model.names import entry_labels, site_dims
from bayesdl.plots.axes import ABOVE, BLUE, GREY, ink, new_axes
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import AxesLike

MAX_PANELS = 12
# the name under which values of the function stand in for weights
FUNCTION = "E[y | x]"
FUNCTION_ROWS = 3


def trace(
    posterior: AbstractPosterior, sites: list[str] | None = None, axes: AxesLike = None
) -> np.ndarray:
    """Draw each scalar in the order of its draws, a line per chain.

    Chains that agree look like one band of noise.

    Args:
        posterior: the posterior, with draws of chains.
        sites: the names of the sites; by default those that the data identify. Where there are
            others (weights of a network), the function values E[y | x] at three training rows, in
            the model's units, are drawn for them.
        axes: matplotlib axes, one per scalar; by default new ones for up to 12 scalars.

    Returns:
        The array of axes.

    Raises:
        ValueError: for unknown sites, too few axes, or a posterior without draws in sequence.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> engine = bdl.NUTS(num_warmup=50, num_samples=50, num_chains=2)
        >>> model, y = bdl.BNN(hidden=()), x + np.sin(9 * x)
        >>> post = bdl.fit(model, x[:, None], y, engine=engine, progress=False)
        >>> len(trace(post, ["sigma"])[0].lines)
        2
    """
    if posterior.raw.independent_draws:
        raise ValueError(
            f"{posterior!r} has no chains, so there is nothing to trace: use plots.posterior."
        )
    scalars, axes = panels_of(posterior, sites, axes)
    for panel, (name, values) in zip(axes, scalars.items(), strict=False):
        for chain, line in enumerate(values):
            panel.plot(line, lw=0.6, alpha=0.8, label=f"chain {chain}")
        panel.set(xlabel="draw", ylabel=name)
    _legend(axes)
    return axes


def posterior(
    posterior: AbstractPosterior, sites: list[str] | None = None, axes: AxesLike = None
) -> np.ndarray:
    """Draw the marginal density of each scalar with its mean and central 90 % interval.

    Whole numbers have a histogram.

    Args:
        posterior: the posterior, with draws, or an approximation.
        sites: the names of the sites; by default as in `trace`.
        axes: matplotlib axes, one per scalar; by default new ones for up to 12 scalars.

    Returns:
        The array of axes.

    Raises:
        ValueError: for unknown sites, too few axes, or a posterior without draws.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> model, y = bdl.BNN(hidden=()), x + np.sin(9 * x)
        >>> post = bdl.fit(model, x[:, None], y, engine=bdl.Laplace(), progress=False)
        >>> posterior(post, ["layer0.weight"])[0].get_xlabel()
        'layer0.weight[0,0]'
    """
    from arviz_stats.base.array import array_stats

    scalars, axes = panels_of(posterior, sites, axes)
    for panel, (name, values) in zip(axes, scalars.items(), strict=False):
        values = values.ravel()
        low, high = np.quantile(values, [0.05, 0.95])
        if values.dtype.kind in "iub":
            panel.hist(
                values,
                bins=np.arange(values.min(), values.max() + 2) - 0.5,
                density=True,
                color=BLUE,
                alpha=0.5,
            )
        elif values.std() > 0:
            grid, density, _ = array_stats.kde(values.astype(np.float64))
            panel.plot(grid, density, color=BLUE, lw=1.5)
            inside = (low <= grid) & (grid <= high)
            panel.fill_between(
                grid[inside], density[inside], color=BLUE, alpha=0.25, lw=0, label="90 % interval"
            )
        panel.axvline(values.mean(), color=ink(), lw=1, label="mean")
        panel.set(xlabel=name, ylabel="density", ylim=(0, None), yticks=[])
    _legend(axes)
    return axes


def panels_of(
    posterior: AbstractPosterior, sites: list[str] | None, axes: AxesLike
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the scalars by name, shape (chain, draw), and an axes for each.

    Sites of few entries come first. Entries that are the same in all draws, such as the corner of
    a Cholesky factor of correlations, are left out.
    """
    every = scalars_of(posterior, _chosen(posterior, sites))
    scalars = _moving(every, sites)
    if axes is not None:
        axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(axes) < len(scalars):
            raise ValueError(
                f"axes: got {len(axes)} for the {len(scalars)} scalars {list(scalars)[:5]}: "
                "expected one each."
            )
        return scalars, axes
    shown = dict(list(scalars.items())[:MAX_PANELS])
    axes = _grid(len(shown))
    # said on the picture, so that nobody takes a part for the whole
    notes = []
    if len(shown) < len(scalars):
        notes.append(f"the first {MAX_PANELS} of {len(scalars)} scalars; choose with sites=[...]")
    if len(scalars) < len(every):
        notes.append(f"{len(every) - len(scalars)} entries that never change are left out")
    if notes:
        axes[0].figure.suptitle("; ".join(notes), fontsize="small")
    return shown, axes


def moving_scalars(posterior: AbstractPosterior, sites: list[str] | None) -> dict[str, np.ndarray]:
    """Return the scalars by name, shape (chain, draw), without those that never change.

    Where all stand still, or where they were asked for, that is what there is to see.
    """
    return _moving(scalars_of(posterior, _chosen(posterior, sites)), sites)


def _moving(every: dict[str, np.ndarray], sites: list[str] | None) -> dict[str, np.ndarray]:
    """Return those of the scalars that `moving_scalars` keeps."""
    moving = {name: values for name, values in every.items() if np.ptp(values) > 0}
    return every if sites else moving or every


def ranks(
    posterior: AbstractPosterior, sites: list[str] | None = None, axes: AxesLike = None
) -> np.ndarray:
    """Draw for each scalar how the ranks of each chain's draws among all draws are spread.

    Chains that agree have level bars (Vehtari et al. 2021, arXiv:1903.08008).

    Args:
        posterior: the posterior, with draws of chains.
        sites: the names of the sites, as for `trace`.
        axes: matplotlib axes, one per scalar; by default new ones for up to 12 scalars.

    Returns:
        The array of axes.

    Raises:
        ValueError: for unknown sites, too few axes, or a posterior without chains.
    """
    if posterior.raw.independent_draws:
        raise ValueError(f"{posterior!r} has no chains to compare: use plots.posterior.")
    from scipy.stats import rankdata

    scalars, axes = panels_of(posterior, sites, axes)
    for panel, (name, values) in zip(axes, scalars.items(), strict=False):
        # a bar of 20 draws or more is level but for noise
        bins = int(np.clip(values.shape[1] // 20, 4, 20))
        edges = np.linspace(0, values.size, bins + 1)
        placed = rankdata(values, method="average").reshape(values.shape) - 0.5
        level = values.shape[1] / bins
        for chain, one in enumerate(placed):
            heights = np.histogram(one, edges)[0] / level
            panel.stairs(heights, edges / values.size, lw=1.2, label=f"chain {chain}")
        panel.axhline(1, color=GREY, lw=0.8, ls=":")
        panel.set(xlabel="rank / draws", ylabel=f"{name}\nfrequency / level", xlim=(0, 1))
        panel.set_ylim(bottom=0)
    _legend(axes)
    return axes


def _legend(axes: np.ndarray) -> None:
    """Explain the lines above the panel that has most of them: some panels lack an interval."""
    most = max(axes, key=lambda panel: len(panel.get_legend_handles_labels()[0]))
    handles, labels = most.get_legend_handles_labels()
    axes[0].legend(handles, labels, **ABOVE)


def _chosen(posterior: AbstractPosterior, sites: list[str] | None) -> dict[str, np.ndarray]:
    """Return draws by site, shape (chain, draw, ...).

    Raises:
        ValueError: for a posterior without draws, or unknown sites.
    """
    samples = posterior.samples
    if not samples:
        raise ValueError(
            f"{posterior!r} has no draws of parameters: it predicts in closed form. Use "
            "plots.prediction."
        )
    unknown = [site for site in sites or [] if site not in samples and site != FUNCTION]
    if unknown:
        raise ValueError(f"No site {unknown[0]!r}: expected some of {[*samples, FUNCTION]}.")
    chosen = sites or [site for site in samples if posterior.model.shows(site)]
    if not sites and not all(map(posterior.model.identified, samples)):
        chosen = [*chosen, FUNCTION]
    # scalars first, and of sites alike in size the first named
    size = {site: samples[site][0, 0].size for site in chosen if site != FUNCTION}
    order = list(size) if sites else sorted(size, key=lambda site: size[site])
    found = {site: samples[site] for site in order}
    values = posterior.function_values(FUNCTION_ROWS) if FUNCTION in chosen else None
    return found if values is None else found | {FUNCTION: values}


def scalars_of(posterior: AbstractPosterior, sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    scalars, dims = {}, site_dims(posterior.problem, posterior.names)
    for name, values in sites.items():
        labels = entry_labels(name, values.shape[2:], dims, posterior.names)
        flat = values.reshape(*values.shape[:2], -1)
        scalars |= {label: flat[..., j] for j, label in enumerate(labels)}
    return scalars


def _grid(panels: int) -> np.ndarray:
    columns = 2 if panels == 4 else min(panels, 3)
    rows = math.ceil(panels / columns)
    axes = new_axes(rows, columns, (1.2 + 3.4 * columns, 0.6 + 2.2 * rows))
    for panel in axes.ravel()[panels:]:
        panel.remove()
    return axes.ravel()[:panels]
