"""scikit-learn estimators: any spec and any engine behind `fit` and `predict`.

They clone, pickle, and work in pipelines, cross-validation and grid searches over `model` and
`engine`, as a whole (`model=[bdl.BNN(), bdl.GP()]`) or by their fields (`model__hidden=[(10,),
(50,)]`, `model__prior__scale=[1.0, 3.0]`, `engine__num_samples=[500]`). Tables may have missing
cells, categories and dates. `BayesImputer` and `BayesDensity` take tables without a target. Names
and shapes are scikit-learn's; the posterior with everything else
is `posterior_`.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split

from bayesdl.bnn.spec import BNN
from bayesdl.data.target import missing_targets
from bayesdl.estimators.base import AbstractEstimator
from bayesdl.estimators.calibrated import CalibratedBayes
from bayesdl.estimators.tables import BayesDensity, BayesImputer
from bayesdl.model.base import AbstractModel
from bayesdl.model.likelihoods import Bernoulli, Categorical, Normal
from bayesdl.model.program import as_model
from bayesdl.typing import ColumnLike, EngineLike, TableLike, Values


class BayesRegressor(RegressorMixin, AbstractEstimator):
    """Regression with any model of numbers and any engine.

    Args:
        model: a spec such as `bayesdl.BNN()` or `bayesdl.GP()`. None is `Table()`, or `BNN()` where
            there are several targets, weights, `conformal=True`, an engine, or fields such as
            model__hidden.
        engine: an engine, its name such as "nuts", or "auto".
        seed: the seed of all randomness in `fit`.
        progress: whether to show a progress bar.
        conformal: whether `predict_interval` gives conformal sets, which hold what they say
            whatever the model (see `Posterior.conformal`). True takes all rows for the fit and for
            the sets, which needs an engine that gives draws; a share such as 0.25 holds that part
            of the rows out for the sets, which any engine can do.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> model = BayesRegressor(bdl.BNN(hidden=()), engine="laplace")
        >>> model = model.fit(X, 2 * X[:, 0] + np.sin(9 * X[:, 0]))
        >>> mean, std = model.predict(X[:3], return_std=True)
        >>> mean.shape, std.shape
        ((3,), (3,))
    """

    def __init__(
        self,
        model: object = None,
        engine: EngineLike = "auto",
        seed: Values = 0,
        progress: Values = False,
        conformal: Any = False,
    ) -> None:
        super().__init__(model, engine, seed, progress)
        self.conformal = conformal

    def fit(
        self, X: TableLike, y: ColumnLike, sample_weight: ColumnLike | None = None, **reading: Any
    ) -> BayesRegressor:
        """Fit the model.

        Args:
            X: the inputs, shape (rows, columns) or a DataFrame.
            y: the targets, shape (rows,) or (rows, targets).
            sample_weight: how much each row counts, shape (rows,); whole numbers are counts.
            **reading: how the table is read, as in `bayesdl.fit`: `drop`, `missing`, ...

        Raises:
            ValueError: for data that cannot be used, a model of classes, or conformal sets that
                engine or weights do not allow.
        """
        is_open = self.conformal is not True and np.shape(y)[1:] in ((), (1,))
        model = as_model(self._chosen_model(is_open, sample_weight, Normal()))
        if model.kind == "class":
            raise ValueError(
                f"BayesRegressor predicts numbers, and {model!r} classes: use BayesClassifier."
            )
        held = self._held_share(sample_weight)
        table, target = self._training_data(X, y)
        if held:
            parts = train_test_split(table, target, test_size=held, random_state=self.seed)
            table, out, target, known = parts
            self._fit(model, table, target, None, reading)
            if reading.get("missing_target") == "drop":
                out, known = out[~missing_targets(known)], known[~missing_targets(known)]
            self.posterior_ = self.posterior_.conformal(0.9, out, known)
            return self
        self._fit(model, table, target, sample_weight, reading)
        if self.conformal:
            self._need_draws()
            self.posterior_ = self.posterior_.conformal()
        return self

    def _held_share(self, sample_weight: ColumnLike | None) -> float:
        """Return the share of the rows that is held out for conformal sets.

        Raises:
            ValueError: for anything but True, False or a share, and for rows with weights.
        """
        given = self.conformal
        if given is None or isinstance(given, bool | np.bool_):
            return 0.0
        if not isinstance(given, float | np.floating) or not 0 < given < 1:
            raise ValueError(
                f"BayesRegressor(conformal={given!r}): expected True, False, or the share of the "
                "rows that is held out, e.g. 0.25."
            )
        if sample_weight is not None:
            raise ValueError(
                f"BayesRegressor(conformal={given!r}) ranks each held-out row as one: leave out "
                "sample_weight."
            )
        return float(given)

    def _need_draws(self) -> None:
        """Refuse sets of the training rows by an engine without draws.

        Raises:
            ValueError: naming the share to hold out instead.
        """
        stream, engine = self.posterior_.predict().stream, type(self.posterior_.engine).__name__
        if not stream.draws or not stream.traceable:
            raise ValueError(
                f"BayesRegressor(conformal=True) needs draws, which {engine} does not give: "
                "hold a part of the rows out, BayesRegressor(conformal=0.25)."
            )

    def predict_interval(self, X: TableLike, level: float = 0.9) -> np.ndarray:
        """Return lower and upper bounds, shape (2, rows, ...): central, or conformal where asked.

        Args:
            X: the new rows.
            level: the probability of the intervals.
        """
        return self._predict(X).interval(level)

    @staticmethod
    def _default_model() -> AbstractModel:
        return BNN()

    @overload
    def predict(self, X: TableLike, return_std: Literal[False] = False) -> np.ndarray: ...

    @overload
    def predict(self, X: TableLike, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: TableLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the predictive mean in the units of y.

        Args:
            X: the new rows.
            return_std: whether to return the predictive standard deviation too.
        """
        prediction = self._predict(X)
        return (prediction.mean, prediction.std) if return_std else prediction.mean

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.model is None or as_model(self.model).multi_output
        return tags


