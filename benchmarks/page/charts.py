"""The charts of the page, with standard errors, as SVG in docs/_static/benchmarks/."""

from __future__ import annotations

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.page.models import ENGINES
from benchmarks.page.tables import ROOT, mean_and_error, read

FOLDER = ROOT / "docs" / "_static" / "benchmarks"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 9,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bayesdl",
}


def write() -> None:
    """Write all charts."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for chart in (uci, calibration, recommend):
            figure = chart()
            path = FOLDER / f"{chart.__name__}.svg"
            figure.savefig(path, metadata={"Date": None})
            # matplotlib ends lines with spaces
            path.write_text("\n".join(map(str.rstrip, path.read_text().splitlines())) + "\n")
            plt.close(figure)


def uci() -> Figure:
    """Draw differences to MC dropout in test log-likelihood, paired over splits."""
    stored = read("uci")
    figure, panels = plt.subplots(1, len(stored["results"]), figsize=(7.2, 2.1), sharey=True)
    for panel, (name, against) in zip(panels, stored["against peer"].items(), strict=True):
        for place, key in enumerate(ENGINES):
            mean, error = against[key]["difference"]
            color = BLUE if mean > 0 else ORANGE
            panel.errorbar(mean, -place, xerr=error, fmt="o", color=color, capsize=3)
        panel.axvline(0, color=GREY, lw=1)
        panel.set_title(name)
    panels[0].set_yticks(-np.arange(len(ENGINES)), list(ENGINES.values()))
    panels[0].set_ylim(-len(ENGINES) + 0.5, 0.5)
    figure.supxlabel("nats a test row better than a tuned MC-dropout network", fontsize=9)
    return figure


def calibration() -> Figure:
    """Draw the coverage of 90 % intervals."""
    stored = read("calibration")["results"]
    sets = [name for name in stored if name.startswith("sets ")]
    ways = {"raw": GREY, "recalibrated": BLUE, "conformal": ORANGE}
    figure, axes = plt.subplots(figsize=(6, 2.4))
    for shift, (way, color) in enumerate(ways.items()):
        pairs = [mean_and_error([s["found"][way]["coverage"] for s in stored[n]]) for n in sets]
        places = np.arange(len(sets)) + 0.15 * (shift - 1)
        means, errors = zip(*pairs, strict=True)
        axes.errorbar(places, means, yerr=errors, fmt="o", color=color, capsize=3, label=way)
    axes.axhline(0.9, color="black", lw=1, ls="--")
    axes.set_xticks(range(len(sets)), [name.removeprefix("sets ") for name in sets])
    axes.set_ylabel("coverage of 90 % intervals")
    axes.legend(frameon=False, ncols=3, loc="lower right")
    return figure


def recommend() -> Figure:
    """Draw NDCG@100 of the recommenders."""
    stored = read("recommend")
    found = {**stored["linear"], **stored["quality"]}
    order = sorted(found, key=lambda name: found[name]["ndcg@100"])
    figure, axes = plt.subplots(figsize=(6, 3.4))
    for place, name in enumerate(order):
        result = found[name]
        error = result.get("ndcg@100 se") or result["runs"][0]["ndcg@100 se"]
        _point(axes, result["ndcg@100"], error, place)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("NDCG@100, MovieLens 1M, 500 test users")
    return figure


def _point(axes: Axes, mean: float, error: float, place: int) -> None:
    axes.errorbar(mean, place, xerr=error, fmt="o", color=BLUE, capsize=3)
