"""The answer of `recommend`: items, their probabilities, and hits among the next items."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayesdl.recommend.hits import (
    DOUBLINGS,
    hits_distribution,
    inclusion_probabilities,
    map_blocks,
    shortest_intervals,
)
from bayesdl.recommend.probabilities import DRAWS
from bayesdl.typing import ColumnLike, DataFrame
from inference.renaming import warn_renamed


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best items of each user.

    Attributes:
        items: the labels of the items, shape (users, k). Where a user has fewer candidates,
            `filled` is False and the label means nothing.
        scores: the numbers that the items were ranked by, shape (users, k).
        probabilities: the probability of each item to be the user's next, a posterior mean, shape
            (users, k).
        lower: the lower ends of intervals for these probabilities under the user's posterior,
            shape (users, k). Uncertainty of the weights is not in them (but for EASE), so they are
            too narrow where training users are few.
        upper: the upper ends of the intervals, shape (users, k).
        filled: whether there is an item, shape (users, k).
        draws: draws of the probabilities under the posterior, shape (users, draws, k).
        distinct: the number of different items that is expected after 1, 2, 4, ... choices on
            average, with repetitions, for each draw of the whole distribution, shape (users, draws,
            doublings). Together with `draws` it takes 16 kB for a user where k = 20.
        level: the probability of the intervals.
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
    def from_draws(
        cls,
        labels: np.ndarray,
        columns: np.ndarray,
        scores: np.ndarray,
        draws: np.ndarray,
        distinct: np.ndarray,
        level: float,
    ) -> Recommendations:
        """Make recommendations from columns, scores and draws.

        Args:
            labels: the labels of all items, shape (items,).
            columns: the columns of the recommended items, shape (users, k).
            scores: the numbers that they were ranked by, shape (users, k).
            draws: draws of their probabilities, shape (users, draws, k).
            distinct: `expected_distinct` of the whole distributions, shape (users, draws,
                doublings).
            level: the probability of the intervals.
        """
        tail = (1 - level) / 2
        # With this method a new draw is inside of the interval with probability `level` on average.
        lower, upper = np.quantile(draws, [tail, 1 - tail], axis=1, method="weibull")
        return cls(
            labels[columns],
            scores,
            draws.mean(1),
            lower,
            upper,
            np.isfinite(scores),
            draws,
            distinct,
            level,
        )

    def expected_hits(self, n: ColumnLike = 1) -> np.ndarray:
        """Return the expected number of these items among a user's next n, shape (users,).

        The next items come one by one from the distribution p of the next item; items that came
        before are left out. Item i is among n of them with probability 1 - exp(-t p_i), where t is
        such that these probabilities have the sum n over all items. The result is a mean over the
        posterior. It is exact with n = 1, and otherwise nearly so where no single item has a large
        probability.

        Args:
            n: the number of next items, one for all or one for each user.
        """
        included = map_blocks(
            inclusion_probabilities, self.draws, self.distinct, self._next_items(n)
        )
        return included.sum(2).mean(1)

    def hits_interval(
        self, n: ColumnLike = 1, level: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the shortest interval for the number of hits, shape (users,) each.

        Hits are those of these items that are among the user's next n. As hits are whole numbers,
        the interval has at least the probability `level`, and mostly more.

        Args:
            n: the number of next items, one for all or one for each user.
            level: the probability of the interval; None for that of `recommend`.

        Raises:
            ValueError: for a level that is no probability.
        """
        level = self.level if level is None else level
        if not 0 < level < 1:
            raise ValueError(
                f"hits_interval(level={level!r}): expected a number with 0 < level < 1."
            )
        levels = np.full(len(self.items), level, np.float32)
        return map_blocks(shortest_intervals, self.hits_distribution(n), levels)

    def hits_distribution(self, n: ColumnLike = 1) -> np.ndarray:
        """Return the probabilities of 0, 1, ..., k hits, shape (users, k + 1).

        Hits are those of these items that are among the user's next n.

        Args:
            n: the number of next items, one for all or one for each user.
        """
        return map_blocks(hits_distribution, self.draws, self.distinct, self._next_items(n))

    def hits_law(self, n: ColumnLike = 1) -> np.ndarray:
        """Return `hits_distribution(n)`, which has this name from now on."""
        warn_renamed("Recommendations.hits_law", "hits_distribution")
        return self.hits_distribution(n)

    def _next_items(self, n: ColumnLike) -> np.ndarray:
        """Return the number of next items for each user, shape (users,).

        Raises:
            ValueError: for numbers that are not whole or below zero, or not one for all or for each
                user.
        """
        given = np.asarray(n)
        known = given.dtype.kind in "iuf" and given.shape in ((), (len(self.items),))
        if not known or not (np.isfinite(given) & (given >= 0) & (given == np.floor(given))).all():
            raise ValueError(
                f"n={n!r}: expected how many items a user chooses next, one whole number or "
                f"{len(self.items)}, of at least 0."
            )
        return np.broadcast_to(given.astype(np.float32), len(self.items))

    def to_pandas(self) -> DataFrame:
        """Return a DataFrame with one row for each user and rank."""
        import pandas as pd

        user, rank = np.nonzero(self.filled)
        columns: dict[str, Any] = {"user": user, "rank": rank + 1}
        parts = ("items", "scores", "probabilities", "lower", "upper")
        names = ("item", "score", "probability", "lower", "upper")
        for name, part in zip(names, parts, strict=True):
            columns[name] = getattr(self, part)[user, rank]
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        users, k = self.items.shape
        first = self.to_pandas().head(k).to_string(index=False)
        return f"Recommendations({k} items for {users} users; to_pandas() lists them)\n{first}"


def empty_parts(k: int) -> list[np.ndarray]:
    """Return columns, scores, draws and `distinct` of recommendations for no user."""
    return [
        np.zeros((0, k), int),
        np.zeros((0, k)),
        np.zeros((0, DRAWS, k)),
        np.zeros((0, DRAWS, DOUBLINGS)),
    ]
