"""Axes and colours that all pictures share. Matplotlib is imported by the functions."""

from __future__ import annotations

from typing import Any

import numpy as np

BLUE, GREY = "#2166ac", "#888888"
ABOVE: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": 4}
ABOVE |= {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}


def axes_for(ax: Any, panels: int) -> np.ndarray:
    """The axes given, or new ones side by side."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(1, panels, figsize=(0.8 + 5.2 * panels, 4), layout="constrained")
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != panels:
        raise ValueError(f"ax: got {len(axes)} axes, expected {panels}, one per target column.")
    return axes


def columns_of(values: np.ndarray, skip: int = 0) -> np.ndarray:
    """Shape (..., rows, targets): one target and one row get an axis."""
    values = np.asarray(values)
    values = values.reshape(*values.shape, *(1,) * (skip + 1 - values.ndim))
    return values[..., None] if values.ndim == skip + 1 else values


def abscissa(x: Any, key: np.ndarray) -> tuple[np.ndarray, np.ndarray, str, Any]:
    """Where to draw, the order of the rows, the label, and how bands go from row to row."""
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
