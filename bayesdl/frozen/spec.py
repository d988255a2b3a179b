"""A model of y given what a frozen predictor says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from bayesdl.data.frames import as_table
from bayesdl.data.table import AbstractSchema
from bayesdl.data.target import Target
from bayesdl.data.validation import DataError, ModelError, is_frame
from bayesdl.frozen import predictors
from bayesdl.frozen.base import AbstractFrozen
from bayesdl.frozen.program import CLASS_HEADS, NUMBER_HEADS, class_head, number_head
from bayesdl.frozen.schema import FrozenSchema
from bayesdl.model.examples import Example
from bayesdl.model.likelihoods import AbstractLikelihood, Categorical, Normal
from bayesdl.typing import TableLike, Values

# columns of X that may be features beside the prediction
MOST_COLUMNS = 60

Labels: TypeAlias = Sequence[object] | np.ndarray | None
"""Classes in the order of columns; None where nothing says them."""


@dataclasses.dataclass(frozen=True)
class Frozen(AbstractFrozen):
    """A model of y given what a predictor that exists already says; the predictor stays as it is.

    Fit it to rows that the predictor was not trained on: what it says of its own training rows is
    too good. Numbers keep the prediction as their mean, and learn a scale for each row; classes
    keep the order of their log-probabilities as far as the head does (see
    `bayesdl.frozen.program` for the formulas).

    Args:
        predictor: an object with `predict` or `predict_proba` (scikit-learn, LightGBM, ...), a
            torch module in evaluation mode, an Equinox module that maps one row, or a function of
            the rows, which gets them as they are given. None where X are the predictions
            themselves: one column, which further columns may follow as features, or the
            probabilities of classes.
        head: "generalised" (normal), "normal" or "student" for numbers, "temperature", "vector" or
            "dirichlet" for classes. None is "temperature" for predictors that say they predict
            classes, and "generalised" for all others.
        features: what the scale of numbers depends on: "inputs", the prediction and the columns of
            X, or "prediction" alone.
        logits: whether answers for classes are logits; None (the default) takes modules and
            decision functions to give logits, and all else probabilities.

    Example:
        >>> import bayesdl as bdl
        >>> from sklearn.linear_model import LinearRegression
        >>> x = np.linspace(0, 1, 80)[:, None]
        >>> y = 2 * x[:, 0] + 0.3 * x[:, 0] * np.sin(99 * x[:, 0])
        >>> line = LinearRegression().fit(x[::2], y[::2])
        >>> model = Frozen(line, head="normal")
        >>> post = bdl.fit(model, x[1::2], y[1::2], engine=bdl.Laplace(), progress=False)
        >>> pred = post.predict(np.array([[0.1], [0.9]]))
        >>> bool(np.allclose(pred.mean, line.predict([[0.1], [0.9]]), atol=1e-5))
        True
        >>> bool(pred.std[1] > pred.std[0])
        True
    """

    predictor: Any = None
    head: str | None = None
    features: str = "inputs"
    logits: bool | None = None

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        random = np.random.default_rng(0)
        f = random.normal(size=24)
        y = f + 0.3 * np.exp(0.5 * f) * random.normal(size=24)
        return (Example("Frozen", cls(head="normal", features="prediction"), (f[:, None], y)),)

    def __post_init__(self) -> None:
        known = (*NUMBER_HEADS, *CLASS_HEADS)
        if self.head is not None and self.head not in known:
            raise ValueError(
                f"Frozen(head={self.head!r}): expected one of {', '.join(map(repr, known))}."
            )
        if self.features not in ("inputs", "prediction"):
            raise ValueError(
                f"Frozen(features={self.features!r}): expected 'inputs' or 'prediction'."
            )
        if isinstance(self.predictor, type):
            raise ModelError(
                f"Frozen({self.predictor.__name__}): expected a fitted predictor, got a class."
            )

    @property
    def _head(self) -> str:
        """The head that was asked for, or the one that the predictor calls for."""
        if self.head is not None:
            return self.head
        return "temperature" if predictors.gives_classes(self.predictor) else "generalised"

    @property
    def _is_class(self) -> bool:
        return self._head in CLASS_HEADS

    @property
    def likelihood(self) -> AbstractLikelihood:
        return Categorical() if self._is_class else Normal()

    @property
    def standardize(self) -> bool:
        return not self._is_class

    def in_units(self, scale: tuple[float, ...]) -> Frozen:
        # the program needs no predictor, and compares by value without it
        return dataclasses.replace(self, predictor=None, head=self._head)

    def without_code(self) -> Frozen:
        # the predictor says which head it calls for
        return dataclasses.replace(super().without_code(), head=self._head)

    def program(self, X: jax.Array, y: jax.Array | None = None, *, num_targets: int = 1) -> None:
        (class_head if self._is_class else number_head)(self._head, X, y)

    def learn_schema(
        self, X: Values = None, y: Values = None, *, weights: Values = None, **options: Any
    ) -> FrozenSchema:
        """Learn predictions, features and target.

        Args:
            X: the rows that the predictor takes, or its predictions.
            y: the targets.
            weights: how much each row counts.
            **options: how the table is read.

        Raises:
            DataError: for predictions that are not finite, do not sum to one, differ when asked
                for twice, or do not go with the labels.
        """
        if X is None or y is None:
            found = super().learn_schema(X, y, weights=weights, **options)
            return FrozenSchema(found.columns, found.target, found.reading)
        self._check_labels(X, y, weights)
        table = self._table(X)
        answers = self._answers(table)
        if not self._is_class and np.ptp(answers) == 0:
            raise DataError(
                f"The predictor says {answers.flat[0]:g} of every row: expected answers that vary."
            )
        found = super().learn_schema(table, y, weights=weights, **options)
        if self._is_class:
            target = self._with_classes(found.target, self._known_classes(X), answers.shape[1])
            found = dataclasses.replace(found, target=target)
        else:
            found = _in_units_of_target(found)
        return self._schema(found, X, table)

    def _known_classes(self, X: TableLike) -> Any:
        """Return the classes that the predictor, or the names of columns, say; None for neither."""
        if self.predictor is not None:
            return getattr(self.predictor, "classes_", None)
        table = as_table(X)
        names = list(table.columns) if is_frame(table) else []
        found = [label for name in names if (label := predictors.label_in(name)) is not None]
        return found or None

    def _with_classes(
        self, target: Target, known: Sequence[object] | np.ndarray | None, count: int
    ) -> Target:
        """Return the target with the classes of the predictor, which may be more.

        Raises:
            DataError: where labels are none of them.
        """
        labels = target.classes or ()
        if known is None and len(labels) != count and all(isinstance(k, int) for k in labels):
            known = np.arange(count)
        if known is None and len(labels) != count:
            raise DataError(
                f"y has {len(labels)} classes and the predictor gives {count} probabilities: give "
                "rows of every class, or labels 0, 1, ... that number the columns."
            )
        if known is None:
            return target
        classes = tuple(np.asarray(known).tolist())
        if all(isinstance(label, str) for label in classes):
            # names of columns are texts
            texts = {str(label): label for label in labels}
            classes = tuple(texts.get(label, label) for label in classes)
        unseen = [label for label in labels if label not in classes]
        if unseen:
            raise DataError(
                f"y has the label {unseen[0]!r}, which the predictor does not know: expected one "
                f"of {list(classes)[:10]}."
            )
        return dataclasses.replace(target, classes=classes)

    def _table(self, X: TableLike) -> Any:
        """Return predictions, and features beside them, as a table."""
        self._refuse_none()
        if self._is_class:
            return predictors.log_probabilities(self.predictor, X, self.logits)
        f = predictors.numbers(self.predictor, X)
        if self.features == "prediction":
            return f[:, None]
        table = as_table(predictors.without_torch(X))
        if is_frame(table):
            name = predictors.prediction_column(table)
            rest = table.drop(columns=name) if self.predictor is None else table.copy()
            rest.insert(0, "f(x)", f)
            return rest
        rest = table.reshape(len(f), -1)
        rest = rest[:, 1:] if self.predictor is None else rest
        if rest.dtype.kind not in "iufb" or rest.shape[1] > MOST_COLUMNS:
            return f[:, None]
        return np.concatenate([f[:, None], rest], axis=1)

    def _answers(self, table: TableLike) -> np.ndarray:
        known: Any = table
        values = known.iloc[:, :1].to_numpy(np.float64) if is_frame(known) else np.asarray(known)
        return values if self._is_class else values[:, :1]


def _in_units_of_target(schema: AbstractSchema) -> AbstractSchema:
    """Return the schema that reads predictions in units of the standardised target.

    Raises:
        DataError: for several targets.
    """
    target, columns = schema.target, schema.columns
    if len(target.scale) != 1:
        raise DataError(f"Frozen takes one target, and y has {len(target.scale)} columns.")
    shift = (target.shift[0], *columns.shift[1:])
    scale = (target.scale[0], *columns.scale[1:])
    return dataclasses.replace(
        schema, columns=dataclasses.replace(columns, shift=shift, scale=scale)
    )
