"""What `recommend` gives: items, and what can be said of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.recommend.hits import by_blocks, hits_law, included, shortest


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best items of each user.

    Attributes:
        items: labels, shape (users, k); where a user has fewer candidates, `merge_params` is False and the label means nothing.
        scores: what they were ranked by, shape (users, k).
        probabilities: the chance of each to be the user's next item, posterior means, shape (users, k).
        lower: of intervals for these chances under the posterior of the user, shape (users, k). What is not known of the
            weights is not in them (but for EASE), so they are too narrow where users are few.
        upper: their other ends.
        filled: whether there is an item, shape (users, k).
        draws: of the chances under the posterior, shape (users, draws, k).
        distinct: of the whole laws that these are from: how many different items are expected after 1, 2, 4, ... choices on
            average with repetitions, shape (users, draws, octaves). With `draws` it takes 16 kB for a user where k = 20.
        level: of the intervals.
    """

    items: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    filled: np.ndarray
    draws: np.ndarray
    distinct: np.ndarray
    level: float

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        places: np.ndarray,
        scores: np.ndarray,
        draws: np.ndarray,
        distinct: np.ndarray,
        level: float,
    ) -> Any:
        """From the items' numbers, their scores, and draws of their chances and of what the whole laws count."""
        tail = (1 - level) / 2
        lower, upper = np.quantile(
            draws, [tail, 1 - tail], axis=1, method="weibull"
        )  # which draws are inside of on average
        return cls(
            labels[places],
            scores,
            draws.mean(1),
            lower,
            upper,
            np.isfinite(scores),
            draws,
            distinct,
            level,
        )

    def expected_hits(self, n: Any = 1) -> np.ndarray:
        """How many of these items are expected among a user's next n, shape (users,).

        The next items come one by one from the law p of the next item, those that came left out. Item i is among n of them
        with chance 1 - exp(-t p_i), where t is such that these chances have the sum n over all items; a mean over the
        posterior. With n = 1 this is exact, and else nearly so where no single item has a large chance.

        Args:
            n: number of next items, one for all or one for each user.
        """
        return by_blocks(included, self.draws, self.distinct, self.following(n)).sum(2).mean(1)

    def hits_interval(
        self, n: Any = 1, level: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The shortest interval for how many of these items are among a user's next n, shape (users,) each.

        It has at least the chance `level`, mostly more, as hits are whole numbers.

        Args:
            n: number of next items, one for all or one for each user.
            level: of the interval, None for that of `recommend`.

        Raises:
            ValueError: for a level that is no probability.
        """
        level = self.level if level is None else level
        if not 0 < level < 1:
            raise ValueError(
                f"hits_interval(level={level!r}): expected a number with 0 < level < 1."
            )
        return by_blocks(shortest, self.hits_law(n), np.full(len(self.items), level, np.float32))

    def hits_law(self, n: Any = 1) -> np.ndarray:
        """The chances that 0, 1, ..., k of these items are among a user's next n, shape (users, k + 1).

        Args:
            n: number of next items, one for all or one for each user.
        """
        return by_blocks(hits_law, self.draws, self.distinct, self.following(n))

    def following(self, n: Any) -> np.ndarray:
        """A number of next items for each user.

        Raises:
            ValueError: for numbers that are not whole or below zero, or not one for all or for each user.
        """
        given = np.asarray(n)
        known = given.dtype.kind in "iuf" and given.shape in ((), (len(self.items),))
        if not known or not (np.isfinite(given) & (given >= 0) & (given == np.floor(given))).all():
            raise ValueError(
                f"n={n!r}: expected how many items a user chooses next, one whole number or {len(self.items)}, of at least 0."
            )
        return np.broadcast_to(given.astype(np.float32), len(self.items))

    def to_pandas(self) -> Any:
        """One row for each user and rank."""
        import pandas as pd

        user, rank = np.nonzero(self.filled)
        columns = {"user": user, "rank": rank + 1}
        parts = ("items", "scores", "probabilities", "lower", "upper")
        names = ("item", "score", "probability", "lower", "upper")
        return pd.DataFrame(
            columns
            | {
                name: getattr(self, part)[user, rank]
                for name, part in zip(names, parts, strict=True)
            }
        )

    def __repr__(self) -> str:
        users, k = self.items.shape
        first = self.to_pandas().head(k).to_string(index=False)
        return f"Recommendations({k} items for {users} users; to_pandas() lists them)\n{first}"
