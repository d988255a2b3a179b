"""Plots of how a posterior was computed: energies, effective draws, weights, training, prior."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.checks.loo import LeaveOneOut
from bayesdl.plots.axes import ABOVE, BLUE, COLOURS, GREY, Panel, axes_for
from bayesdl.plots.chains import moving_scalars, panels_of, scalars_of
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.hypothesis import prior_draws
from bayesdl.typing import AxesLike

MOST_LINES = 6  # scalars of one picture of effective draws
STEPS = 12  # numbers of draws at which effective draws are counted
# effective draws that means and tails need (Vehtari et al. 2021)
ENOUGH = 400


def energy(posterior: AbstractPosterior, ax: AxesLike = None) -> Panel:
    """Draw the energies of Hamiltonian draws, and how far they move from one draw to the next.

    Where the moves are much narrower than the energies, tails are explored slowly: the fraction
    BFMI of a chain is then below 0.3 (Betancourt 2016, arXiv:1604.00695).

    Args:
        posterior: the posterior, with draws of `NUTS` or `HMC`.
        ax: matplotlib axes.

    Raises:
        ValueError: for a posterior without energies.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> engine = bdl.NUTS(num_warmup=50, num_samples=50, num_chains=2)
        >>> post = bdl.fit(bdl.BNN(hidden=()), x[:, None], x, engine=engine, progress=False)
        >>> energy(post).get_xlabel()
        'energy, less its mean'
    """
    from arviz_stats.base.array import array_stats

    energies: Any = posterior.raw.groups().get("sample_stats", {}).get("energy")
    if energies is None:
        raise ValueError(f"{posterior!r} has no energies: fit with bdl.NUTS() or bdl.HMC().")
    energies = np.asarray(energies, np.float64)
    (panel,) = axes_for(ax, 1)
    values = (energies - energies.mean(), np.diff(energies, axis=1))
    edges = np.histogram_bin_edges(np.concatenate([one.ravel() for one in values]), 40)
    names = ("energies", "moves from draw to draw")
    for one, name, colour in zip(values, names, (COLOURS[0], COLOURS[5]), strict=True):
        panel.hist(one.ravel(), edges, density=True, alpha=0.5, color=colour, label=name)
    fractions = array_stats.bfmi(energies, chain_axis=0, draw_axis=1)
    panel.set(xlabel="energy, less its mean", ylabel="density", yticks=[])
    _note(panel, "BFMI of the chains\n" + "\n".join(f"{one:.2f}" for one in fractions[:8]), 0.95)
    panel.legend(**ABOVE)
    return panel


def ess(posterior: AbstractPosterior, sites: list[str] | None = None, ax: AxesLike = None) -> Panel:
    """Draw effective draws against draws made: lines that level off say that chains are stuck.

    Lines are effective draws of the bulk, dashed ones of the tails.

    Args:
        posterior: the posterior, with draws of chains.
        sites: the names of the sites, as for `plots.trace`; by default the scalars with the fewest
            effective draws.
        ax: matplotlib axes.

    Raises:
        ValueError: for unknown sites, or a posterior without chains.
    """
    from arviz_stats.base.array import array_stats

    if posterior.raw.independent_draws:
        raise ValueError(f"{posterior!r} has no chains: its draws are independent.")
    (panel,) = axes_for(ax, 1)
    every = {
        name: np.asarray(v, np.float64) for name, v in moving_scalars(posterior, sites).items()
    }
    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    bulk = {
        name: float(np.asarray(array_stats.ess(v, method="bulk", **axes)))
        for name, v in every.items()
    }
    shown = sorted(every, key=lambda name: bulk[name])[:MOST_LINES]
    chains, draws = every[shown[0]].shape
    lengths = np.unique(np.linspace(max(draws // STEPS, 4), draws, STEPS).astype(int))
    for name, colour in zip(shown, COLOURS, strict=False):
        for method, line in (("bulk", "-"), ("tail", "--")):
            extra: dict[str, Any] = {"prob": 0.9} if method == "tail" else {}
            found = [
                array_stats.ess(every[name][:, :length], method=method, **axes, **extra)
                for length in lengths
            ]
            label = name if method == "bulk" else None
            panel.plot(lengths * chains, found, line, color=colour, lw=1.3, label=label)
    panel.axhline(ENOUGH, color=GREY, lw=0.8, ls=":")
    panel.set(
        xlabel="draws of all chains", ylabel="effective draws", xlim=(0, None), ylim=(0, None)
    )
    if len(shown) < len(every):
        _note(panel, f"the {MOST_LINES} of {len(every)} scalars with the fewest", 0.03)
    panel.legend(**ABOVE)
    return panel


def _note(panel: Panel, text: str, height: float) -> None:
    """Write a note at the right side of a panel."""
    panel.text(
        0.98, height, text, transform=panel.transAxes, ha="right", color=GREY, fontsize="small",
        va="top" if height > 0.5 else "bottom",
    )  # fmt: skip


def pareto_k(loo: LeaveOneOut, ax: AxesLike = None) -> Panel:
    """Draw the Pareto k of each row left out, and the threshold above which its term is a guess.

    Args:
        loo: the result of `post.loo()`.
        ax: matplotlib axes.
    """
    (panel,) = axes_for(ax, 1)
    k = np.where(np.isfinite(loo.pareto_k), loo.pareto_k, np.nan)
    rows, bad = np.arange(len(k)), loo.pareto_k > loo.threshold
    panel.plot(rows[~bad], k[~bad], ".", color=BLUE, ms=5)
    panel.plot(rows[bad], k[bad], "o", color=COLOURS[5], ms=5)
    for row in rows[bad][np.argsort(-k[bad])][:10]:
        panel.annotate(
            str(row), (row, k[row]), textcoords="offset points", xytext=(4, 3), fontsize="x-small"
        )
    panel.axhline(loo.threshold, color=GREY, lw=1, ls="--", label=f"threshold {loo.threshold:.2f}")
    panel.set(xlabel="row", ylabel="Pareto k")
    panel.legend(**ABOVE)
    return panel


def training(posterior: AbstractPosterior, ax: AxesLike = None) -> Panel:
    """Draw the objective along an optimisation, with its mean over a fiftieth of the steps.

    Args:
        posterior: the posterior of an engine that optimises, such as `VI`.
        ax: matplotlib axes.

    Raises:
        ValueError: for a posterior that was not optimised step by step.
    """
    losses = posterior.raw.arrays().get("losses")
    if losses is None or not len(losses):
        raise ValueError(f"{posterior!r} has no objective along its steps to draw.")
    values = -np.asarray(losses, np.float64).ravel()
    (panel,) = axes_for(ax, 1)
    steps, size = np.arange(1, len(values) + 1), max(1, len(values) // 50)
    whole = len(values) // size * size
    means = values[:whole].reshape(-1, size).mean(1)
    some = np.unique(np.linspace(0, len(values) - 1, 5000).astype(int))
    panel.plot(steps[some], values[some], color=BLUE, lw=0.4, alpha=0.4, label="each step")
    panel.plot(
        steps[:whole].reshape(-1, size).mean(1), means, color=COLOURS[5], lw=1.6, label="mean"
    )
    # the first steps are lower by orders of magnitude, and would hide all others
    low, high = np.quantile(values[len(values) // 10 :], [0.001, 0.999])
    margin = 0.1 * max(high - low, 1e-12)
    panel.set(xlabel="step", ylabel="objective", ylim=(low - margin, high + margin))
    panel.legend(**ABOVE)
    return panel


def prior_posterior(
    posterior: AbstractPosterior, sites: list[str] | None = None, axes: AxesLike = None
) -> np.ndarray:
    """Draw the density of each scalar under the posterior and under the prior.

    Where the two are one, the data have said nothing of it.

    Args:
        posterior: the posterior, with draws.
        sites: the names of latent sites; by default those that the data identify.
        axes: matplotlib axes, one per scalar; by default new ones for up to 12 scalars.

    Returns:
        The array of axes.

    Raises:
        ValueError: for unknown sites, too few axes, a posterior without draws, or an improper
            prior.
    """
    from arviz_stats.base.array import array_stats

    from bayesdl.checks.prior import refuse_unnormalised

    refuse_unnormalised(posterior.problem)
    latents = [site for site in posterior.samples if site in posterior.problem.latents]
    chosen = sites or [site for site in latents if posterior.model.identified(site)] or latents
    scalars, axes = panels_of(posterior, chosen, axes)
    # a proper prior has draws
    drawn: Any = prior_draws(posterior)
    known = scalars_of(posterior, {site: drawn[site] for site in chosen})
    for panel, (name, values) in zip(axes, scalars.items(), strict=False):
        values, before = values.ravel().astype(np.float64), known[name].ravel().astype(np.float64)
        grid, density, _ = array_stats.kde(values)
        panel.plot(grid, density, color=BLUE, lw=1.5, label="posterior")
        # as much of the prior as there is beside the posterior
        low, high = np.quantile(values, [0.001, 0.999])
        width = 2 * max(high - low, 1e-12)
        inside = before[(before > low - width) & (before < high + width)]
        if len(inside) > 20 and np.ptp(inside) > 0:
            grid, density, _ = array_stats.kde(inside)
            density = density * len(inside) / len(before)
            panel.plot(grid, density, color=GREY, lw=1.2, ls="--", label="prior")
        panel.set(xlabel=name, ylabel="density", ylim=(0, None), yticks=[])
    handles = max(
        (panel.get_legend_handles_labels() for panel in axes), key=lambda one: len(one[0])
    )
    axes[0].legend(*handles, **ABOVE)
    return axes
