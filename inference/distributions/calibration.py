"""The expected calibration error: how far stated probabilities are from frequencies."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def expected_calibration_error(
    confidence: Float[np.ndarray, "rows"], hits: Bool[np.ndarray, "rows"], num_bins: int = 15
) -> float:
    """Return the sum over bins of (share of rows) * |accuracy - mean confidence|.

    Args:
        confidence: the stated probability of the predicted class, one for each row.
        hits: whether the predicted class was right.
        num_bins: the number of bins of equal width on [0, 1].
    """
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(hits[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))
