"""EASE: a linear model of each item on all others, in closed form (Steck 2019, arXiv:1905.03375).

    B_j = argmin |x_j - X b|^2 + lambda |b|^2  with  b_j = 0
    P = (X'X + lambda I)^-1,   B = I - P diag(P)^-1

It is the regression of a Gaussian Markov random field with precision P (Steck 2019, NeurIPS), so
the weights have a posterior:

    B_j | X ~ N(mean, s_j^2 (P - P_.j P_j. / P_jj)),    s_j^2 = (1 / P_jj - lambda) / n

The score of item j for a user x that does not have it has mean x'B_j and variance
s_j^2 (x'P x - (x'P_j)^2 / P_jj). Here n is the number of users, and 1 / P_jj - lambda is the
smallest penalised sum of squares. A score predicts linearly whether the user has the item, so the
probability of item j to be the next is proportional to max(score_j, FLOOR max_i score_i)^(1 / T).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse
from jax.tree_util import Partial

from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.estimator import register
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.probabilities import normal_noise
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import CSR, AnyArray
from bayesdl.typing import ColumnLike, StoredArrays, TableLike

# The least score, as a share of a user's best: scores may be negative or next to nothing.
FLOOR = 1e-3
# The best score that is assumed for users without a positive score.
TINY = 1e-6


@register
@dataclasses.dataclass
class EASE(AbstractRecommender):
    """A linear model of each item on all others, in closed form (Steck 2019, arXiv:1905.03375).

    For a user without items all scores are zero, with no variance: blend it with `Popularity` where
    there are such users.

    Args:
        l2: lambda, the ridge penalty; 500 is the paper's value for
            MovieLens 20M.

    Attributes:
        precision_: P, shape (items, items).
        num_users_: n, the number of training users.
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, fitted on validation users, or 1 without them.

    Example:
        >>> import numpy as np
        >>> model = EASE(l2=1.0).fit(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]))
        >>> model.recommend(np.array([[1, 0, 0]]), k=1).items.tolist()
        [[1]]
    """

    facts: ClassVar[tuple[str, ...]] = ("num_users_",)
    needs_items: ClassVar[bool] = True
    l2: float | int = 500.0

    precision_: np.ndarray = dataclasses.field(init=False, repr=False, compare=False)
    num_users_: int = dataclasses.field(init=False, repr=False, compare=False)

    def fit(
        self,
        train: TableLike,
        validation: HeldOut | None = None,
        *,
        items: ColumnLike | None = None,
    ) -> EASE:
        """Learn from users x items, and the temperature from validation users.

        Args:
            train: users x items, counts or ones.
            validation: users whose held-out items give the temperature; None leaves it at 1.
            items: the labels of the columns.

        Raises:
            DataError: for bad values, or a matrix without entries.
        """
        rows = self.start_fit(train, validation, items)
        gram = (rows.T.astype(np.float64) @ rows.astype(np.float64)).toarray()
        gram[np.diag_indices_from(gram)] += self.l2
        self.precision_ = _invert(gram)
        self.num_users_ = rows.shape[0]
        return self.finish_fit(validation)

    def check(self) -> None:
        if not 0 < self.l2 < np.inf:
            raise ValueError(f"EASE(l2={self.l2!r}): expected a number above zero.")

    @property
    def weights(self) -> np.ndarray:
        """B, shape (items, items); its diagonal is zero."""
        B = -self.precision_ / np.diag(self.precision_)[None]
        np.fill_diagonal(B, 0.0)
        return B

    def block_scores(self, rows: CSR, refinement: Refinement) -> np.ndarray:
        return self.block_moments(rows)[0]

    def block_moments(self, rows: CSR) -> tuple[np.ndarray, np.ndarray]:
        """Return posterior means and variances of the scores, shape (b, items)."""
        # x B = x - x P / diag(P), so B is never formed.
        seen, diagonal = rows @ self.precision_, np.diag(self.precision_)[None]
        noise = np.maximum(1 / diagonal - self.l2, 0) / self.num_users_
        whole = np.asarray(rows.multiply(seen).sum(1)).reshape(-1, 1)
        variance = noise * np.maximum(whole - seen**2 / diagonal, 0)
        return rows.toarray() - seen / diagonal, variance

    def log_weights(self, scores: AnyArray) -> np.ndarray:
        return np.log(np.maximum(scores, _least_score(scores)))

    def block_posterior(self, rows: CSR, refinement: Refinement) -> tuple[np.ndarray, Partial]:
        mean, variance = self.block_moments(rows)
        parts = (mean, np.sqrt(variance), _least_score(mean))
        return mean, Partial(_draw_log_weights, *(jnp.asarray(part, jnp.float32) for part in parts))

    def arrays(self) -> StoredArrays:
        return {"precision": self.precision_}

    def array_shapes(self, arrays: StoredArrays) -> dict[str, tuple[int, ...]]:
        return {"precision": (self.num_items_, self.num_items_)}

    def set_arrays(self, arrays: StoredArrays) -> None:
        self.precision_ = arrays["precision"]

    def item_vectors(self) -> np.ndarray:
        return self.weights.T


def _least_score(scores: AnyArray) -> AnyArray:
    """Return the score that lower scores are raised to, shape (b, 1)."""
    return FLOOR * np.maximum(scores.max(1, keepdims=True), TINY)


def _draw_log_weights(mean: AnyArray, sd: AnyArray, least: AnyArray, keys: jax.Array) -> jax.Array:
    """Draw the log weights of normal scores, shape (b, items).

    Args:
        mean: the means of the scores, shape (b, items).
        sd: the standard deviations of the scores, shape (b, items).
        least: the score that lower scores are raised to, shape (b, 1).
        keys: the keys of the users, shape (1,) or (b,).
    """
    return jnp.log(jnp.maximum(mean + sd * normal_noise(keys, mean.shape[1]), least))


def _invert(gram: np.ndarray) -> np.ndarray:
    """Return the inverse of a positive definite matrix, which is overwritten.

    The inverse is computed from the Cholesky factor.
    """
    factor = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    dpotri: Any = scipy.linalg.get_lapack_funcs("potri", (factor,))
    found = dpotri(factor, lower=True, overwrite_c=True)[0]
    upper = np.triu_indices(len(found), 1)
    found[upper] = found.T[upper]
    return np.ascontiguousarray(found)
