"""The target: its kind, classes and scaling, learned once and applied to every target after."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from bayesdl.data.cells import as_numbers
from bayesdl.data.columns import SPREAD
from bayesdl.data.frames import as_target
from bayesdl.data.validation import (
    FARTHEST,
    LARGEST,
    DataError,
    Problems,
    check_distances,
    check_magnitudes,
    is_frame,
    is_series,
    some_rows,
)
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
        ordered: whether the classes have an order, so that they have quantiles.
    """

    names: tuple[str, ...]
    kind: TargetKind
    flat: bool
    classes: tuple | None
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    ordered: bool = False

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
        y = as_target(y)
        names = _names(y)
        if kind == "class":
            return cls(names, kind, True, _class_labels(y, two_classes), (0.0,), (1.0,))
        values, flat = real_targets(y)
        width = values.shape[1]
        if kind == "count":
            _check_counts(values)
        if kind == "count" or not standardize:
            return cls(names, kind, flat, None, (0.0,) * width, (1.0,) * width)
        shift, scale = values.mean(0), values.std(0)
        spread, largest = np.ptp(values, axis=0), np.abs(values).max(0)
        if np.any(spread <= SPREAD * largest):
            same = spread.max() == 0
            rounding = "" if same else ", but for rounding"
            raise DataError(
                f"The target is constant (every value is {values[0].tolist()}{rounding}): there is "
                "nothing to learn from it."
            )
        if np.any((largest > 0) & (largest < 1 / LARGEST)):
            raise DataError(
                f"The target has no number above {largest.max():g}, whose square is zero in double "
                "precision: give it in a smaller unit."
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
        check_distances([f"The target {name!r}" for name in self.names], values, summed=True)
        return values[:, 0] if values.shape[1] == 1 else values

    def in_units(self, values: ArrayLike) -> np.ndarray:
        """Return numbers in the units of y; class indices stay as they are.

        Args:
            values: numbers as the program sees them, shape (...) or (..., targets).
        """
        values = np.asarray(values)
        if self.classes is not None:
            return values
        # in double precision where the units of y are beyond single precision
        largest = max(map(abs, (*self.shift, *self.scale)))
        if values.dtype.kind == "f" and not 1 / FARTHEST < largest < FARTHEST:
            values = values.astype(np.float64)
        if len(self.scale) == 1:
            return np.asarray(self.shift[0] + values * self.scale[0])
        return np.asarray(np.array(self.shift) + values * np.array(self.scale))


def plain(y: Values) -> np.ndarray:
    """Return y as an array, one column as one dimension.

    Raises:
        DataError: for no targets.
    """
    array = np.asarray(as_target(y))
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"y is empty: got shape {array.shape}, expected one target per row.")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def missing_targets(y: Values) -> np.ndarray:
    """Return which rows have no target, or not all of them, shape (rows,)."""
    array = plain(y)
    if array.dtype.kind in "iub":
        return np.zeros(len(array), dtype=bool)
    missing: Any = (array != array) if array.dtype.kind in "fmM" else _each_missing(array)
    return missing.any(axis=tuple(range(1, missing.ndim)))


def _each_missing(array: np.ndarray) -> np.ndarray:
    flat = [_is_missing(value) for value in array.ravel().tolist()]
    return np.array(flat, dtype=bool).reshape(array.shape)


def _names(y: Values) -> tuple[str, ...]:
    """Return the names of the target columns."""
    if is_frame(y):
        return tuple(map(str, y.columns))
    if is_series(y):
        return (str(y.name if y.name is not None else "y"),)
    width = y.shape[1] if y.ndim == 2 else 1
    return ("y",) if width == 1 else tuple(f"y{j}" for j in range(width))


def real_targets(y: Values) -> tuple[np.ndarray, bool]:
    """Return finite doubles of shape (rows, targets), and whether there was a single column.

    Raises:
        DataError: for anything else, listing all that is wrong.
    """
    y = as_target(y)
    array = plain(y)
    if np.iscomplexobj(array):
        raise DataError("Complex data not supported: y has complex numbers.")
    if array.ndim > 2:
        raise DataError(
            f"y has {array.ndim} dimensions: got shape {array.shape}, expected (rows,) or "
            "(rows, targets)."
        )
    flat = array.ndim == 1
    columns = [y.iloc[:, j] for j in range(y.shape[1])] if is_frame(y) else None
    if columns is None:
        columns = [y] if is_series(y) else list((array[:, None] if flat else array).T)
    problems, values = Problems(), []
    for name, column in zip(_names(y), columns, strict=True):
        values.append(problems.gather(lambda n=name, c=column: _real_column(n, c)))
    problems.refuse()
    return np.stack(values, axis=1), flat


def _real_column(name: str, column: Values) -> np.ndarray:
    """Return one target column as finite doubles.

    Raises:
        DataError: naming the rows that are missing or no numbers.
    """
    what = f"The target '{name}'"
    try:
        values = as_numbers(name, column)
    except DataError as error:
        text = str(error).replace(f"Column '{name}'", what).partition(" Give numbers")[0]
        raise DataError(
            f"{text} Give numbers; for labels use likelihood=bdl.Categorical(), and for dates days "
            "since a start."
        ) from None
    rows = np.flatnonzero(np.isnan(values))
    if rows.size:
        more = f" ({rows.size} such rows: {some_rows(rows)})" if rows.size > 1 else ""
        raise DataError(
            f"{what}, row {rows[0]} is NaN or missing{more}: fill it in, or leave such rows out by "
            "missing_target='drop'."
        )
    check_magnitudes(what, values)
    return values


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
    if array.dtype.kind == "c":
        raise DataError("Complex data not supported: y has complex numbers.")
    if array.ndim != 1:
        raise DataError(f"Class labels must be one column: y has shape {array.shape}.")
    missing = np.flatnonzero(missing_targets(array))
    if missing.size:
        raise DataError(
            f"y has no label in row {missing[0]}"
            + (f" ({missing.size} such rows: {some_rows(missing)})" if missing.size > 1 else "")
            + ": give one, "
            "or leave such rows out by missing_target='drop'."
        )
    if array.dtype.kind == "f":
        check_magnitudes("y", array.astype(np.float64))
    nested = [row for row, value in enumerate(array) if not np.isscalar(value) and _odd(value)]
    if nested:
        raise DataError(
            f"y in row {nested[0]} holds a {type(array[nested[0]]).__name__}: expected one label."
        )
    return array


def _odd(label: object) -> bool:
    """Return whether a label is a list, an array or the like."""
    return isinstance(label, list | tuple | dict | set | np.ndarray)


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
        raise DataError(
            f"y has one class, {classes.tolist()[0]!r}: got 1 class, expected at least 2."
        )
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
    known, values = np.array(classes).tolist(), _labels(y).tolist()
    place = {label: k for k, label in enumerate(known)}
    unseen = [value for value in values if value not in place]
    if unseen:
        raise DataError(f"y has the unseen class {unseen[0]!r}: expected one of {known[:10]}.")
    return np.array([place[value] for value in values], dtype=np.int32)
