"""Ranking metrics of held-out items, as in Liang et al. (2018), arXiv:1802.05814, for each user:

    Recall@R = |top R that are held out| / min(R, |held out|)
    NDCG@R   = sum_{r <= R} hit_r / log2(r + 1)  over its value where all hits come first

Items are ranked by score; of equal scores the smaller index comes first.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from scipy import stats

from bayesdl.recommend.rows import CSR


@functools.partial(jax.jit, static_argnames="k")
def ranked(scores: Any, k: int) -> tuple[jax.Array, jax.Array]:
    """The k best scores of each row and their items, shape (b, k); equal scores by item."""
    values, items = jax.lax.top_k(scores, k)
    return values, items


def hits(items: np.ndarray, held_out: CSR) -> np.ndarray:
    """Whether each ranked item of each user is held out, shape (b, k)."""
    wanted = (
        np.repeat(np.arange(held_out.shape[0], dtype=np.int64), np.diff(held_out.indptr))
        * held_out.shape[1]
    )
    asked = np.arange(len(items), dtype=np.int64)[:, None] * held_out.shape[1] + items
    return np.isin(asked, wanted + held_out.indices)


def without(scores: Any, seen: CSR) -> np.ndarray:
    """Scores with minus infinity at what was seen."""
    hidden = np.array(scores)
    hidden[seen.tocoo().coords] = -np.inf
    return hidden


def ranked_hits(scores: Any, seen: CSR, held_out: CSR, k: int) -> np.ndarray:
    """Whether each of the k best items that were not seen is held out, shape (b, k), or fewer where there are fewer items."""
    items = ranked(without(scores, seen), min(k, scores.shape[1]))[1]
    return hits(np.asarray(items), held_out)


def recall(hit: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Recall@k of users with held-out items, shape (b,); NaN without any.

    Args:
        hit: from `hits`, of at least k ranks.
        sizes: numbers of held-out items.
        k: ranks.
    """
    with np.errstate(invalid="ignore"):
        return hit[:, :k].sum(1) / np.where(sizes > 0, np.minimum(k, sizes), np.nan)


def ndcg(hit: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k, as `recall`."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])[np.minimum(sizes, k)]
    return hit[:, :k] @ discount[: hit.shape[1]] / ideal


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values; NaN for one alone."""
    return float(stats.sem(values)) if len(values) > 1 else float("nan")
