"""Estimators of tables without a target: missing cells are filled, rows get densities."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import DensityMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from bayesdl.circuits.spec import Circuit
from bayesdl.estimators.base import AbstractFitted
from bayesdl.fitting import fit
from bayesdl.model.base import AbstractModel
from bayesdl.model.program import as_model
from bayesdl.typing import EngineLike, TableLike, Values


class AbstractTableEstimator(AbstractFitted):
    """The common part of imputer and density: a circuit of all columns."""

    def fit(self, X: TableLike, y: object = None, **reading: Any) -> Any:
        """Fit the circuit.

        Args:
            X: the rows, with missing cells as NaN, None or NA; an array or a DataFrame.
            y: nothing; it is not looked at.
            **reading: how the table is read, as in `bayesdl.fit`: `drop` and `unseen`.

        Raises:
            ValueError: for data that cannot be used.
        """
        table = self._validated(X, reset=True, least=2)
        model: Any = self._default("model", self.model)
        if not {"fill", "impute", "density"} <= set(as_model(model).verbs()):
            raise ValueError(
                f"{type(self).__name__}(model={model!r}): expected bdl.Circuit(...), or None."
            )
        settings = {"engine": self.engine, "seed": self.seed, "progress": self.progress}
        self.posterior_ = fit(model, table, **settings, **reading)
        return self

    def _known(self, X: TableLike) -> tuple[Any, Any]:
        """Return the posterior, and new rows after scikit-learn's checks."""
        check_is_fitted(self)
        return self.posterior_, self._validated(X, reset=False)

    @staticmethod
    def _default_model() -> AbstractModel:
        return Circuit()


class BayesImputer(OneToOneFeatureMixin, TransformerMixin, AbstractTableEstimator):
    """Missing cells of mixed columns, filled from their distribution given the rest of their row.

    Numbers get their mean and categories the most probable one, or both one draw. Several draws
    give several completed tables, whose results are pooled by Rubin's rules.

    Args:
        model: `bayesdl.Circuit(...)`; None is `Circuit()`.
        engine: "vbem", "em" or another engine; "auto" is the first.
        seed: the seed of all randomness.
        progress: whether to show a progress bar.
        sample_posterior: whether `transform` draws cells in place of their most likely values.

    Example:
        >>> import bayesdl as bdl
        >>> x = np.random.default_rng(0).normal(size=60)
        >>> X = np.stack([x, 2 * x], axis=1)
        >>> X[0, 1] = np.nan
        >>> imputer = BayesImputer(bdl.Circuit(states=1)).fit(X)
        >>> bool(abs(imputer.transform(X)[0, 1] - 2 * x[0]) < 0.5)
        True
        >>> len(imputer.sample(X, n_samples=5))
        5
    """

    def __init__(
        self,
        model: object = None,
        engine: EngineLike = "auto",
        seed: Values = 0,
        progress: Values = False,
        sample_posterior: Values = False,
    ) -> None:
        super().__init__(model, engine, seed, progress)
        self.sample_posterior = sample_posterior

    def transform(self, X: TableLike) -> Any:
        """Return the rows without missing cells; known cells, names and their order stay.

        Args:
            X: the rows, with the columns of the training rows.

        Raises:
            ValueError: for other columns, or categories that the training rows had not.
        """
        posterior, table = self._known(X)
        if self.sample_posterior:
            return posterior.impute(table, draws=1)[0]
        return posterior.fill(table)

    def sample(
        self,
        X: TableLike,
        n_samples: int = 20,
        random_state: int | np.random.RandomState | None = 0,
    ) -> list[Any]:
        """Return several completed tables: cells are drawn together, numbers of the circuit too.

        Args:
            X: the rows, with the columns of the training rows.
            n_samples: the number of tables.
            random_state: None, a seed or a NumPy RandomState.
        """
        posterior, table = self._known(X)
        return posterior.impute(table, draws=n_samples, seed=as_seed(random_state))


class BayesDensity(DensityMixin, AbstractTableEstimator):
    """The density of rows of mixed columns with missing cells, and new rows.

    Args:
        model: `bayesdl.Circuit(...)`; None is `Circuit()`.
        engine: "vbem", "em" or another engine; "auto" is the first.
        seed: the seed of all randomness in `fit`.
        progress: whether to show a progress bar.

    Example:
        >>> import bayesdl as bdl
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = BayesDensity(bdl.Circuit(states=1)).fit(X)
        >>> near, far = density.score_samples([[0.0, 0.0], [9.0, 9.0]])
        >>> bool(near > far), density.sample(3, random_state=0).shape
        (True, (3, 2))
    """

    def score_samples(self, X: TableLike) -> np.ndarray:
        """Return log p(row) of the cells that are known, shape (rows,).

        Numbers count in densities in their own units, categories in probabilities.
        """
        posterior, table = self._known(X)
        return posterior.density(table)

    def score(self, X: TableLike, y: object = None) -> float:
        """Return the mean log density of rows."""
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Any:
        """Return new rows: a DataFrame where the training rows were one, otherwise an array.

        Args:
            n_samples: the number of rows.
            random_state: None, a seed or a NumPy RandomState.
        """
        check_is_fitted(self)
        drawn = self.posterior_.sample(n_samples, seed=as_seed(random_state))
        return drawn if self.posterior_.schema.named else drawn.to_numpy()


def as_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed from what scikit-learn takes."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
