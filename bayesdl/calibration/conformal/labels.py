"""Scores of classes on held-out rows, and the sets of labels whose score is at most a threshold.

    "density"   1 - p_y                                          (LAC; the smallest sets)
    "aps"       sum of p_k above p_y, + (1 - U) p_y              (larger where it is hard)
    "raps"      the same, + 0.1 (rank of y - 2)_+                (without the long tails)

with U uniform, from the row's own probabilities and the seed, so that a set does not depend on the
rows beside it (Sadinle, Lei and Wasserman 2019, arXiv:1609.00451; Romano, Sesia
and Candes 2020, arXiv:2006.02544; Angelopoulos et al. 2021, arXiv:2009.14193). A set that would be
empty holds the most probable class: it is then right at least as often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from inference.settings import as_seed

LABEL_SCORES = ("density", "aps", "raps")
# what RAPS adds for each rank beyond the second
PENALTY, FREE_RANKS = 0.1, 2


def label_scores(
    name: str, probs: Float[np.ndarray, "rows classes"], seed: int
) -> Float[np.ndarray, "rows classes"]:
    """Compute the score of each class in each row.

    Args:
        name: one of `LABEL_SCORES`.
        probs: the probabilities of classes.
        seed: the seed of the numbers that break ties.
    """
    if name == "density":
        return 1 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=1)
    uniform = _uniforms(probs, as_seed(seed))[:, None]
    scores = np.cumsum(ordered, axis=1) - uniform * ordered
    if name == "raps":
        ranks = np.arange(1, probs.shape[1] + 1)
        scores = scores + PENALTY * np.maximum(ranks - FREE_RANKS, 0)[None]
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, axis=1)
    return found


def _uniforms(probs: Float[np.ndarray, "rows classes"], seed: int) -> Float[np.ndarray, "rows"]:
    """Return a uniform number for each row, the same wherever the row stands."""
    from pandas import DataFrame
    from pandas.util import hash_pandas_object

    # rounded, as the last digits depend on how many rows are computed at once
    keys = np.round(probs * 1e3).astype(np.int64)
    table = DataFrame(np.column_stack([np.full(len(keys), seed), keys]))
    hash_rows: Any = hash_pandas_object
    hashes = hash_rows(table, index=False).to_numpy(np.uint64)
    return (hashes >> np.uint64(11)) * 2.0**-53


def with_top(
    members: Bool[np.ndarray, "rows classes"], probs: Float[np.ndarray, "rows classes"]
) -> Bool[np.ndarray, "rows classes"]:
    """Return the sets, with the most probable class where a set is empty."""
    empty = ~members.any(1)
    filled = members.copy()
    filled[empty, probs[empty].argmax(1)] = True
    return filled
