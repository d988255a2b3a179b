"""How often items are chosen by all users, with its posterior: a Dirichlet distribution of shares.

p | counts ~ Dirichlet(counts + 1 / 2),    scores log E p
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.estimator import register
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import CSR, AnyArray
from bayesdl.typing import ColumnLike, StoredArrays, TableLike

# Jeffreys' counts before the data.
PRIOR_COUNTS = 0.5


@register
@dataclasses.dataclass
class Popularity(AbstractRecommender):
    """The items that most users choose, the same for all: the baseline of every recommender.

    With `strategy="thompson"`, users in the same call get one draw.

    Attributes:
        counts_: the sums of the users' entries for each item, shape (items,).
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, fitted on validation users, or 1 without them.

    Example:
        >>> import numpy as np
        >>> model = Popularity().fit(np.array([[1, 1, 0], [0, 1, 0]]))
        >>> model.recommend(np.zeros((1, 3)), k=2).items.tolist()
        [[1, 0]]
    """

    counts_: np.ndarray = dataclasses.field(init=False, repr=False, compare=False)

    def fit(
        self,
        train: TableLike,
        validation: HeldOut | None = None,
        *,
        items: ColumnLike | None = None,
    ) -> Popularity:
        """Count the entries of each item; validation users give the temperature.

        Args:
            train: users x items, counts or ones.
            validation: users whose held-out items give the temperature; None leaves it at 1.
            items: the labels of the columns.

        Raises:
            DataError: for bad values, or a matrix without entries.
        """
        rows = self.start_fit(train, validation, items)
        self.counts_ = np.asarray(rows.sum(0)).ravel().astype(np.float64)
        return self.finish_fit(validation)

    def block_scores(self, rows: CSR, refinement: Refinement) -> np.ndarray:
        counts = self.counts_ + PRIOR_COUNTS
        shares = np.log(counts) - np.log(counts.sum())
        return np.repeat(shares[None].astype(np.float32), rows.shape[0], 0)

    def block_posterior(self, rows: CSR, refinement: Refinement) -> tuple[np.ndarray, Partial]:
        concentration = jnp.asarray(self.counts_ + PRIOR_COUNTS, jnp.float32)
        return self.block_scores(rows, refinement), Partial(_draw_log_shares, concentration)

    def arrays(self) -> StoredArrays:
        return {"counts": self.counts_}

    def array_shapes(self, arrays: StoredArrays) -> dict[str, tuple[int, ...]]:
        return {"counts": (self.num_items_,)}

    def set_arrays(self, arrays: StoredArrays) -> None:
        self.counts_ = arrays["counts"]

    def item_vectors(self) -> np.ndarray:
        return np.zeros((self.num_items_, 0))


def _draw_log_shares(concentration: AnyArray, keys: jax.Array) -> jax.Array:
    """Draw the logarithms of the items' shares, shape (1, items).

    It is one draw for all users: they have the shares in common, and gamma numbers for each user
    are slow.

    Args:
        concentration: the parameters of the Dirichlet distribution, shape (items,).
        keys: the keys of the users; the first one is used.
    """
    return jax.nn.log_softmax(jax.random.loggamma(keys[0], concentration))[None]
