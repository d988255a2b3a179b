"""Scores of predictive distributions on held-out data.

NLL is the mean of -log p(y | x, data) in nats. CRPS is `Prediction.crps`, in the units of y. The
calibration error of numbers is the mean over levels p = 0.05, ..., 0.95 of |share of y below the
p-quantile - p| (Kuleshov et al. 2018, arXiv:1807.00263), for counts by the randomised transform;
that of classes is the expected calibration error with 15 bins (Guo et al. 2017, arXiv:1706.04599).
Brier is sum_k (p_k - [y = k])^2, averaged over rows: for two classes twice scikit-learn's.
"""

from __future__ import annotations

import numpy as np

from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import ColumnLike
from inference.distributions.calibration import expected_calibration_error

LEVELS = (0.5, 0.9, 0.95)
CRPS_SAMPLES = 1000


class Scores(dict[str, float]):
    """Scores by name; prints as a table."""

    def __repr__(self) -> str:
        return "\n".join(f"{name:<18}{value:>10.4g}" for name, value in self.items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{value:.4g}</td></tr>" for name, value in self.items()
        )
        return f"<table><tr><th>score</th><th>value</th></tr>{rows}</table>"


def score(prediction: AbstractPrediction, y: ColumnLike) -> Scores:
    """Score a prediction against what happened.

    Raises:
        ValueError: where y does not have a target per predicted row.
    """
    prediction.check_rows(y)
    if prediction.target.kind == "class":
        return _class_scores(prediction, y)
    return _number_scores(prediction, y)


def _number_scores(prediction: AbstractPrediction, y: ColumnLike) -> Scores:
    """Score a prediction of numbers."""
    values = np.asarray(y, dtype=np.float64).reshape(prediction.mean.shape)
    scores = Scores(
        rmse=float(np.sqrt(np.mean((prediction.mean - values) ** 2))),
        nll=float(-np.mean(prediction.log_prob(y))),
        crps=float(np.mean(prediction.crps(y))),
    )
    tails = [(1 + sign * level) / 2 for level in LEVELS for sign in (-1, 1)]
    bounds = prediction.quantile(tails)
    for level, low, high in zip(LEVELS, bounds[::2], bounds[1::2], strict=True):
        scores[f"coverage_{100 * level:.4g}"] = float(np.mean((low <= values) & (values <= high)))
    levels, shares = calibration_curve(prediction, values)
    scores["calibration_error"] = float(np.mean(np.abs(shares - levels)))
    return scores


def calibration_curve(
    prediction: AbstractPrediction, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return levels p, and the share of targets whose integral transform is at most p."""
    levels = np.linspace(0.05, 0.95, 19)
    transform = probability_integral_transform(prediction, y)
    return levels, np.array([np.mean(transform <= level) for level in levels])


def probability_integral_transform(prediction: AbstractPrediction, y: np.ndarray) -> np.ndarray:
    """Compute F(y), which is uniform where the prediction is right.

    For counts it is drawn between F(y - 1) and F(y) (Czado et al. 2009).
    """

    def cdf(y: np.ndarray) -> np.ndarray:
        try:
            return prediction.cdf(y)
        except NotImplementedError:
            return np.mean(prediction.marginal_samples(CRPS_SAMPLES) <= y, axis=0)

    upper = cdf(y)
    if prediction.target.kind != "count":
        return upper
    lower = np.where(y > 0, cdf(np.maximum(y - 1, 0)), 0.0)
    return lower + np.random.default_rng(prediction.seed).uniform(size=upper.shape) * (
        upper - lower
    )


def _class_scores(prediction: AbstractPrediction, y: ColumnLike) -> Scores:
    """Score a prediction of classes."""
    probs, index = prediction.probs, prediction.target.read(y)
    hits = probs.argmax(-1) == index
    return Scores(
        accuracy=float(hits.mean()),
        nll=float(-np.mean(prediction.log_prob(y))),
        brier=float(np.mean(np.sum((probs - np.eye(probs.shape[1])[index]) ** 2, axis=1))),
        ece=expected_calibration_error(probs.max(-1), hits),
    )
