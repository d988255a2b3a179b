"""How often items are chosen by all, with its posterior: the shares of items are Dirichlet given the counts.

p | counts ~ Dirichlet(counts + 1 / 2),    scores log E p
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bayesdl.recommend.autoencoder.codes import Refinement
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.rows import CSR

PRIOR = 0.5  # Jeffreys' counts before the data


@dataclasses.dataclass
class Popularity(AbstractRecommender):
    """The items that most users choose, the same for all: what any other recommender has to beat.

    With `strategy="thompson"` users that are asked for together get one draw.

    Attributes:
        counts_: sums of the users' entries of each item.

    Example:
        >>> import numpy as np
        >>> Popularity().fit(np.array([[1, 1, 0], [0, 1, 0]])).recommend(np.zeros((1, 3)), k=2).items.tolist()
        [[1, 0]]
    """

    counts_: np.ndarray = dataclasses.field(init=False, repr=False, compare=False)

    def fit(self, train: Any, validation: HeldOut | None = None, *, items: Any = None) -> Any:
        """Counts; validation users give the temperature.

        Raises:
            DataError: for bad values, or a matrix without entries.
        """
        rows = self.begin(train, validation, items)
        self.counts_ = np.asarray(rows.sum(0)).ravel().astype(np.float64)
        return self.finish(validation)

    def block_scores(self, rows: CSR, how: Refinement) -> np.ndarray:
        shares = np.log(self.counts_ + PRIOR) - np.log((self.counts_ + PRIOR).sum())
        return np.repeat(shares[None].astype(np.float32), rows.shape[0], 0)

    def block_law(self, rows: CSR, how: Refinement) -> tuple[np.ndarray, Partial]:
        return self.block_scores(rows, how), Partial(
            shares_draw, jnp.asarray(self.counts_ + PRIOR, jnp.float32)
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {"counts": self.counts_}

    def shapes(self, arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        return {"counts": (self.num_items_,)}

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        self.counts_ = arrays["counts"]

    def item_vectors(self) -> np.ndarray:
        return np.zeros((self.num_items_, 0))


def shares_draw(concentration: Any, keys: jax.Array) -> jax.Array:
    """Logarithms of shares, one draw for all users: they have them in common, and gamma numbers for each are slow."""
    return jax.nn.log_softmax(jax.random.loggamma(keys[0], concentration))[None]
