"""Plots of predictions beside what happened: their levels, and the rows that are kept."""

from __future__ import annotations

import numpy as np

from bayesdl.checks.scores import probability_integral_transform
from bayesdl.data.target import real_targets
from bayesdl.plots.axes import ABOVE, BLUE, GREY, Panel, axes_for
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import AxesLike, ColumnLike

SIMULATIONS = 1000  # for the band around the levels


def levels(prediction: AbstractPrediction, y: ColumnLike, ax: AxesLike = None) -> Panel:
    """Draw how the levels F(y_i) of targets in their predictions differ from uniform ones.

    Drawn is the share of levels at or below p, less p. A line that leaves the band, which holds all
    of a calibrated one with 90 % probability, says how predictions are wrong: above zero they lie
    too high, below too low; first below and then above they are too wide, the other way round too
    narrow (Säilynoja, Bürkner and Vehtari 2022, arXiv:2103.10522).

    Args:
        prediction: the prediction of the rows of y, of numbers.
        y: what happened.
        ax: matplotlib axes.

    Raises:
        ValueError: for predictions of classes.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> post = bdl.fit(bdl.GP(), x[:, None], x, engine=bdl.ExactGP(), progress=False)
        >>> levels(post.predict(), x).get_xlabel()
        'level p'
    """
    from arviz_stats.ecdf_utils import ecdf_pit

    if prediction.target.kind == "class":
        raise ValueError(
            "levels: the targets are classes, expected numbers: see plots.calibration."
        )
    found = np.ravel(probability_integral_transform(prediction, np.asarray(y)))
    (panel,) = axes_for(ax, 1)
    x, shares, low, high = ecdf_pit(found, 0.9, SIMULATIONS, rng=np.random.default_rng(0))
    panel.fill_between(x, low - x, high - x, color=GREY, alpha=0.3, lw=0, label="90 % band")
    panel.plot(x, shares - x, color=BLUE, lw=1.5, label=f"{len(found)} rows")
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set(xlabel="level p", ylabel="share of levels below, less p", xlim=(0, 1))
    panel.legend(**ABOVE)
    return panel


def rejection(prediction: AbstractPrediction, y: ColumnLike, ax: AxesLike = None) -> Panel:
    """Draw the error of the rows that are kept, as the least sure ones are set aside.

    A predictor that knows where it is unsure has a line that falls. Beside it: rows set aside at
    random, and by their actual errors, which is the best there is.

    Args:
        prediction: the prediction of the rows of y.
        y: what happened.
        ax: matplotlib axes.

    Raises:
        ValueError: for several targets.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> post = bdl.fit(bdl.GP(), x[:, None], x, engine=bdl.ExactGP(), progress=False)
        >>> rejection(post.predict(), x).get_ylabel()
        'root mean squared error'
    """
    classes = prediction.target.kind == "class"
    if classes:
        probs, index = prediction.probs, prediction.target.read(y)
        unsure, errors = 1 - probs.max(1), (probs.argmax(1) != index).astype(float)
    else:
        values, _ = real_targets(y)
        if values.shape[1] != 1:
            raise ValueError(f"rejection: got {values.shape[1]} target columns, expected one.")
        unsure, errors = (
            np.ravel(prediction.std),
            np.square(np.ravel(prediction.mean) - values[:, 0]),
        )
    (panel,) = axes_for(ax, 1)
    kept = np.arange(1, len(errors) + 1)
    orders = ("least sure first", unsure, BLUE, "-"), ("largest error first", errors, GREY, ":")
    for name, key, colour, line in orders:
        mean = np.cumsum(errors[np.argsort(key, kind="stable")]) / kept
        height = mean if classes else np.sqrt(mean)
        panel.plot(1 - kept / len(errors), height, line, color=colour, lw=1.6, label=name)
    whole = errors.mean() if classes else np.sqrt(errors.mean())
    panel.axhline(whole, color=GREY, lw=1, ls="--", label="at random")
    name = "share of wrong labels" if classes else "root mean squared error"
    panel.set(xlabel="share of rows set aside", ylabel=name, xlim=(0, 1), ylim=(0, None))
    panel.legend(**ABOVE)
    return panel
