"""Doubt around any estimator, learned by cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from bayesdl.data.validation import is_frame
from bayesdl.estimators.base import AbstractEstimator
from bayesdl.frozen.spec import Frozen
from bayesdl.model.base import AbstractModel
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.typing import ColumnLike, EngineLike, TableLike, Values


class CalibratedBayes(AbstractEstimator):
    """Any estimator of scikit-learn's kind, with predictions that say how sure they are.

    A small Bayesian model (`bayesdl.Frozen`) of y given the estimator's predictions is fitted to
    predictions of rows that the estimator had not seen, by cross-validation. Then the estimator is
    fitted to all rows. Means of numbers are the estimator's own.

    Args:
        estimator: the estimator, not fitted yet.
        head: as in `bayesdl.Frozen`; None is "generalised" for numbers and "temperature" for
            classes.
        cv: the number of parts, or a splitter, as in scikit-learn.
        engine: an engine, its name such as "laplace", or "auto".
        seed: the seed of all randomness in `fit`.
        progress: whether to show a progress bar.

    Attributes:
        estimator_: the fitted estimator.
        posterior_: the posterior of y given its predictions.
        classes_: the labels, for classifiers.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> model = CalibratedBayes(LinearRegression(), head="normal", engine="laplace")
        >>> model = model.fit(X, 2 * X[:, 0] + 0.2 * np.sin(99 * X[:, 0]))
        >>> model.predict_interval(X[:3]).shape
        (2, 3)
    """

    def __init__(
        self,
        estimator: Any = None,
        head: str | None = None,
        cv: Any = 5,
        engine: EngineLike = "auto",
        seed: Values = 0,
        progress: Values = False,
    ) -> None:
        self.estimator = estimator
        self.head = head
        self.cv = cv
        self.engine = engine
        self.seed = seed
        self.progress = progress

    def fit(self, X: TableLike, y: ColumnLike) -> CalibratedBayes:
        """Fit the estimator, and the model of its predictions.

        Args:
            X: the inputs.
            y: the targets.
        """
        table, target = self._training_data(X, y)
        classes = is_classifier(self.estimator)
        how = "predict_proba" if classes else "predict"
        said: Any = cross_val_predict(self.estimator, table, target, cv=self.cv, method=how)
        fresh: Any = clone(self.estimator)
        self.estimator_ = fresh.fit(table, target)
        head = self.head or ("temperature" if classes else "generalised")
        if classes:
            self.classes_ = self.estimator_.classes_
            target = np.searchsorted(self.classes_, np.asarray(target))
        model = Frozen(None, head=head)
        self._fit(model, self._said(table, said), target, None, {})
        return self

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the estimator's predictions; of classes the most probable label."""
        if is_classifier(self.estimator):
            return self.classes_[self.predict_proba(X).argmax(1)]
        return self._predict(X).mean

    def predict_proba(self, X: TableLike) -> np.ndarray:
        """Return calibrated probabilities, shape (rows, classes)."""
        return self._predict(X).probs

    def predict_interval(self, X: TableLike, level: float = 0.9) -> np.ndarray:
        """Return lower and upper bounds, shape (2, rows).

        Args:
            X: the new rows.
            level: the probability of the intervals.
        """
        return self._predict(X).interval(level)

    def score(self, X: TableLike, y: ColumnLike, sample_weight: ColumnLike | None = None) -> float:
        """Return the accuracy of a classifier, R squared of a regressor, as scikit-learn does.

        Args:
            X: the rows.
            y: their targets.
            sample_weight: the rows' weights.
        """
        measure = accuracy_score if is_classifier(self.estimator) else r2_score
        return float(measure(y, self.predict(X), sample_weight=sample_weight))

    def _predict(self, X: TableLike, seed: int | None = None) -> AbstractPrediction:
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        how = "predict_proba" if is_classifier(self.estimator) else "predict"
        said = getattr(self.estimator_, how)(X)
        return self.posterior_.predict(self._said(X, said), seed=seed, double=True)

    def _said(self, X: TableLike, said: np.ndarray) -> Any:
        """Return what the estimator said, and what it was told, as the model takes them."""
        if is_classifier(self.estimator):
            return said
        if is_frame(X):
            table: Any = X
            table = table.copy()
            table.insert(0, "prediction", said)
            return table
        return np.column_stack([said, np.asarray(X)])

    @staticmethod
    def _default_model() -> AbstractModel:
        return Frozen(None, head="generalised")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimator is not None:
            own = get_tags(self.estimator)
            tags.estimator_type = own.estimator_type
            tags.classifier_tags, tags.regressor_tags = own.classifier_tags, own.regressor_tags
        return tags
