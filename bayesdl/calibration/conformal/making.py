"""The front door of conformal sets: which kind is made, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdl.calibration.conformal.labels import LABEL_SCORES, label_scores
from bayesdl.calibration.conformal.refits import refitted
from bayesdl.calibration.conformal.scores import SCORES, score_of
from bayesdl.calibration.conformal.split import BY_CLASS, Split
from bayesdl.calibration.conformal.training import added_in
from bayesdl.calibration.held_out import labels_of, refuse_training_rows, warn_of_time
from bayesdl.calibration.ranks import all_finite, as_level, refuse_few
from bayesdl.data.frames import as_target
from bayesdl.data.target import missing_targets
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.adjustment import AbstractAdjustment
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import ColumnLike, Integer, TableLike
from inference.settings import as_seed

SYSTEMS = ("sd", "absolute")


def conformal(
    posterior: AbstractPosterior,
    level: float = 0.9,
    X: TableLike | None = None,
    y: ColumnLike | None = None,
    *,
    score: str | None = None,
    groups: ColumnLike | None = None,
    refits: Integer | None = None,
    system: bool = False,
    seed: int | None = None,
) -> AbstractAdjustment:
    """Return the conformal sets that were asked for; see `Posterior.conformal`."""
    level = as_level(level, "conformal")
    seed = posterior.seed if seed is None else as_seed(seed)
    refuse_adjusted(posterior, "conformal")
    if (X is None) != (y is None):
        lacking = "y" if y is None else "X"
        raise DataError(
            f"conformal: {lacking} is missing: give both X and y of held-out rows, or neither."
        )
    if X is not None and y is not None:
        if refits is not None:
            raise ValueError("conformal: give held-out rows or refits, not both.")
        return _split(posterior, level, X, y, score, groups, system, seed)
    if system or score is not None:
        what = "system=True" if system else f"score={score!r}"
        raise ValueError(f"conformal({what}) needs held-out rows: conformal(level, X, y, {what}).")
    warn_of_training_order(posterior)
    if refits is not None:
        if groups is not None:
            raise ValueError("conformal: refits have no groups; give held-out rows for them.")
        return refitted(posterior, level, refits, seed)
    return added_in(posterior, level, groups, seed)


def refuse_adjusted(posterior: AbstractPosterior, verb: str) -> None:
    """Refuse a posterior whose predictions are adjusted already.

    Raises:
        ModelError: saying where to begin.
    """
    if posterior.adjustment is not None:
        raise ModelError(
            f"{posterior!r} is adjusted already, by post.{posterior.adjustment.verb}: call "
            f"{verb} on the posterior that bdl.fit gave."
        )


def warn_of_training_order(posterior: AbstractPosterior) -> None:
    """Warn where the training rows stand in the order of a date."""
    if posterior.model.rows_are_independent:
        columns = getattr(posterior.schema, "columns", None)
        warn_of_time(columns, np.asarray(posterior.problem.args[0]), None)


def held_out(
    posterior: AbstractPosterior, X: TableLike, y: ColumnLike
) -> tuple[AbstractPrediction, np.ndarray]:
    """Return the predictions of held-out rows, and their targets, after all checks.

    Raises:
        DataError: for training rows, other numbers of rows, unseen labels, or predictions that are
            not finite.
    """
    args, kwargs, target = posterior.model.inputs_and_target(posterior.problem, X, y)
    prediction: Any = posterior.predict(*args, **kwargs)
    prediction.check_rows(target)
    missing = np.flatnonzero(missing_targets(as_target(target, "y")))
    if missing.size:
        raise DataError(
            f"The calibration rows have no target in row {missing[0]} ({missing.size} such rows): "
            "leave these rows out."
        )
    read = prediction._read(target)
    if posterior.model.rows_are_independent:
        inputs = np.asarray(prediction.stream.args[0])
        refuse_training_rows(posterior, inputs, read)
        warn_of_time(getattr(posterior.schema, "columns", None), inputs, X)
    if prediction.target.kind == "class":
        all_finite(prediction.probs, "Predicted probabilities of the calibration rows")
        return prediction, read.astype(int)
    all_finite(np.atleast_1d(prediction.mean), "Predictions of the calibration rows")
    values = np.asarray(target, np.float64).reshape(prediction.mean.shape)
    all_finite(np.atleast_1d(values), "Targets of the calibration rows")
    return prediction, values


def _split(
    posterior: AbstractPosterior,
    level: float,
    X: TableLike,
    y: ColumnLike,
    score: str | None,
    groups: ColumnLike | None,
    system: bool,
    seed: int,
) -> Split:
    """Return split conformal sets from held-out rows."""
    prediction, target = held_out(posterior, X, y)
    kind = prediction.target.kind
    score = _score_name(score, kind, system, prediction)
    labels, columns = None, None
    by_class = isinstance(groups, str) and groups == BY_CLASS and kind == "class"
    if by_class:
        labels = target
        _all_classes(target, prediction.classes)
    elif groups is not None:
        labels, columns = labels_of(groups, X, len(target))
    # a central interval of a system has a quantile on either side
    sides = 2 if system else 1
    refuse_few(len(target), level, "The calibration data", sides)
    if labels is not None:
        for group in np.unique(labels):
            rows = int(np.sum(labels == group))
            named = prediction.classes[group] if by_class else group
            refuse_few(rows, level, f"The group {str(named)!r} of the calibration rows", sides)
    scores = _scores(prediction, target, score, level, system, seed)
    all_finite(scores, "Scores of the calibration rows")
    held = _held(prediction, target, level)
    reached, worst = _shares(held, labels)
    return Split(level, score, scores, labels, columns, by_class, system, reached, worst, seed)


def _score_name(score: str | None, kind: str, system: bool, prediction: AbstractPrediction) -> str:
    """Return the name of the score.

    Raises:
        ValueError: for one that is not known, or not for this kind of target.
    """
    known = LABEL_SCORES if kind == "class" else tuple(SCORES)
    default = "sd" if system else "density" if kind == "class" else "cdf"
    name = default if score is None else score
    if not isinstance(name, str) or name not in known:
        what = "classes" if kind == "class" else "numbers"
        raise ValueError(
            f"conformal(score={score!r}): expected one of {', '.join(map(repr, known))} for {what}."
        )
    if system and (kind != "real" or name not in SYSTEMS or not prediction.target.flat):
        raise ValueError(
            f"conformal(system=True, score={name!r}): a predictive system is for one target of "
            "real numbers, with score='sd' or 'absolute'."
        )
    return name


def _all_classes(target: np.ndarray, classes: np.ndarray) -> None:
    """Refuse calibration rows that lack a class.

    Raises:
        DataError: naming the first one.
    """
    missing = [k for k in range(len(classes)) if not np.any(target == k)]
    if missing:
        raise DataError(
            f"groups='class': no calibration row has the class {classes[missing[0]]!r}: give rows "
            "of every class, or leave out groups."
        )


def _scores(
    prediction: AbstractPrediction,
    target: np.ndarray,
    score: str,
    level: float,
    system: bool,
    seed: int,
) -> np.ndarray:
    """Return the scores of the held-out rows."""
    numbers: Any = prediction
    if prediction.target.kind == "class":
        found = label_scores(score, prediction.probs, seed)
        return np.take_along_axis(found, target[:, None], axis=1)[:, 0]
    if system:
        residuals = target - prediction.mean
        return residuals / prediction.std if score == "sd" else residuals
    return np.asarray(score_of(score, numbers, target, level), np.float64)


def _held(prediction: AbstractPrediction, target: np.ndarray, level: float) -> np.ndarray:
    """Return which targets the model's own sets held, shape (rows,)."""
    if prediction.target.kind == "class":
        probs = prediction.probs
        of_label = np.take_along_axis(probs, target[:, None], axis=1)
        # the smallest set of the level holds a label where what is above it is less
        return np.sum(np.where(probs > of_label, probs, 0.0), axis=1) < level
    low, high = prediction.interval(level)
    inside = (low <= target) & (target <= high)
    return inside.reshape(len(inside), -1).mean(1)


def _shares(held: np.ndarray, labels: np.ndarray | None) -> tuple[tuple[float, float], str]:
    """Return the share of all rows, that of the worst group, and its name."""
    if labels is None:
        return (float(held.mean()), float("nan")), ""
    shares = {str(group): float(held[labels == group].mean()) for group in np.unique(labels)}
    worst = min(shares, key=shares.__getitem__)
    return (float(held.mean()), shares[worst]), worst
