"""What a predictor says: numbers, or log-probabilities of classes, as NumPy arrays on the host.

A predictor is an object with `predict_proba`, `decision_function` or `predict` (scikit-learn,
LightGBM and the like), a torch module in evaluation mode, an Equinox module or any other function
of the rows, or None where the rows are the predictions themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.special import log_softmax

from bayesdl.data.frames import as_table
from bayesdl.data.validation import DataError, ModelError, is_frame
from bayesdl.typing import DataFrame, TableLike

# rows that are asked twice
TWICE = 50
# how far two answers, or a sum of probabilities, may be apart by rounding
ROUNDING = 1e-4
SMALLEST = 1e-12

Asking: TypeAlias = Callable[[Any, Any], np.ndarray]
"""A function of (predictor, rows) that gives its answers."""


def is_torch(predictor: object) -> bool:
    """Return whether a predictor is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(predictor, torch.nn.Module)


def gives_classes(predictor: object) -> bool:
    """Return whether a predictor says that it predicts classes."""
    return hasattr(predictor, "predict_proba") or hasattr(predictor, "decision_function")


def numbers(predictor: object, X: TableLike) -> np.ndarray:
    """Return the predicted number of each row, shape (rows,).

    Raises:
        DataError: for answers that are not one finite number per row, or that differ.
    """
    found = _twice(predictor, X, _raw_numbers)
    values = found.reshape(len(found), -1)
    if values.shape[1] != 1:
        raise DataError(
            f"The predictor gives {values.shape[1]} numbers for each row, expected one: use a head "
            "of classes, e.g. head='temperature', or a predictor with one target."
        )
    _refuse_not_finite(values)
    return values[:, 0].astype(np.float64)


def log_probabilities(predictor: object, X: TableLike, logits: bool | None) -> np.ndarray:
    """Return log-probabilities of classes, shape (rows, classes).

    Args:
        predictor: the predictor, or None where X are its answers.
        X: the rows.
        logits: whether answers are logits; None for what the predictor offers: modules and
            decision functions give logits, all else probabilities.

    Raises:
        DataError: for answers that are not finite, or are no probabilities, naming the row.
    """
    found = _twice(predictor, X, _raw_classes)
    if found.ndim == 1 or found.shape[1] == 1:
        one = found.reshape(-1)
        as_logits = _are_logits(predictor, logits)
        found = np.stack([np.zeros_like(one) if as_logits else 1 - one, one], axis=1)
    _refuse_not_finite(found)
    values = found.astype(np.float64)
    if _are_logits(predictor, logits):
        return log_softmax(values, axis=1)
    _refuse_no_probabilities(values)
    return np.log(np.maximum(values / values.sum(1, keepdims=True), SMALLEST))


def _are_logits(predictor: object, logits: bool | None) -> bool:
    if logits is not None:
        return logits
    if predictor is None or hasattr(predictor, "predict_proba"):
        return False
    return hasattr(predictor, "decision_function") or not hasattr(predictor, "predict")


def _refuse_not_finite(values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if bad.size:
        raise DataError(
            f"The predictor's answer in row {bad[0]} is {values[bad[0]].tolist()!s:.60} "
            f"({bad.size} such rows): expected finite numbers. Leave these rows out, or look at "
            "what predicts them."
        )


def _refuse_no_probabilities(values: np.ndarray) -> None:
    bad = np.flatnonzero((values < -ROUNDING).any(1) | (abs(values.sum(1) - 1) > ROUNDING))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"The predicted probabilities in row {row} sum to {values[row].sum():.6g} "
            f"({bad.size} such rows): expected numbers of at least 0 whose sum is 1. Where they "
            "are logits say logits=True."
        )


def _twice(predictor: object, X: TableLike, ask: Asking) -> np.ndarray:
    """Return the answers of a predictor, after asking some rows again.

    Raises:
        DataError: where the answers differ, or are not one per row.
    """
    table: Any = X if is_tensor(X) else as_table(X)
    rows = len(table)
    found = ask(predictor, table)
    if len(found) != rows:
        raise DataError(f"The predictor gives {len(found)} answers for {rows} rows of X.")
    if predictor is None:
        return found
    some = np.arange(min(rows, TWICE))
    part = table.iloc[some] if is_frame(table) else table[: len(some)]
    again = ask(predictor, part)
    size = 1 + np.nanmax(np.abs(found[some]), initial=0.0)
    if found.dtype.kind == "f" and not np.allclose(
        again, found[some], rtol=ROUNDING, atol=ROUNDING * size, equal_nan=True
    ):
        gaps = np.abs(again - found[some]).reshape(len(some), -1).max(1)
        raise DataError(
            f"The predictor answers differently when asked twice (row {int(np.nanargmax(gaps))}): "
            "expected the same answer. Is dropout on? Call module.eval(), or fix its seed."
        )
    return found


