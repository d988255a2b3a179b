"""The target: its kind, classes and scaling, learned once and applied to every target after."""

from __future__ import annotations

import dataclasses

import numpy as np
from jax.typing import ArrayLike

from bayesdl.data.validation import DataError, is_frame, numbers, rectangular
from bayesdl.typing import TargetKind, Values


@dataclasses.dataclass(frozen=True)
class Target:
    """The target.

    Attributes:
        names: the names of the target columns.
        kind: "real", "count" or "class".
        flat: whether y was one column, given and predicted as shape (rows,).
        classes: the sorted labels of a class target, otherwise None.
        shift: the number subtracted from each target column.
        scale: the number that each target column is divided by.
    """

    names: tuple[str, ...]
    kind: TargetKind
    flat: bool
    classes: tuple | None
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def num_targets(self) -> int:
        """The number of target columns, or of classes."""
        return len(self.classes) if self.classes is not None else len(self.scale)

    @classmethod
    def learn(
        cls, y: Values, kind: TargetKind, standardize: bool, two_classes: bool = False
    ) -> Target:
        """Learn classes or scaling.

        Args:
            y: the training targets.
            kind: "real", "count" or "class".
            standardize: whether real targets are standardised.
            two_classes: whether no more than two classes are allowed.

        Raises:
            DataError: for a target of the wrong kind.
        """
        names = (
            tuple(map(str, y.columns)) if is_frame(y) else (str(getattr(y, "name", None) or "y"),)
        )
        if kind == "class":
            return cls(names, kind, True, _class_labels(y, two_classes), (0.0,), (1.0,))
        values, flat = real_targets(y)
        width = values.shape[1]
        names = names if len(names) == width else tuple(f"y{j}" for j in range(width))
        if kind == "count":
            _check_counts(values)
        if kind == "count" or not standardize:
            return cls(names, kind, flat, None, (0.0,) * width, (1.0,) * width)
        shift, scale = values.mean(0), values.std(0)
        if np.any(scale <= 1e-12 * np.abs(values).max(0)):
            raise DataError(
                f"The target is constant (every value is {values[0].tolist()}): there is nothing "
                "to learn from it."
            )
        return cls(names, kind, flat, None, tuple(map(float, shift)), tuple(map(float, scale)))

    def read(self, y: Values) -> np.ndarray:
        """Return the target as programs see it: standardised numbers, counts, or class indices.

        Raises:
            DataError: for unseen classes, negative counts, or another number of targets.
        """
        if self.kind == "class":
            return _class_indices(y, self.classes)
        values, _ = real_targets(y)
        if values.shape[1] != len(self.scale):
            raise DataError(
                f"y has {values.shape[1]} columns, expected {len(self.scale)} as in training."
            )
        if self.kind == "count":
            _check_counts(values)
        values = (values - np.array(self.shift)) / np.array(self.scale)
        return values[:, 0] if values.shape[1] == 1 else values

    def in_units(self, values: ArrayLike) -> np.ndarray:
        """Return numbers in the units of y; class indices stay as they are.

        Args:
            values: numbers as the program sees them, shape (...) or (..., targets).
        """
        if self.classes is not None:
            return np.asarray(values)
        if len(self.scale) == 1:
            return np.asarray(self.shift[0] + np.asarray(values) * self.scale[0])
        return np.asarray(np.array(self.shift) + np.asarray(values) * np.array(self.scale))


def plain(y: Values) -> np.ndarray:
    """Return y as an array, one column as one dimension.

    Raises:
        DataError: for no targets.
    """
    array = rectangular("y", y)
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"y is empty: got shape {array.shape}, expected one target per row.")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def real_targets(y: Values) -> tuple[np.ndarray, bool]:
    """Return finite doubles of shape (rows, targets), and whether there was a single column.

    Raises:
        DataError: for anything else.
    """
    array = plain(y)
    if np.iscomplexobj(array):
        raise DataError("Complex data not supported: y has complex numbers.")
    if array.ndim > 2:
        raise DataError(
            f"y has {array.ndim} dimensions: got shape {array.shape}, expected (rows,) or "
            "(rows, targets)."
        )
    flat = array.ndim == 1
    columns = array[:, None] if flat else array
    values = [numbers("y" if flat else f"y{j}", columns[:, j]) for j in range(columns.shape[1])]
    return np.stack(values, axis=1), flat


def _check_counts(values: np.ndarray) -> None:
    """Refuse numbers that are no counts.

    Raises:
        DataError: naming the first row that has one.
    """
    bad = np.argwhere((values < 0) | (values != np.round(values)))
    if len(bad):
        row, column = map(int, bad[0])
        raise DataError(
            f"A count likelihood needs whole numbers >= 0: y in row {row} is "
            f"{values[row, column]:g}. Use likelihood=bdl.Normal() for real targets."
        )


def _labels(y: Values) -> np.ndarray:
    """Return class labels, shape (rows,).

    Raises:
        DataError: for a missing label, or more than one column.
    """
    array = plain(y)
    # NumPy has made texts of the numbers in a list
    if array.dtype.kind in "US" and isinstance(y, list | tuple):
        array = plain(np.array(y, dtype=object))
    if array.ndim != 1:
        raise DataError(f"Class labels must be one column: y has shape {array.shape}.")
    if array.dtype.kind == "f":
        numbers("y", array)
    missing = [row for row, value in enumerate(array) if _is_missing(value)]
    if missing:
        raise DataError(f"y has no label in row {missing[0]}: drop the row.")
    return array


def _is_missing(label: object) -> bool:
    """Return whether a label is None, NaN or pandas' NA."""
    try:
        return label is None or bool(label != label)
    # pandas' NA does not compare
    except TypeError:
        return True


def _class_labels(y: Values, two_classes: bool) -> tuple:
    """Return the sorted class labels as plain Python values.

    Raises:
        DataError: for labels that are no classes, or too many or too few of them.
    """
    array = _labels(y)
    if array.dtype.kind == "f" and np.any(array != np.round(array)):
        raise DataError(
            "Unknown label type: y holds real numbers "
            f"(e.g. {array[array != np.round(array)][0]:g}), and a class likelihood needs labels. "
            "Use likelihood=bdl.Normal() for regression."
        )
    try:
        classes = np.unique(array)
    except TypeError:
        kinds = " and ".join(sorted({type(value).__name__ for value in array.tolist()}))
        raise DataError(
            f"y mixes labels of types {kinds}, which have no order: make them all text, or all "
            "numbers."
        ) from None
    if len(classes) < 2:
        raise DataError(f"y has one class, {classes[0]!r}: got 1 class, expected at least 2.")
    if two_classes and len(classes) > 2:
        raise DataError(
            f"Bernoulli takes two classes and y has {len(classes)}: use "
            "likelihood=bdl.Categorical()."
        )
    if len(classes) > max(20, len(array) // 2):
        raise DataError(
            f"y has {len(classes)} classes in {len(array)} rows: is this a regression? Use "
            "likelihood=bdl.Normal()."
        )
    return tuple(classes.tolist())


def _class_indices(y: Values, classes: tuple | None) -> np.ndarray:
    """Return the indices of labels among the classes, shape (rows,).

    Raises:
        DataError: for a label that is none of the classes.
    """
    known, array = np.array(classes), _labels(y)
    seen = set(known.tolist())
    unseen = [value for value in array.tolist() if value not in seen]
    if unseen:
        raise DataError(
            f"y has the unseen class {unseen[0]!r}: expected one of {list(known.tolist())[:10]}."
        )
    return np.searchsorted(known, array).astype(np.int32)
