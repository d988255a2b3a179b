"""scikit-learn estimators: any spec and any engine behind `fit` and `predict`.

They clone, pickle, and work in pipelines, cross-validation and grid searches over `model` and
`engine`. Names and shapes are scikit-learn's; the posterior with everything else is `posterior_`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from bayesdl.bnn.spec import BNN
from bayesdl.data.validation import is_frame
from bayesdl.fitting import fit
from bayesdl.model.base import AbstractModel
from bayesdl.model.likelihoods import Bernoulli, Categorical
from bayesdl.model.program import as_model
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.saving.bundle import load
from bayesdl.typing import ColumnLike, EngineLike, TableLike, Values


class AbstractEstimator(BaseEstimator):
    """The common part of regressor and classifier.

    Settings are stored untouched, as scikit-learn asks.

    Attributes:
        posterior_: the `bayesdl` posterior.
        n_features_in_: the number of columns of X.
        feature_names_in_: the names of the columns, where X was a DataFrame with text names.
    """

    def __init__(
        self,
        model: object = None,
        engine: EngineLike = "auto",
        seed: Values = 0,
        progress: Values = False,
    ) -> None:
        self.model = model
        self.engine = engine
        self.seed = seed
        self.progress = progress

    def sample_y(
        self,
        X: TableLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Simulate targets from the predictive distribution.

        Args:
            X: the new rows.
            n_samples: the number of simulated targets per row; each has its own draw of the
                function, shared by all rows.
            random_state: None, a seed or a NumPy RandomState.

        Returns:
            The targets, shape (rows, n_samples) or (rows, targets, n_samples).
        """
        random = check_random_state(random_state)
        prediction = self._predict(X, seed=int(random.randint(2**31 - 1)))
        return np.moveaxis(prediction.sample(n_samples), 0, -1)

    def _fit(self, model: AbstractModel, X: TableLike, y: ColumnLike) -> None:
        self.posterior_ = fit(
            model, X, y, engine=self.engine, seed=self.seed, progress=self.progress
        )

    def _training_data(self, X: Values, y: Values) -> tuple[Any, Any]:
        """Return X and y after scikit-learn's checks.

        The target keeps its names, and has one dimension where it must.
        """
        if y is None:
            # it raises, since a target is required
            validate_data(self, X, None, skip_check_array=True)  # type: ignore[arg-type]
        X = self._validated(X, reset=True)
        target: Any = y if hasattr(y, "iloc") else np.asarray(y)
        if target.ndim < 2 or self.__sklearn_tags__().target_tags.multi_output:
            return X, target
        return X, column_or_1d(target, warn=True)

    def _validated(self, X: Values, reset: bool) -> Any:
        """Return X after scikit-learn's checks.

        They look at the names only of a DataFrame, since text columns are taken too.
        """
        return validate_data(self, X, reset=reset, skip_check_array=is_frame(X))

    def _predict(self, X: TableLike, seed: int | None = None) -> AbstractPrediction:
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        # in double precision, since scikit-learn compares predictions to 1e-7
        return self.posterior_.predict(X, seed=seed, double=True)

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        state = dict(state)
        # compiled functions cannot be pickled, so the posterior goes as the bytes of its bundle
        if "posterior_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = state["posterior_"].save(Path(folder) / "posterior.bdl")
                state["posterior_"] = path.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(state.get("posterior_"), bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "posterior.bdl"
                path.write_bytes(state["posterior_"])
                self.posterior_ = load(path, cast(Any, self.model))


class BayesRegressor(RegressorMixin, AbstractEstimator):
    """Regression with any model of numbers and any engine.

    Args:
        model: a spec such as `bayesdl.BNN()` or `bayesdl.GP()`; None is `BNN()`.
        engine: an engine, its name such as "nuts", or "auto".
        seed: the seed of all randomness in `fit`.
        progress: whether to show a progress bar.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> model = BayesRegressor(bdl.BNN(hidden=()), engine="laplace")
        >>> model = model.fit(X, 2 * X[:, 0] + np.sin(9 * X[:, 0]))
        >>> mean, std = model.predict(X[:3], return_std=True)
        >>> mean.shape, std.shape
        ((3,), (3,))
    """

    def fit(self, X: TableLike, y: ColumnLike) -> BayesRegressor:
        """Fit the model.

        Args:
            X: the inputs, shape (rows, columns) or a DataFrame.
            y: the targets, shape (rows,) or (rows, targets).

        Raises:
            ValueError: for data that cannot be used, or a model of classes.
        """
        model = BNN() if self.model is None else as_model(self.model)
        if model.kind == "class":
            raise ValueError(
                f"BayesRegressor predicts numbers, and {model!r} classes: use BayesClassifier."
            )
        self._fit(model, *self._training_data(X, y))
        return self

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
        model: a spec; None is `BNN(likelihood=Bernoulli())` for two classes and
            `BNN(likelihood=Categorical())` for more.
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

    def fit(self, X: TableLike, y: ColumnLike) -> BayesClassifier:
        """Fit the model.

        Args:
            X: the inputs, shape (rows, columns) or a DataFrame.
            y: the labels, shape (rows,).

        Raises:
            ValueError: for data that cannot be used, or a model of numbers.
        """
        X, y = self._training_data(X, y)
        if self.model is None:
            two_classes = len(np.unique(np.asarray(y))) == 2
            model = BNN(likelihood=Bernoulli() if two_classes else Categorical())
        else:
            model = as_model(self.model)
        if model.kind not in ("class", None):
            raise ValueError(
                f"BayesClassifier predicts classes, and {model!r} numbers: use BayesRegressor."
            )
        self._fit(model, X, y)
        self.classes_ = np.unique(np.asarray(y))
        return self

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the most probable label per row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: TableLike) -> np.ndarray:
        """Return P(y = class | x, data), shape (rows, classes), in the order of `classes_`."""
        prediction = self._predict(X)
        return prediction.probs
