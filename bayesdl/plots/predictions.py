"""Plots of predictions and of their calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from bayesdl.checks.scores import calibration_curve
from bayesdl.data.target import real_targets
from bayesdl.plots.axes import ABOVE, BLUE, GREY, Panel, abscissa, axes_for, columns_of, ink
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import AxesLike, ColumnLike

NUM_BINS = 10


def prediction(
    prediction: AbstractPrediction,
    x: ColumnLike | None = None,
    ax: AxesLike = None,
    y: ColumnLike | None = None,
) -> Any:
    """Draw the predictive mean with central 50 and 90 % intervals.

    Args:
        prediction: the prediction, of numbers.
        x: what to draw against, shape (rows,); by default the rows, sorted by their predicted mean.
        ax: matplotlib axes, one per target column.
        y: the targets, drawn as dots where given.

    Returns:
        The axes; an array of them where there are several target columns.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> model, engine = bdl.BNN(hidden=()), bdl.Laplace()
        >>> post = bdl.fit(model, x[:, None], np.sin(3 * x), engine=engine, progress=False)
        >>> prediction(post.predict(), x).get_ylabel()
        'y'
    """
    _check_is_prediction(prediction)
    if prediction.target.kind == "class":
        return class_prediction(prediction, x, ax)
    bands = {level: columns_of(prediction.interval(level), skip=1) for level in (0.9, 0.5)}
    means = columns_of(prediction.mean)
    targets = None if y is None else columns_of(real_targets(y)[0])
    axes = axes_for(ax, means.shape[1])
    for j, panel in enumerate(axes):
        where, order, label, step = abscissa(x, means[:, j])
        for level, (low, high) in bands.items():
            shade = 0.18 if level == 0.9 else 0.35
            name = f"{100 * level:.0f} % interval"
            panel.fill_between(
                where,
                low[order, j],
                high[order, j],
                step=step,
                color=BLUE,
                alpha=shade,
                lw=0,
                label=name,
            )
        panel.plot(
            where,
            means[order, j],
            color=BLUE,
            lw=1.5,
            drawstyle="steps-mid" if step else "default",
            label="mean",
        )
        if targets is not None:
            panel.plot(
                where, targets[order, j], "o", color=ink(), ms=3, alpha=0.7, label="observed"
            )
        panel.set(xlabel=label, ylabel=_target_name(prediction, j))
        panel.legend(**ABOVE)
    return axes if means.shape[1] > 1 else axes[0]


def functions(functions: Any, ax: AxesLike = None) -> Any:
    """Draw latent functions of one index with 90 % bands.

    Args:
        functions: what `bdl.tensor.mode(post, name).predict(x)` gives.
        ax: matplotlib axes.

    Returns:
        The axes.

    Example:
        >>> import bayesdl as bdl
        >>> rng = np.random.default_rng(0)
        >>> X = rng.integers(0, 6, (60, 2)).astype(float)
        >>> model = bdl.FunBaT(("hour", "place"))
        >>> engine = bdl.MessagePassing(iterations=20, restarts=2)
        >>> post = bdl.fit(model, X, np.sin(X[:, 0]) * X[:, 1], engine=engine, progress=False)
        >>> functions(bdl.tensor.mode(post, "hour").predict(np.linspace(0, 5, 30))).get_xlabel()
        'hour'
    """
    (panel,) = axes_for(ax, 1)
    order = np.argsort(functions.x, kind="stable")
    low, high = functions.interval(0.9)
    for j in range(functions.mean.shape[1]):
        (line,) = panel.plot(
            functions.x[order], functions.mean[order, j], lw=1.5, label=f"function {j}"
        )
        panel.fill_between(
            functions.x[order],
            low[order, j],
            high[order, j],
            color=line.get_color(),
            alpha=0.2,
            lw=0,
        )
    panel.set(xlabel=functions.name, ylabel="value, with 90 % band")
    panel.legend(**ABOVE)
    return panel


def class_prediction(
    prediction: AbstractPrediction, x: ColumnLike | None = None, ax: AxesLike = None
) -> Any:
    """Draw class probabilities, stacked: the height of a colour is the probability of its class.

    Args:
        prediction: the prediction, of classes.
        x: what to draw against, shape (rows,); by default the rows, sorted by class and
            probability.
        ax: matplotlib axes.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> model = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli())
        >>> post = bdl.fit(model, x[:, None], x > 0, engine=bdl.Laplace(), progress=False)
        >>> class_prediction(post.predict(), x).get_ylabel()
        'P(y = class)'
    """
    import matplotlib

    (panel,) = axes_for(ax, 1)
    probs = prediction.probs
    best = probs.argmax(1)
    # confident rows of the first class first, confident rows of the last class last
    towards = (
        probs[:, -1]
        if probs.shape[1] == 2
        else best + np.where(best == 0, 1 - probs[:, 0], probs.max(1))
    )
    where, order, label, step = abscissa(x, towards)
    if x is None:
        label = "rows, sorted by class and probability"
    edges = np.concatenate([np.zeros((len(probs), 1)), probs.cumsum(1)], axis=1)[order]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.15, 0.9, probs.shape[1]))
    for k, name in enumerate(prediction.classes):
        panel.fill_between(
            where,
            edges[:, k],
            edges[:, k + 1],
            step=step,
            color=colours[k],
            alpha=0.75,
            lw=0,
            label=str(name),
        )
    target = _target_name(prediction, 0)
    panel.set(xlabel=label, ylabel=f"P({target} = class)", ylim=(0, 1))
    panel.margins(x=0)
    panel.legend(title=target, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return panel


def _check_is_prediction(prediction: object) -> None:
    """Refuse what is no prediction, such as the posterior that makes them.

    Raises:
        TypeError: with the cure.
    """
    if not isinstance(prediction, AbstractPrediction):
        raise TypeError(
            f"Expected a prediction, got {type(prediction).__name__}: give post.predict(X)."
        )


def calibration(prediction: AbstractPrediction, y: ColumnLike, ax: AxesLike = None) -> Any:
    """Draw whether probabilities come true as often as they say.

    Of numbers: the share of targets at or below their predicted p-quantile, against p. Of classes:
    the share of rows in which the class came true, against its predicted probability, in bins of
    equally many rows, with a histogram of the probabilities; with two classes that is the second
    class, with more the most probable one. Grey: where 95 % of such shares lie if the prediction is
    calibrated and rows are independent, by the binomial distribution, at each level by itself.

    Args:
        prediction: the prediction of the rows of y.
        y: what happened.
        ax: matplotlib axes.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.linspace(-1, 1, 20)
        >>> model, engine = bdl.BNN(hidden=()), bdl.Laplace()
        >>> post = bdl.fit(model, x[:, None], np.sin(3 * x), engine=engine, progress=False)
        >>> calibration(post.predict(), np.sin(3 * x)).get_xlabel()
        'predicted probability'
    """
    (panel,) = axes_for(ax, 1)
    panel.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="calibrated")
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability")
    if prediction.target.kind == "class":
        _reliability(prediction, y, panel)
    else:
        _quantile_calibration(prediction, y, panel)
    panel.legend(**ABOVE | {"ncols": 2})
    return panel


def _quantile_calibration(prediction: AbstractPrediction, y: ColumnLike, panel: Panel) -> None:
    values, flat = real_targets(y)
    levels, shares = calibration_curve(prediction, values[:, 0] if flat else values)
    low, high = _binomial_band(len(values), levels)
    panel.fill_between(
        levels, low, high, color=GREY, alpha=0.25, lw=0, label=f"95 % band for {len(values)} rows"
    )
    panel.plot(levels, shares, "o-", color=BLUE, ms=4, label="observed")
    panel.set_ylabel(f"share of {', '.join(prediction.target.names)} below the quantile")


def _reliability(prediction: AbstractPrediction, y: ColumnLike, panel: Panel) -> None:
    probs, index = prediction.probs, prediction.target.read(y)
    two = probs.shape[1] == 2
    chance, came_true = (
        (probs[:, 1], index == 1) if two else (probs.max(1), probs.argmax(1) == index)
    )
    # equally many rows in each bin, and rows of one probability in one
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, chance, side="right")
    used, counts = np.unique(bins, return_counts=True)
    predicted = np.array([chance[bins == b].mean() for b in used])
    observed = np.array([came_true[bins == b].mean() for b in used])
    low, high = _binomial_band(counts, predicted)
    heights, edges = np.histogram(chance, np.linspace(0, 1, 31))
    panel.stairs(
        0.15 * heights / heights.max(), edges, fill=True, color=BLUE, alpha=0.2,
        label="predicted probabilities",
    )  # fmt: skip
    panel.vlines(predicted, low, high, color=GREY, alpha=0.35, lw=7, label="95 % band of a bin")
    panel.plot(predicted, observed, "o-", color=BLUE, ms=5, label="observed")
    name = prediction.target.names[0]
    panel.set_ylabel(
        f"share with {name} = {prediction.classes[1]}"
        if two
        else f"share with {name} predicted correctly"
    )
    rows = " to ".join(map(str, np.unique([counts.min(), counts.max()])))
    panel.set_xlabel(f"predicted probability, in bins of {rows} rows")


def _binomial_band(rows: ArrayLike, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of the share of successes among `rows` trials.

    They hold it with probability 95 % or a little more.
    """
    from scipy.stats import binom

    chance = np.clip(chance, 0.0, 1.0)
    return binom.ppf(0.025, rows, chance) / rows, binom.ppf(0.975, rows, chance) / rows


def _target_name(prediction: AbstractPrediction, j: int) -> str:
    names = [prediction.title] if prediction.title else prediction.target.names
    return names[j] if j < len(names) else f"{names[0]}[{j}]"
