"""The common part of estimators: settings, checks of data, and pickling."""

from __future__ import annotations

import abc
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from bayesdl.average.spec import Table
from bayesdl.bnn.spec import BNN
from bayesdl.data.frames import as_target, from_other_libraries
from bayesdl.data.validation import is_frame
from bayesdl.engines import leaves_model_open
from bayesdl.fitting import fit
from bayesdl.model.base import AbstractModel
from bayesdl.model.likelihoods import AbstractLikelihood
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.saving.bundle import load
from bayesdl.typing import ColumnLike, EngineLike, TableLike, Values


class AbstractFitted(BaseEstimator, abc.ABC):
    """The common part of all estimators: settings, checks of X, and files in place of pickles.

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
        """Return the model whose fields are set where none was given."""

    def _validated(self, X: Values, reset: bool, least: int = 1) -> Any:
        """Return X after scikit-learn's checks.

        They look at the names only of a DataFrame, since text columns are taken too.

        Args:
            X: the rows.
            reset: whether they are training rows.
            least: the smallest number of rows of an array.
        """
        X = from_other_libraries("X", X)
        # cells that are missing are read by the model
        checks: Any = (
            {"skip_check_array": True}
            if is_frame(X)
            else {"ensure_all_finite": "allow-nan", "ensure_min_samples": least}
        )
        return validate_data(self, X, reset=reset, **checks)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

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
                self.posterior_ = load(path, cast(Any, getattr(self, "model", None)))


class AbstractEstimator(AbstractFitted):
    """The common part of regressor and classifier.

    Attributes:
        posterior_: the `bayesdl` posterior.
        n_features_in_: the number of columns of X.
        feature_names_in_: the names of the columns, where X was a DataFrame with text names.
    """

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

    def _chosen_model(
        self, is_open: bool, sample_weight: object, likelihood: AbstractLikelihood
    ) -> Any:
        """Return the model that is fitted: the given one, or the default.

        Args:
            is_open: whether an average of models can do what is asked.
            sample_weight: the weights of the rows, if any.
            likelihood: the likelihood of the default.
        """
        if self.model is not None:
            return self.model
        is_open = is_open and sample_weight is None and leaves_model_open(self.engine)
        spec = Table if is_open else BNN
        return spec(likelihood=likelihood)

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

    def _predict(self, X: TableLike, seed: int | None = None) -> AbstractPrediction:
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        # in double precision, since scikit-learn compares predictions to 1e-7
        return self.posterior_.predict(X, seed=seed, double=True)


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
