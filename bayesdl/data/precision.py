"""Numbers that the precision of a program would change, and the error that names them.

JAX computes in single precision unless told otherwise: whole numbers above 2^31 - 1 wrap around,
and numbers around 1.7e9 (seconds since 1970) are 128 apart.
"""

from __future__ import annotations

import numpy as np

from bayesdl.data.validation import DataError

# the largest error of rounding, relative to the standard deviation, that a model can bear
LARGEST_ERROR = 0.1
# below this error, relative to the standard deviation, no result depends on the rounding
NO_ERROR = 1e-6
# the share of distinct values that may become equal
LOST = 1 / 3
# the largest error of whole numbers, relative to the step between neighbours
LARGEST_STEP_ERROR = 0.01


def refuse_lost_digits(name: str, array: np.ndarray, double: bool) -> None:
    """Refuse numbers that single precision would change beyond use.

    Args:
        name: the name of the argument.
        array: its values.
        double: whether the program computes in double precision, which keeps them.

    Raises:
        DataError: naming the argument, a value, and the cure.
    """
    if double or not array.size:
        return
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        limits = np.iinfo(np.int32 if array.dtype.kind == "i" else np.uint32)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            value = high if high > limits.max else low
            raise DataError(_message(name, value, f"does not fit {limits.dtype}"))
    if array.dtype == np.float64:
        columns = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(-1, 1)
        for column in columns[:, _suspects(columns)].T:
            _refuse_column(name, column[np.isfinite(column)])


def _suspects(columns: np.ndarray) -> np.ndarray:
    """Return which columns have values far larger, or smaller, than single precision resolves."""
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(columns), columns, 0.0)
        size, spread = np.abs(finite).max(axis=0), finite.std(axis=0)
        single = np.finfo(np.float32)
        extreme = (size > single.max) | ((size > 0) & (size < single.tiny))
        return (size * single.eps > NO_ERROR * spread) & (spread > 0) | extreme


def _refuse_column(name: str, values: np.ndarray) -> None:
    """Refuse one column of finite values."""
    if not values.size:
        return
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    largest = values[np.argmax(np.abs(values))]
    if not np.isfinite(single).all():
        raise DataError(_message(name, largest, "is beyond single precision"))
    distinct = np.unique(values)
    spread, error = values.std(), np.abs(single - values).max()
    if len(distinct) < 2 or error <= NO_ERROR * spread:
        return
    share = 1 - len(np.unique(single)) / len(distinct)
    whole = bool(np.all(values == np.floor(values)))
    steps = np.median(np.diff(distinct)) * LARGEST_STEP_ERROR
    if error > LARGEST_ERROR * spread or share > LOST or (whole and (share or error > steps)):
        spacing = float(np.spacing(np.abs(np.float32(largest))))
        raise DataError(
            _message(name, largest, f"is known in single precision to {spacing:g} only")
        )


def _message(name: str, value: int | float, trouble: str) -> str:
    return (
        f"Argument '{name}' would lose its digits: {value!s} {trouble}. Subtract the smallest "
        "value or rescale it before the fit (e.g. days since the first), fit with double=True, or "
        "set jax.config.update('jax_enable_x64', True)."
    )
