"""What `recommend` gives: items, and what can be said of them."""

from __future__ import annotations

import dataclasses
from typing import Any

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
        if len(draws):
            lower, upper = np.quantile(draws, [tail, 1 - tail], axis=1)
        else:
            lower = upper = np.zeros(scores.shape)
        return cls(labels[places], scores, draws.mean(1), lower, upper, np.isfinite(scores), draws, level)

    def expected_hits(self, n: Any = 1) -> np.ndarray:
        """How many of a user's next n items are expected among these, shape (users,).

        Args:
            n: number of next items, one for all or one for each user.
        """
        return np.broadcast_to(n, len(self.items)) * self.probabilities.sum(1)

    def hits_interval(self, n: Any = 1, level: float = 0.9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """An interval for how many of a user's next n items are among these, shape (users,) each.

        The next items are drawn one by one from the user's law of the next item, for each draw of the posterior.
        """
        rng = np.random.default_rng(seed)
        count = np.broadcast_to(n, len(self.items))[:, None]
        hits = rng.binomial(count, np.clip(self.draws.sum(2), 0, 1))
        tail = (1 - level) / 2
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
