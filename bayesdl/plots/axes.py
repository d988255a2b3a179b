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

# of Okabe and Ito, which the colour-blind tell apart, on light and on dark pages
COLOURS = ("#2B8CC4", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BLUE, GREY = COLOURS[0], "#888888"
# what new axes look like
STYLE = {"axes.spines.top": False, "axes.spines.right": False}
ABOVE: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": 4}
ABOVE |= {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}


def ink() -> str:
    """Return the colour of text: dark on light pages, light on dark ones."""
    import matplotlib

    return matplotlib.rcParams["text.color"]


def new_axes(rows: int, columns: int, size: tuple[float, float]) -> np.ndarray:
    """Return new axes of one figure, shape (rows, columns); the size is in inches."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")[1]


def axes_for(ax: AxesLike, panels: int) -> np.ndarray:
    """Return the axes given, or new ones side by side.

    Raises:
        ValueError: for another number of axes than `panels`.
    """
    if ax is None:
        ax = new_axes(1, panels, (0.8 + 5.2 * panels, 4.0))
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
