"""How far stated probabilities are from what happens."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def expected_calibration_error(
    confidence: Float[np.ndarray, "rows"], hits: Bool[np.ndarray, "rows"], num_bins: int = 15
) -> float:
    """Sum over bins of share * |accuracy - confidence|, with equal-width bins of the confidence."""
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(hits[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))
