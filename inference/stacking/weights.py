"""Stacking of predictive densities: the weights under which left-out rows are most probable.

    max_w  sum_i log sum_k w_k p_k(y_i | y_-i),    w_k >= 0,    sum_k w_k = 1

The objective is concave, and expectation maximisation climbs it to its maximum:

    w_k <- mean_i w_k p_k(y_i | y_-i) / sum_l w_l p_l(y_i | y_-i).

Yao, Vehtari, Simpson and Gelman (2018), arXiv:1704.02030.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MOST_ROUNDS = 20_000
# a change of the weights that is none
SMALL = 1e-9


def stack(densities: Float[np.ndarray, "rows members"]) -> Float[np.ndarray, "members"]:
    """Return the weights of the members.

    Args:
        densities: log p_k(y_i | y_-i), shape (rows, members). A member with a density that is NaN
            or minus infinity at some row gets no weight.

    Raises:
        ValueError: where no member has finite densities.

    Example:
        >>> stack(np.array([[0.0, -1.0], [-1.0, 0.0]])).round(3).tolist()
        [0.5, 0.5]
    """
    usable = np.asarray(np.isfinite(densities).all(axis=0))
    if not usable.any():
        raise ValueError("No member has a finite density at all rows that were left out.")
    logs = densities[:, usable]
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights = np.full(shares.shape[1], 1 / shares.shape[1])
    for _ in range(MOST_ROUNDS):
        new = weights * (shares / (shares @ weights)[:, None]).mean(axis=0)
        change, weights = np.abs(new - weights).max(), new
        if change < SMALL:
            break
    every = np.zeros(len(usable))
    every[usable] = weights / weights.sum()
    return every
