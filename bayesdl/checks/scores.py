"""Scores of predictive distributions on held-out data.

NLL is the mean of -log p(y | x, data) in nats. CRPS is `Prediction.crps`, in the units of y. The
calibration error of numbers is the mean over levels p = 0.05, ..., 0.95 of |share of y below the
p-quantile - p| (Kuleshov et al. 2018, arXiv:1807.00263), for counts by the randomised transform;
that of classes is the expected calibration error with 15 bins (Guo et al. 2017, arXiv:1706.04599).
Both come with their standard error over rows, by the bootstrap; calibrated predictions have errors
above zero too. The interval score of 90 % is width + 20 times the distance of y from the interval
(Gneiting and Raftery 2007). The worst coverage is that of five groups of rows by the width of their
intervals. Brier is sum_k (p_k - [y = k])^2, averaged over rows: for two classes twice that of
scikit-learn.
"""

from __future__ import annotations

import html
from collections.abc import Callable

import numpy as np

from bayesdl.data.validation import DataError
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import ColumnLike
from bayesdl.warnings import TrustWarning
from inference.distributions.calibration import expected_calibration_error
from inference.process.quiet import quiet

LEVELS = (0.5, 0.9, 0.95)
# groups of rows by the width of their intervals, and the fewest rows in one
GROUPS, SMALLEST_GROUP = 5, 10
# resamplings behind a standard error
RESAMPLED = 100


class Scores(dict[str, float]):
    """Scores by name; prints as a table.

    Attributes:
        notes: what the scores leave out, a sentence each.
    """

    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [f"{name:<18}{value:>10.4g}" for name, value in self.items()]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{value:.4g}</td></tr>" for name, value in self.items()
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = f"<table><tr><th>score</th><th>value</th></tr>{rows}</table>"
        return table + (f"<ul>{notes}</ul>" if notes else "")


def score(prediction: AbstractPrediction, y: ColumnLike, seen: np.ndarray | None = None) -> Scores:
    """Score a prediction against what happened.

    Args:
        prediction: the prediction.
        y: the targets.
        seen: which entries of y count; None for all.

    Raises:
        ValueError: where y does not have a target per predicted row.
        DataError: where y has another shape than the prediction, or is NaN.
    """
    prediction.check_rows(y)
    if prediction.stream.num_rows is not None:
        seen = None
    elif prediction.target.kind == "class":
        y, seen = _checked(y, prediction.probs.shape[:-1], seen)
    else:
        y, seen = _checked(y, _mean(prediction).shape, seen)
    if prediction.target.kind == "class":
        return _class_scores(prediction, y, seen)
    return _number_scores(prediction, y, seen)


