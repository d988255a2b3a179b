"""What `recommend` gives: items, and what can be said of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best items of each user.

    Attributes:
        items: labels, shape (users, k); where a user has fewer candidates, `filled` is False and the label means nothing.
        scores: what they were ranked by, shape (users, k).
        probabilities: the chance of each to be the user's next item, posterior means, shape (users, k).
        lower: of intervals for these chances under the posterior of the user, shape (users, k). What is not known of the
            weights is not in them (but for EASE), so they are too narrow where users are few.
        upper: their other ends.
        filled: whether there is an item, shape (users, k).
        draws: of the chances under the posterior, shape (users, draws, k).
        level: of the intervals.
    """

    items: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    filled: np.ndarray
    draws: np.ndarray
    level: float

    @classmethod
    def of(cls, labels: np.ndarray, places: np.ndarray, scores: np.ndarray, draws: np.ndarray, level: float) -> Any:
        """From the items' numbers, their scores, and draws of their probabilities."""
        tail = (1 - level) / 2
        lower, upper = np.quantile(draws, [tail, 1 - tail], axis=1)
        return cls(labels[places], scores, draws.mean(1), lower, upper, np.isfinite(scores), draws, level)

    def expected_hits(self, n: Any = 1) -> np.ndarray:
        """How many of these items are expected among a user's next n, shape (users,).

        The next items are drawn one by one from the law of the next item, p: item i is among n of them with chance
        1 - (1 - p_i)^n, a mean over the posterior.

        Args:
            n: number of next items, one for all or one for each user.
        """
        return np.asarray(included(self.draws, np.broadcast_to(n, len(self.items)))).sum(2).mean(1)

    def hits_interval(self, n: Any = 1, level: float | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """An interval for how many of these items are among a user's next n, shape (users,) each.

        Args:
            n: number of next items, one for all or one for each user.
            level: of the interval, None for that of `recommend`.
            seed: of the draws, one for each of the posterior.
        """
        chances = np.asarray(included(self.draws, np.broadcast_to(n, len(self.items))))
        hits = (np.random.default_rng(seed).uniform(size=chances.shape) < chances).sum(2)
        tail = (1 - (self.level if level is None else level)) / 2
        low, high = np.quantile(hits, [tail, 1 - tail], axis=1, method="closest_observation")
        return low, high

    def to_pandas(self) -> Any:
        """One row for each user and rank."""
        import pandas as pd

        user, rank = np.nonzero(self.filled)
        columns = {"user": user, "rank": rank + 1}
        parts = ("items", "scores", "probabilities", "lower", "upper")
        names = ("item", "score", "probability", "lower", "upper")
        return pd.DataFrame(columns | {name: getattr(self, part)[user, rank] for name, part in zip(names, parts, strict=True)})

    def __repr__(self) -> str:
        users, k = self.items.shape
        first = self.to_pandas().head(k).to_string(index=False)
        return f"Recommendations({k} items for {users} users; to_pandas() lists them)\n{first}"


def included(chances: Any, n: Any) -> Any:
    """The chance of each item to be among a user's next n: 1 - (1 - p)^n for p of shape (users, draws, k)."""
    return -jnp.expm1(n[:, None, None] * jnp.log1p(-jnp.minimum(chances, 1 - 1e-6)))
