"""Parameters by name, with their intervals, of one fit or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayesdl.model.names import entry_labels, site_dims
from bayesdl.plots.axes import COLOURS, Panel, new_axes
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.typing import AxesLike

MOST = 60  # rows of one picture


def forest(
    posteriors: AbstractPosterior | Mapping[str, AbstractPosterior],
    sites: list[str] | None = None,
    ax: AxesLike = None,
    ref: float | None = 0.0,
) -> Panel:
    """Draw the mean of each parameter with its 50 and 90 % intervals, a row each.

    Args:
        posteriors: a posterior, or several by the names that the legend shows.
        sites: the names of the sites; by default those that summaries show, the smallest first.
        ax: matplotlib axes; by default new ones.
        ref: where a line is drawn; None for none.

    Raises:
        ValueError: for unknown sites, or posteriors without draws.

    Example:
        >>> import bayesdl as bdl
        >>> df = {"x": np.arange(8.0), "y": 2 * np.arange(8.0) + np.tile([0.1, -0.1], 4)}
        >>> post = bdl.fit(bdl.Formula("y ~ x"), df, engine=bdl.Laplace(), progress=False)
        >>> [label.get_text() for label in forest(post, ["x", "sigma"]).get_yticklabels()]
        ['x', 'sigma']
    """
    several = dict(posteriors) if isinstance(posteriors, Mapping) else {"": posteriors}
    drawn = {name: _entries(one, sites) for name, one in several.items()}
    labels = list(dict.fromkeys(label for entries in drawn.values() for label in entries))
    shown = labels[:MOST]
    if ax is None:
        size = (6.4, 1.0 + 0.28 * len(shown) * max(1.0, 0.6 * len(several)))
        ax = new_axes(1, 1, size)[0, 0]
    panel: Panel = ax  # pyright: ignore
    if ref is not None:
        panel.axvline(ref, color="0.5", lw=0.8, ls=":")
    for k, (name, entries) in enumerate(drawn.items()):
        shift = 0.22 * (k - (len(drawn) - 1) / 2)
        at = [row + shift for row, label in enumerate(shown) if label in entries]
        values = [entries[label] for label in shown if label in entries]
        colour = COLOURS[k % len(COLOURS)]
        for tail, width in ((0.05, 1.2), (0.25, 3.2)):
            bounds = [np.quantile(one, [tail, 1 - tail]) for one in values]
            lows, highs = np.transpose(bounds)
            panel.hlines(at, lows, highs, color=colour, lw=width)
        panel.plot([one.mean() for one in values], at, "o", color=colour, ms=4, label=name or None)
    panel.set_yticks(range(len(shown)), shown)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlabel("mean, 50 and 90 % intervals")
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)
    if len(several) > 1:
        panel.legend(frameon=False, fontsize="small")
    if len(shown) < len(labels):
        panel.set_title(
            f"the first {MOST} of {len(labels)}; choose with sites=[...]", fontsize="small"
        )
    return panel


def _entries(posterior: AbstractPosterior, sites: list[str] | None) -> dict[str, np.ndarray]:
    """Return the draws of each entry by its label."""
    samples = posterior.samples
    if not samples:
        raise ValueError(
            f"{posterior!r} has no draws of parameters: it predicts in closed form. Use "
            "plots.prediction."
        )
    unknown = [site for site in sites or [] if site not in samples]
    if unknown:
        raise ValueError(f"No site {unknown[0]!r}: expected some of {list(samples)}.")
    names = sites or [site for site in samples if posterior.model.shows(site)] or list(samples)
    names = names if sites else sorted(names, key=lambda site: samples[site][0, 0].size)
    dims = site_dims(posterior.problem, posterior.names)
    found = {}
    for site in names:
        values = samples[site]
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        labels = entry_labels(site, values.shape[2:], dims, posterior.names, ", ")
        found |= {label: flat[:, j] for j, label in enumerate(labels)}
    return found