def _checked(
    y: object, shape: tuple[int, ...], seen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets of a program, a number that may stand where they are not seen.

    Raises:
        DataError: where shapes differ, or a target that counts is NaN.
    """
    values = np.asarray(y)
    if values.shape != shape:
        raise DataError(
            f"y has shape {values.shape} and the prediction has shape {shape}: expected one target "
            "for each predicted value. In a program they have the shape of the observed site; "
            "write it inside `with numpyro.plate('rows', len(x)):`."
        )
    seen = np.ones(shape, bool) if seen is None else np.broadcast_to(seen, shape)
    _refuse_nan(values, seen)
    if not seen.any():
        raise DataError("A mask hides all targets, so there is nothing to score.")
    return np.where(seen, values, values[seen].flat[0]), seen


def _refuse_nan(y: np.ndarray, seen: np.ndarray | bool = True) -> None:
    """Refuse targets that count and are no numbers.

    Raises:
        DataError: naming the first rows.
    """
    if y.dtype.kind != "f":
        return
    bad = np.argwhere(seen & ~np.isfinite(y))
    if not len(bad):
        return
    at = [tuple(index) if len(index) > 1 else index[0] for index in bad[:5].tolist()]
    raise DataError(
        f"y is NaN or infinite in rows {', '.join(map(str, at))}{', ...' if len(bad) > 5 else ''}: "
        "drop these rows, or hide them by a mask in the program (numpyro.handlers.mask)."
    )


def _mean(prediction: AbstractPrediction) -> np.ndarray:
    """Return the mean, without the warning that there is none: there is no rmse then."""
    with quiet(TrustWarning, message="The distribution of .* has no mean"):
        return prediction.mean


def _number_scores(
    prediction: AbstractPrediction, y: ColumnLike, seen: np.ndarray | None
) -> Scores:
    """Score a prediction of numbers."""
    mean = _mean(prediction)
    values = np.asarray(y, dtype=np.float64).reshape(mean.shape)
    seen = np.ones(mean.shape, bool) if seen is None else seen
    scores = Scores()
    if not np.isnan(mean[seen]).any():
        scores["rmse"] = float(np.sqrt(np.mean((mean - values)[seen] ** 2)))
    if prediction.has_density:
        log_prob = prediction.log_prob(y)
        rows = seen.all(axis=tuple(range(log_prob.ndim, seen.ndim)))
        scores["nll"] = float(-np.mean(log_prob[rows]))
    scores["crps"] = float(np.mean(prediction.crps(y)[seen]))
    bounds = prediction.intervals(LEVELS)
    for level, (low, high) in zip(LEVELS, bounds, strict=True):
        inside = (low <= values) & (values <= high)
        scores[f"coverage_{100 * level:.4g}"] = float(np.mean(inside[seen]))
    low, high = bounds[LEVELS.index(0.9)]
    scores |= _of_intervals(low, high, values, seen)
    levels, shares = calibration_curve(prediction, values, seen)
    scores["calibration_error"] = float(np.mean(np.abs(shares - levels)))
    transform = probability_integral_transform(prediction, values)[seen]

    def error(rows: np.ndarray) -> float:
        below = np.searchsorted(np.sort(transform[rows]), levels, side="right") / len(rows)
        return float(np.mean(np.abs(below - levels)))

    scores["calibration_error_se"] = _bootstrap_error(error, transform.size, prediction.seed)
    return _with_sets(scores, prediction, y)


def _of_intervals(
    low: np.ndarray, high: np.ndarray, y: np.ndarray, seen: np.ndarray, level: float = 0.9
) -> dict[str, float]:
    """Return the interval score, and the lowest coverage of five groups of rows by width."""
    width, outside = high - low, np.maximum(np.maximum(low - y, y - high), 0.0)
    name = f"{100 * level:.4g}"
    with np.errstate(invalid="ignore"):
        total = width + 2 / (1 - level) * outside
    found = {f"interval_score_{name}": float(np.mean(total[seen]))}
    hits, order = (outside == 0)[seen], np.argsort(width[seen], kind="stable")
    if len(hits) >= GROUPS * SMALLEST_GROUP:
        groups = np.array_split(hits[order], GROUPS)
        found[f"worst_coverage_{name}"] = float(min(group.mean() for group in groups))
    return found


def _bootstrap_error(statistic: Callable[[np.ndarray], float], rows: int, seed: int) -> float:
    """Return the standard error of a statistic of rows, by resampling them.

    Args:
        statistic: a function of the indices of rows.
        rows: the number of rows.
        seed: the seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    return float(np.std([statistic(rng.integers(rows, size=rows)) for _ in range(RESAMPLED)]))


def _with_sets(scores: Scores, prediction: AbstractPrediction, y: ColumnLike) -> Scores:
    """Return the scores with those of conformal sets, where there are any."""
    scores |= prediction.set_scores(y)
    return scores


def calibration_curve(
    prediction: AbstractPrediction, y: np.ndarray, seen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return levels p, and the share of targets whose integral transform is at most p."""
    _refuse_nan(y)
    levels = np.linspace(0.05, 0.95, 19)
    transform = probability_integral_transform(prediction, y)
    transform = transform if seen is None else transform[seen]
    return levels, np.array([np.mean(transform <= level) for level in levels])


def probability_integral_transform(
    prediction: AbstractPrediction, y: np.ndarray, seed: int | None = None
) -> np.ndarray:
    """Compute F(y), which is uniform where the prediction is right.

    For counts it is drawn between F(y - 1) and F(y) (Czado et al. 2009).

    Args:
        prediction: the prediction.
        y: the targets, in their units.
        seed: that of these draws; None for that of the prediction.
    """
    upper = prediction.cdf(y)
    if prediction.target.kind != "count":
        return upper
    lower = np.where(y > 0, prediction.cdf(np.maximum(y - 1, 0)), 0.0)
    random = np.random.default_rng(prediction.seed if seed is None else seed)
    return lower + random.uniform(size=upper.shape) * (upper - lower)


def _class_scores(prediction: AbstractPrediction, y: ColumnLike, seen: np.ndarray | None) -> Scores:
    """Score a prediction of classes."""
    probs, log_prob = prediction.probs, prediction.log_prob(y)
    index = prediction.target.read(y) if seen is None else _labels(y, probs.shape[-1])
    # an event of several labels has one density
    rows = ... if seen is None else seen.all(axis=tuple(range(log_prob.ndim, seen.ndim)))
    if seen is not None:
        probs, index = probs[seen], index[seen]
    hits, confidence = probs.argmax(-1) == index, probs.max(-1)

    def error(rows: np.ndarray) -> float:
        return expected_calibration_error(confidence[rows], hits[rows])

    scores = Scores(
        accuracy=float(hits.mean()),
        nll=float(-np.mean(log_prob[rows])),
        brier=float(np.mean(np.sum((probs - np.eye(probs.shape[1])[index]) ** 2, axis=1))),
        ece=expected_calibration_error(confidence, hits),
        ece_se=_bootstrap_error(error, len(hits), prediction.seed),
    )
    return _with_sets(scores, prediction, y)


def _labels(y: ColumnLike, classes: int) -> np.ndarray:
    """Return the labels of a program as indices.

    Raises:
        DataError: for anything but 0, 1, ..., classes - 1.
    """
    values = np.asarray(y)
    index = values.astype(np.int64)
    bad = values[(index != values) | (index < 0) | (index >= classes)]
    if bad.size:
        raise DataError(f"y has the label {bad.flat[0]}: expected 0 to {classes - 1}.")
    return index
