"""Ranking metrics of held-out items, as in Liang et al. (2018), arXiv:1802.05814, for each user:

    Recall@R = |top R that are held out| / min(R, |held out|)
    NDCG@R   = sum_{r <= R} hit_r / log2(r + 1)  over its value where all hits come first

Items are ranked by score; of equal scores the smaller index comes first.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from scipy import stats

from bayesdl.recommend.rows import CSR, AnyArray


@functools.partial(jax.jit, static_argnames="k")
def rank_items(scores: AnyArray, k: int) -> tuple[jax.Array, jax.Array]:
    """Return the k best scores of each row and their items, shape (b, k).

    Equal scores are ranked by item.
    """
    values, items = jax.lax.top_k(scores, k)
    return values, items


def find_hits(items: np.ndarray, held_out: CSR) -> np.ndarray:
    """Return whether each ranked item of each user is held out, shape (b, k).

    Args:
        items: the columns of the ranked items, shape (b, k).
        held_out: the held-out items, users x items, with at least b users.
    """
    num_items = held_out.shape[1]
    users = np.repeat(np.arange(held_out.shape[0], dtype=np.int64), np.diff(held_out.indptr))
    wanted = users * num_items + held_out.indices
    ranked = np.arange(len(items), dtype=np.int64)[:, None] * num_items + items
    return np.isin(ranked, wanted)


def hide_seen(scores: AnyArray, seen: CSR) -> np.ndarray:
    """Return the scores with minus infinity at items that the user has seen."""
    hidden = np.array(scores)
    hidden[seen.tocoo().coords] = -np.inf
    return hidden


def hits_of_best(scores: AnyArray, seen: CSR, held_out: CSR, k: int) -> np.ndarray:
    """Return whether each of the k best unseen items is held out, shape (b, k).

    Where there are fewer than k items there are fewer columns.

    Args:
        scores: the scores of all items, shape (b, items).
        seen: the users' rows of seen items.
        held_out: the users' rows of held-out items.
        k: the number of items.
    """
    items = rank_items(hide_seen(scores, seen), min(k, scores.shape[1]))[1]
    return find_hits(np.asarray(items), held_out)


def recall(hit: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Return Recall@k of users with held-out items, shape (b,); NaN for users without any.

    Args:
        hit: whether each ranked item is held out, shape (b, at least k).
        sizes: the number of held-out items of each user, shape (b,).
        k: the number of ranks.
    """
    with np.errstate(invalid="ignore"):
        return hit[:, :k].sum(1) / np.where(sizes > 0, np.minimum(k, sizes), np.nan)


def ndcg(hit: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Return NDCG@k of users with held-out items, shape (b,); NaN for users without any.

    Args:
        hit: whether each ranked item is held out, shape (b, at least k), or fewer where there are
            fewer items.
        sizes: the number of held-out items of each user, shape (b,).
        k: the number of ranks.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])[np.minimum(sizes, k)]
    return hit[:, :k] @ discount[: hit.shape[1]] / ideal


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of independent values; NaN for one value alone."""
    return float(stats.sem(values)) if len(values) > 1 else float("nan")
