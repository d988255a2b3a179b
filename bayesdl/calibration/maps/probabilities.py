"""Maps of class probabilities, from log-probabilities L and labels of the rows that calibrate.

    "temperature"   softmax(L / T), averaged over p(T | rows), log T ~ N(0, 1)
    "vector"        softmax(w L + b)
    "dirichlet"     softmax(W L + b), off-diagonals of W and b held near 0 (ODIR)
    "beta"          two classes: logit p* = a log p - b log(1 - p) + c, a and b at least 0
    "isotonic"      isotonic regression of each class against the rest, normalised
    "venn-abers"    isotonic regression twice a new row, with either label; p = p1 / (1 - p0 + p1)

(Guo et al. 2017, arXiv:1706.04599; Kull et al. 2019, arXiv:1910.12656; Kull, Silva Filho and Flach
2017; Zadrozny and Elkan 2002; Vovk and Petej 2014, arXiv:1211.0025.) Probabilities count as at
least 1e-12, so that no log-probability is infinite.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax, softmax

from bayesdl.data.validation import DataError
from inference.core.typing import Info

Probs = Float[np.ndarray, "rows classes"]
Labels = Int[np.ndarray, "rows"]

SMALLEST = 1e-12
# the grid of log T, in its prior's standard deviations
GRID = np.linspace(-4, 4, 241)
# how far w is from 1, b and off-diagonals of W from 0, before data
VECTOR_SCALE, OFF_SCALE = 0.5, 0.1


def _logs(probs: Probs) -> np.ndarray:
    """Return log-probabilities that are finite."""
    return np.log(np.maximum(probs, SMALLEST))


class AbstractClassMap(abc.ABC):
    """A map of class probabilities."""

    name: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, probs: Probs) -> Probs:
        """Return the mapped probabilities."""

    @abc.abstractmethod
    def stored(self) -> Info:
        """Return its numbers by name."""


@dataclasses.dataclass(frozen=True)
class NoClassMap(AbstractClassMap):
    """The identity: predictions that need no change."""

    name: ClassVar[str] = "none"

    def __call__(self, probs: Probs) -> Probs:
        return probs

    def stored(self) -> Info:
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Temperature(AbstractClassMap):
    """softmax(L / T), averaged over the posterior of T on a grid.

    Attributes:
        weights: the posterior probabilities of the grid of log T.
    """

    weights: np.ndarray
    name: ClassVar[str] = "temperature"

    @property
    def mean(self) -> float:
        """The posterior mean of T."""
        return float(self.weights @ np.exp(GRID))

    def __call__(self, probs: Probs) -> Probs:
        values = _logs(probs)
        total = np.zeros(values.shape)
        for weight, log_t in zip(self.weights, GRID, strict=True):
            if weight > 1e-9:
                total += weight * softmax(values / np.exp(log_t), axis=1)
        return total / total.sum(-1, keepdims=True)

    def stored(self) -> Info:
        return {"weights": self.weights}


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(AbstractClassMap):
    """softmax(W L + b), of "vector" with W diagonal.

    Attributes:
        matrix: W, shape (classes, classes).
        offset: b, shape (classes,).
    """

    matrix: np.ndarray
    offset: np.ndarray
    name: ClassVar[str] = "linear"

    def __call__(self, probs: Probs) -> Probs:
        return softmax(_logs(probs) @ self.matrix.T + self.offset, axis=1)

    def stored(self) -> Info:
        return {"matrix": self.matrix, "offset": self.offset}


@dataclasses.dataclass(frozen=True)
class BetaClasses(AbstractClassMap):
    """logit p* = a log p - b log(1 - p) + c for two classes.

    Attributes:
        a: the weight of log p.
        b: the weight of -log(1 - p).
        c: the offset.
    """

    a: float
    b: float
    c: float
    name: ClassVar[str] = "beta"

    def __call__(self, probs: Probs) -> Probs:
        p = np.clip(probs[:, 1], np.finfo(float).eps, 1 - np.finfo(float).eps)
        logit = self.a * np.log(p) - self.b * np.log(1 - p) + self.c
        raised = 1 / (1 + np.exp(-logit))
        return np.stack([1 - raised, raised], axis=1)

    def stored(self) -> Info:
        return {"a": self.a, "b": self.b, "c": self.c}


@dataclasses.dataclass(frozen=True, eq=False)
class IsotonicClasses(AbstractClassMap):
    """Isotonic regressions of each class against the rest, normalised.

    Attributes:
        stated: the probabilities of the rows that calibrate, shape (rows, classes).
        labels: their labels.
    """

    stated: np.ndarray
    labels: np.ndarray
    name: ClassVar[str] = "isotonic"

    def __call__(self, probs: Probs) -> Probs:
        from sklearn.isotonic import IsotonicRegression

        found = np.empty(probs.shape)
        only = [1] if probs.shape[1] == 2 else range(probs.shape[1])
        for k in only:
            model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            model.fit(self.stated[:, k], (self.labels == k).astype(float))
            found[:, k] = model.predict(probs[:, k])
        if probs.shape[1] == 2:
            found[:, 0] = 1 - found[:, 1]
        return _normalised(found, probs)

    def stored(self) -> Info:
        return {"stated": self.stated, "labels": self.labels}


@dataclasses.dataclass(frozen=True, eq=False)
class VennAbers(AbstractClassMap):
    """Inductive Venn-Abers predictors of each class against the rest, normalised.

    Attributes:
        stated: the probabilities of the rows that calibrate, shape (rows, classes).
        labels: their labels.
    """

    stated: np.ndarray
    labels: np.ndarray
    name: ClassVar[str] = "venn-abers"

    def bounds(self, p: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return [p0, p1]: the isotonic values of new rows with label 0 and with label 1.

        Args:
            p: the stated probabilities of class k of the new rows.
            k: the class.
        """
        from sklearn.isotonic import isotonic_regression

        stated, hits = self.stated[:, k], (self.labels == k).astype(float)
        distinct, place = np.unique(p, return_inverse=True)
        found = np.empty((2, len(distinct)))
        for i, value in enumerate(distinct):
            points, inverse = np.unique(np.append(stated, value), return_inverse=True)
            weights = np.bincount(inverse).astype(float)
            at = int(np.searchsorted(points, value))
            for label in (0, 1):
                sums = np.bincount(inverse, np.append(hits, label))
                values: Any = isotonic_regression(sums / weights, sample_weight=weights)
                found[label, i] = values[at]
        return found[0][place], found[1][place]

    def __call__(self, probs: Probs) -> Probs:
        found = np.empty(probs.shape)
        only = [1] if probs.shape[1] == 2 else range(probs.shape[1])
        for k in only:
            p0, p1 = self.bounds(probs[:, k], k)
            found[:, k] = p1 / (1 - p0 + p1)
        if probs.shape[1] == 2:
            found[:, 0] = 1 - found[:, 1]
        return _normalised(found, probs)

    def stored(self) -> Info:
        return {"stated": self.stated, "labels": self.labels}