class BayesClassifier(ClassifierMixin, AbstractEstimator):
    """Classification with any model of classes and any engine.

    Args:
        model: a spec. None is `Table`, or `BNN` where there are weights, an engine, or fields such
            as model__hidden, with the likelihood `Bernoulli()` for two classes and
            `Categorical()` for more.
        engine: an engine, its name such as "nuts", or "auto".
        seed: the seed of all randomness in `fit`.
        progress: whether to show a progress bar.

    Attributes:
        classes_: the sorted labels.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> spec = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli())
        >>> model = BayesClassifier(spec, engine=bdl.Laplace())
        >>> model.fit(X, np.where(X[:, 0] > 0, "up", "down")).predict([[-0.9], [0.9]]).tolist()
        ['down', 'up']
    """

    def fit(
        self, X: TableLike, y: ColumnLike, sample_weight: ColumnLike | None = None, **reading: Any
    ) -> BayesClassifier:
        """Fit the model.

        Args:
            X: the inputs, shape (rows, columns) or a DataFrame.
            y: the labels, shape (rows,).
            sample_weight: how much each row counts, shape (rows,); whole numbers are counts.
            **reading: how the table is read, as in `bayesdl.fit`: `drop`, `missing`, ...

        Raises:
            ValueError: for data that cannot be used, or a model of numbers.
        """
        table, target = self._training_data(X, y)
        labels = np.asarray(target)[~missing_targets(target)] if len(target) else target
        likelihood = Bernoulli() if len(np.unique(labels)) == 2 else Categorical()
        model = as_model(self._chosen_model(True, sample_weight, likelihood))
        if model.kind not in ("class", None):
            raise ValueError(
                f"BayesClassifier predicts classes, and {model!r} numbers: use BayesRegressor."
            )
        self._fit(model, table, target, sample_weight, reading)
        self.classes_ = np.unique(labels)
        return self

    @staticmethod
    def _default_model() -> AbstractModel:
        return BNN(likelihood=Categorical())

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the most probable label per row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: TableLike) -> np.ndarray:
        """Return P(y = class | x, data), shape (rows, classes), in the order of `classes_`."""
        prediction = self._predict(X)
        return prediction.probs


__all__ = ["BayesClassifier", "BayesDensity", "BayesImputer", "BayesRegressor", "CalibratedBayes"]