def is_tensor(X: TableLike) -> bool:
    """Return whether X is a torch tensor, which goes to a module as it is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def without_torch(X: TableLike) -> Any:
    """Return the rows as they are, those of a torch tensor as an array."""
    if not is_tensor(X):
        return X
    tensor: Any = X
    return tensor.detach().cpu().numpy()


def _raw_numbers(predictor: object, X: TableLike) -> np.ndarray:
    if predictor is None:
        table: Any = X
        values = np.asarray(table[prediction_column(table)] if is_frame(X) else X)
        return _as_doubles(values if values.ndim < 2 else values[:, 0])
    predict = getattr(predictor, "predict", None)
    if predict is not None:
        return _as_doubles(predict(X))
    return _call(predictor, X)


def _as_doubles(answers: object) -> np.ndarray:
    """Return answers as an array of doubles.

    Raises:
        DataError: for answers that are no numbers, such as labels.
    """
    try:
        found = np.asarray(answers, np.float64)
    except (TypeError, ValueError, RuntimeError):
        found = np.array(np.nan)
    if found.ndim:
        return found
    shown: Any = answers[0] if isinstance(answers, list | np.ndarray) and len(answers) else answers
    raise DataError(
        f"Predictions are {shown!s:.60}: expected an array of numbers. For labels it takes "
        "probabilities: an object with predict_proba, or a function that returns them."
    )


def _raw_classes(predictor: object, X: TableLike) -> np.ndarray:
    if predictor is None:
        table: Any = X
        return _as_doubles(np.asarray(table[_probability_columns(table)] if is_frame(X) else X))
    for name in ("predict_proba", "decision_function", "predict"):
        if hasattr(predictor, name):
            return _as_doubles(getattr(predictor, name)(X))
    return _call(predictor, X)


def prediction_column(X: DataFrame) -> Any:
    """Return the name of the column of a table that holds predicted numbers.

    It is "prediction" or "mean" where there is one, and otherwise the first.
    """
    return next((name for name in ("prediction", "mean") if name in X.columns), X.columns[0])


def _probability_columns(X: DataFrame) -> list[Any]:
    """Return the names of the columns of a table that hold probabilities.

    They are called "P(label)", as `to_pandas` calls them, or all columns are meant.
    """
    found = [name for name in X.columns if label_in(name) is not None]
    return found or list(X.columns)


def label_in(name: object) -> str | None:
    """Return the label of a column called "P(label)", otherwise None."""
    text = str(name)
    return text[2:-1] if text.startswith("P(") and text.endswith(")") else None


def _call(predictor: object, X: TableLike) -> np.ndarray:
    """Return the answers of a module or a function of the rows."""
    if is_torch(predictor):
        return call_torch(predictor, X)
    if _is_equinox(predictor):
        import jax

        module: Any = predictor
        return np.asarray(jax.vmap(module)(np.asarray(X, np.float32)), np.float64)
    if not callable(predictor):
        raise ModelError(
            f"Frozen({type(predictor).__name__}): expected a predictor with predict or "
            "predict_proba, a torch or Equinox module, a function of the rows, or None where X are "
            "the predictions."
        )
    # rows as they came: with the names of their columns, and all digits
    return _as_doubles(predictor(X))


def _is_equinox(predictor: object) -> bool:
    import equinox as eqx

    return isinstance(predictor, eqx.Module)


def call_torch(module: object, X: TableLike) -> np.ndarray:
    """Return the answers of a torch module, without gradients.

    Raises:
        ModelError: for a module in training mode, whose answers are random or change it.
    """
    import torch

    if getattr(module, "training", False):
        raise ModelError(
            f"{type(module).__name__} is in training mode, in which dropout is on and batch "
            "normalisation learns: call module.eval() first."
        )
    network: Any = module
    parameter = next(iter(network.parameters()), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    rows = X if isinstance(X, torch.Tensor) else torch.as_tensor(np.array(X, np.float64))
    with torch.no_grad():
        return network(rows.to(dtype)).detach().cpu().numpy().astype(np.float64)
