"""The picture that `bayesdl plot` draws of a saved fit."""

from __future__ import annotations

from typing import Any

from bayesdl.posterior.posterior import Posterior


def draw(posterior: Posterior, rows: tuple[Any, Any] | None) -> tuple[Any, str]:
    """Return a Matplotlib figure, and in words what it shows.

    Args:
        posterior: the posterior.
        rows: inputs and targets that the fit has not seen, or None.
    """
    import matplotlib.pyplot as plt

    from bayesdl import plots

    if rows is None:
        axes = plots.posterior(posterior)
        return _figure_of(axes), "the draws of the posterior"
    X, y = rows
    prediction = posterior.predict(X)
    if prediction.target.num_targets > 1 and prediction.target.kind != "class":
        return _figure_of(plots.prediction(prediction, y=y)), f"predictions of {len(y)} rows"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    if prediction.target.kind == "class":
        plots.class_prediction(prediction, ax=axes[0])
    else:
        plots.prediction(prediction, ax=axes[0], y=y)
    plots.calibration(prediction, y, ax=axes[1])
    return figure, f"predictions of {len(y)} rows and their calibration"


def _figure_of(axes: Any) -> Any:
    """Return the figure of one axes or of an array of them."""
    return getattr(axes, "flat", [axes])[0].figure
