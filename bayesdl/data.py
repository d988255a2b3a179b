"""What a table of data looked like, learned once from the training data and applied to everything after.

It is plain data, so it is saved with a fit.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.cells import DataError
from bayesdl.columns import Columns
from bayesdl.target import Target


@dataclasses.dataclass(frozen=True)
class TableFrame:
    """Columns and target of a table (X, y)."""

    columns: Columns
    target: Target


def same_rows(X: Any, y: Any) -> None:
    """Refuses X and y of different lengths."""
    rows, targets = np.shape(X)[0], np.shape(y)[0] if np.ndim(y) else 0
    if rows != targets:
        raise DataError(f"Found input variables with inconsistent numbers of samples: X has {rows} rows and y has {targets}.")
