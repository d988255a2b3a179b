"""scikit-learn estimators: any spec and any engine behind `fit` and `predict`.

They clone, pickle, and work in pipelines, cross-validation and grid searches over `model` and
`engine`, as a whole (`model=[bdl.BNN(), bdl.GP()]`) or by their fields (`model__hidden=[(10,),
(50,)]`, `model__prior__scale=[1.0, 3.0]`, `engine__num_samples=[500]`). Tables may have missing
cells, categories and dates. Names and shapes are scikit-learn's; the posterior with everything else
is `posterior_`.
"""

from __future__ import annotations

import abc
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from bayesdl.bnn.spec import BNN
from bayesdl.data.frames import as_target, from_other_libraries
from bayesdl.data.target import missing_targets
from bayesdl.data.validation import is_frame
from bayesdl.fitting import fit
from bayesdl.model.base import AbstractModel
from bayesdl.model.likelihoods import Bernoulli, Categorical
from bayesdl.model.program import as_model
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.saving.bundle import load
from bayesdl.typing import ColumnLike, EngineLike, TableLike, Values


class AbstractEstimator(BaseEstimator, abc.ABC):
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

    def set_params(self, **params: Any) -> Any:
        """Set parameters, also fields of specs: `set_params(model__hidden=(10,))`.

        Raises:
            ValueError: for a name that is no parameter, or no field.
        """
        nested: dict[str, dict[str, Any]] = {}
        for key in [key for key in params if "__" in key]:
            owner, _, field = key.partition("__")
            nested.setdefault(owner, {})[field] = params.pop(key)
        # with a check of the names
        super().set_params(**params, **{owner: getattr(self, owner, None) for owner in nested})
        for owner, fields in nested.items():
            spec = getattr(self, owner)
            setattr(self, owner, _with_fields(owner, self._default(owner, spec), fields))
        return self

    def _default(self, owner: str, spec: object) -> Any:
        """Return a spec, the default one where there is none."""
        return self._default_model() if owner == "model" and spec is None else spec

    @staticmethod
    @abc.abstractmethod
    def _default_model() -> AbstractModel:
        """Return the model where none was given."""

    def _fit(
        self,
        model: AbstractModel,
        X: TableLike,
        y: ColumnLike,
        sample_weight: ColumnLike | None,
        reading: dict[str, Any],
    ) -> None:
        if sample_weight is not None:
            reading = {**reading, "weights": sample_weight}
        settings = {"engine": self.engine, "seed": self.seed, "progress": self.progress}
        self.posterior_ = fit(model, X, y, **settings, **reading)

    def _training_data(self, X: Values, y: Values) -> tuple[Any, Any]:
        """Return X and y after scikit-learn's checks.

        The target keeps its names, and has one dimension where it must.
        """
        if y is None:
            # it raises, since a target is required
            validate_data(self, X, None, skip_check_array=True)  # type: ignore[arg-type]
        given: Any = y
        X = self._validated(X, reset=True)
        target: Any = as_target(given)
        if target.ndim < 2 or self.__sklearn_tags__().target_tags.multi_output:
            return X, target
        return X, column_or_1d(target, warn=True)

    def _validated(self, X: Values, reset: bool) -> Any:
        """Return X after scikit-learn's checks.

        They look at the names only of a DataFrame, since text columns are taken too.
        """
        X = from_other_libraries("X", X)
        # cells that are missing are read by the model
        checks: Any = (
            {"skip_check_array": True} if is_frame(X) else {"ensure_all_finite": "allow-nan"}
        )
        return validate_data(self, X, reset=reset, **checks)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

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
            ValueError: for data that cannot be used, or a model of classes.
        """
        model = as_model(self._default("model", self.model))
        if model.kind == "class":
            raise ValueError(
                f"BayesRegressor predicts numbers, and {model!r} classes: use BayesClassifier."
            )
        self._fit(model, *self._training_data(X, y), sample_weight, reading)
        return self

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
        model = as_model(self._default("model", self.model))
        if self.model is None and len(np.unique(labels)) == 2:
            model = BNN(likelihood=Bernoulli())
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


def _with_fields(owner: str, spec: Any, fields: dict[str, Any]) -> Any:
    """Return a spec with other fields; "prior__scale" is the scale of its prior.

    Raises:
        ValueError: for a name that is no field.
    """
    known = [field.name for field in dataclasses.fields(spec)] if _is_spec(spec) else []
    changed: dict[str, Any] = {}
    for name, value in fields.items():
        field, _, inner = name.partition("__")
        if field not in known:
            raise ValueError(
                f"Invalid parameter {owner}__{name}: {owner} is {spec!r}, expected one of its "
                f"fields {known}."
            )
        part = changed.get(field, getattr(spec, field))
        changed[field] = _with_fields(f"{owner}__{field}", part, {inner: value}) if inner else value
    return dataclasses.replace(spec, **changed)


def _is_spec(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