def _normalised(found: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Return rows that sum to one; rows of zeros become the stated probabilities."""
    total = found.sum(1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), probs)


def fit_temperature(probs: Probs, labels: Labels) -> Temperature:
    """Compute the posterior of the temperature on a grid."""
    values = _logs(probs)
    terms = np.array([log_likelihood(values / np.exp(t), labels) for t in GRID])
    log_posterior = terms - GRID**2 / 2
    weights = np.exp(log_posterior - log_posterior.max())
    return Temperature(weights / weights.sum())


def log_likelihood(values: np.ndarray, labels: np.ndarray) -> float:
    """Compute sum over rows of log softmax(values) at the labels."""
    return float(np.take_along_axis(log_softmax(values, axis=1), labels[:, None], axis=1).sum())


def fit_vector(probs: Probs, labels: Labels) -> Linear:
    """Fit diag(w) L + b at the mode of its posterior."""
    return _fit_linear(probs, labels, diagonal=True)


def fit_dirichlet(probs: Probs, labels: Labels) -> Linear:
    """Fit W L + b at the mode of its posterior."""
    return _fit_linear(probs, labels, diagonal=False)


def _fit_linear(probs: Probs, labels: Labels, diagonal: bool) -> Linear:
    from scipy.optimize import minimize

    values, classes = _logs(probs), probs.shape[1]
    hits = np.eye(classes)[labels]
    scale = np.full((classes, classes), OFF_SCALE)
    np.fill_diagonal(scale, VECTOR_SCALE)
    free = np.eye(classes, dtype=bool) if diagonal else np.ones((classes, classes), bool)

    def parts(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.eye(classes)
        matrix[free] += flat[:-classes]
        return matrix, flat[-classes:]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        matrix, offset = parts(flat)
        scores = values @ matrix.T + offset
        gap = softmax(scores, axis=1) - hits
        spread = np.append(scale[free], np.full(classes, VECTOR_SCALE))
        penalty = np.sum((flat / spread) ** 2) / 2
        slope = np.append((gap.T @ values)[free], gap.sum(0)) + flat / spread**2
        return penalty - log_likelihood(scores, labels), slope

    start = np.zeros(int(free.sum()) + classes)
    return Linear(*parts(minimize(loss, start, jac=True, method="L-BFGS-B").x))


def fit_beta_classes(probs: Probs, labels: Labels) -> BetaClasses:
    """Fit the beta map of two classes, by the logistic regression of Kull et al. (2017).

    A negative weight is set to zero and the others are fitted again.

    Raises:
        ValueError: for more than two classes.
        DataError: for rows of one class.
    """
    from sklearn.linear_model import LogisticRegression

    if probs.shape[1] != 2:
        raise ValueError(
            f"recalibrate(map='beta') is for two classes, got {probs.shape[1]}: use 'dirichlet'."
        )
    if len(np.unique(labels)) < 2:
        raise DataError(
            "recalibrate(map='beta') needs rows of both classes, and at least two of each: give "
            "more rows, or use map='temperature'."
        )
    p = np.clip(probs[:, 1], np.finfo(float).eps, 1 - np.finfo(float).eps)
    columns = np.stack([np.log(p), -np.log(1 - p)], axis=1)
    used = [0, 1]
    model: Any = LogisticRegression(C=99999999999)
    model.fit(columns, labels)
    if model.coef_[0].min() < 0:
        used = [1] if model.coef_[0][0] < 0 else [0]
        model.fit(columns[:, used], labels)
    weights = np.zeros(2)
    if model.coef_[0].min() < 0:
        # labels go against probabilities: only their shares are left
        hits = labels.mean()
        return BetaClasses(0.0, 0.0, float(np.log(hits / (1 - hits))))
    weights[used] = model.coef_[0]
    return BetaClasses(float(weights[0]), float(weights[1]), float(model.intercept_[0]))


CLASS_FITTERS = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "dirichlet": fit_dirichlet,
    "beta": fit_beta_classes,
    "isotonic": IsotonicClasses,
    "venn-abers": VennAbers,
}
CLASS_MAPS = {
    cls.name: cls
    for cls in (NoClassMap, Temperature, Linear, BetaClasses, IsotonicClasses, VennAbers)
}
