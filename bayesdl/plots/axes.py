"""Axes and colours that all pictures share. Matplotlib is imported by the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bayesdl.typing import AxesLike, ColumnLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Panel: TypeAlias = Axes
    """One set of axes to draw on."""
else:
    Panel = object

BLUE, GREY = "#2166ac", "#888888"
# of Okabe and Ito, which the colour-blind tell apart, on light and on dark pages
COLOURS = ("#2B8CC4", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
ABOVE: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": 4}
ABOVE |= {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}


def axes_for(ax: AxesLike, panels: int) -> np.ndarray:
    """Return the axes given, or new ones side by side.

    Raises:
        ValueError: for another number of axes than `panels`.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(1, panels, figsize=(0.8 + 5.2 * panels, 4), layout="constrained")
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != panels:
        raise ValueError(f"ax: got {len(axes)} axes, expected {panels}, one per target column.")
    return axes


def columns_of(values: np.ndarray, skip: int = 0) -> np.ndarray:
    """Return values of shape (..., rows, targets): one target and one row get an axis."""
    values = np.asarray(values)
    values = values.reshape(*values.shape, *(1,) * (skip + 1 - values.ndim))
    return values[..., None] if values.ndim == skip + 1 else values


def abscissa(
    x: ColumnLike | None, key: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str, Literal["mid"] | None]:
    """Return where to draw, the order of the rows, the label, and how bands go from row to row.

    Args:
        x: what to draw against, shape (rows,), or None for the row numbers.
        key: the numbers by which rows are sorted where x is None.
    """
    if x is None:
        return (
            np.arange(len(key)),
            np.argsort(key, kind="stable"),
            "rows, sorted by predicted mean",
            "mid",
        )
    values = np.asarray(x, dtype=np.float64)
    if values.size != len(key):
        raise ValueError(
            f"x has shape {values.shape}, expected ({len(key)},): one number per predicted row."
        )
    order = np.argsort(values.ravel(), kind="stable")
    columns = getattr(x, "columns", [None])
    return values.ravel()[order], order, str(getattr(x, "name", None) or columns[0] or "x"), None
