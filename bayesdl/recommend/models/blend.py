"""A logarithmic pool of the distributions of several recommenders, with weights:

    log p(i) = sum_j w_j log p_j(i) + constant

The weights w_j are chosen on validation users. Reference: Genest and Zidek (1986), Combining
probability distributions, Statistical Science 1.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike

from bayesdl.data.validation import DataError
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.estimator import AbstractEstimator, register
from bayesdl.recommend.evaluation.metrics import hits_of_best, ndcg
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import CSR, AnyArray, user_blocks
from bayesdl.typing import ColumnLike, StoredArrays, TableLike

# Weights that are tried beside the best member's 1.
GRID = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Sweeps of the coordinate search over the other members.
SWEEPS = 2


@register
@dataclasses.dataclass
class Blend(AbstractRecommender):
    """A logarithmic pool: its scores are weighted sums of its members' log probabilities.

    Members whose temperature was fitted on validation users are weighed by probabilities that can
    be trusted.

    Args:
        members: a list of recommenders. Fitted ones are taken as they are; of others a copy is
            fitted.
        weights: one weight for each member, or None to choose them on validation users, where the
            best member has 1.

    Attributes:
        members_: the fitted members.
        weights_: the weights of the members.
        num_items_: the number of columns of the data that it was fitted to.
        items_: the labels of the items, shape (items,); 0, 1, ... where none were given.
        temperature_: T of the probabilities, fitted on validation users, or 1 without them.

    Example:
        >>> import numpy as np
        >>> from bayesdl.recommend import EASE, Popularity
        >>> X = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]])
        >>> Blend([EASE(l2=1.0), Popularity()], weights=(1.0, 0.5)).fit(X).weights_
        (1.0, 0.5)
    """

    facts: ClassVar[tuple[str, ...]] = ("weights_",)
    members: Any
    weights: Sequence[float] | None = None

    members_: list = dataclasses.field(init=False, repr=False, compare=False)
    weights_: tuple[float, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def check(self) -> None:
        several = isinstance(self.members, list | tuple) and len(self.members) > 1
        if not several or not all(
            isinstance(member, AbstractRecommender) for member in self.members
        ):
            raise ValueError(
                f"Blend(members={self.members!r}): expected a list of two recommenders or more."
            )
        for member in self.members:
            member.check()
        if self.weights is None:
            return
        if len(self.weights) != len(self.members):
            raise ValueError(
                f"Blend: got {len(self.weights)} weights for {len(self.members)} members."
            )
        if not all(0 <= w < np.inf for w in self.weights) or not any(self.weights):
            raise ValueError(
                f"Blend(weights={self.weights!r}): expected numbers of at least 0, not all of "
                "them 0."
            )

    def fit(
        self,
        train: TableLike,
        validation: HeldOut | None = None,
        *,
        items: ColumnLike | None = None,
    ) -> Blend:
        """Fit members that are not fitted, and choose the weights with the best NDCG@100.

        Args:
            train: users x items, counts or ones.
            validation: users whose held-out items choose the weights and the temperature.
            items: the labels of the columns; None for those of a member that is fitted already.

        Raises:
            DataError: for bad values.
            ValueError: without members, or where weights are to be chosen without validation users.
        """
        self.check()
        if self.needs_validation and validation is None:
            raise ValueError(
                "Blend: weights are chosen on validation users; give fit(train, validation=...) or "
                "weights=."
            )
        rows = self.start_fit(train, validation, self.member_labels() if items is None else items)
        self.members_ = [
            m if m.fitted else copy.copy(m).fit(rows, validation, items=self.items_)
            for m in self.members
        ]
        for member in self.members_:
            if member.num_items_ != rows.shape[1]:
                raise DataError(
                    f"A member was fitted to {member.num_items_} items, and these rows have "
                    f"{rows.shape[1]}."
                )
            if not np.array_equal(member.items_, self.items_):
                raise DataError(
                    f"The members were fitted with different labels of items, {member.items_[:3]}, "
                    f"... and {self.items_[:3]}, ...: give all the same items=."
                )
        if self.weights is not None:
            self.weights_ = tuple(map(float, self.weights))
        else:
            self.weights_ = self.choose_weights(validation)
        return self.finish_fit(validation)

    @property
    def needs_validation(self) -> bool:
        """Whether the weights are chosen on validation users."""
        return self.weights is None

    def describe_fit(self) -> list[str]:
        pairs = zip(self.members_, self.weights_, strict=True)
        weights = ", ".join(f"{type(member).__name__} {weight:g}" for member, weight in pairs)
        return [f"weights {weights}"]

    def set_arrays(self, arrays: StoredArrays) -> None:
        # A file holds the members fitted.
        self.members_ = self.members

    def stored_members(self) -> list[AbstractEstimator]:
        return self.members_

    def member_labels(self) -> np.ndarray | None:
        """Return the items' labels of a member that is fitted already, or None."""
        return next((member.items_ for member in self.members if member.fitted), None)

    @property
    def refines(self) -> bool:
        """Whether a member has a posterior of users that optimisation steps improve."""
        return any(member.refines for member in self.members)

    def choose_weights(self, validation: HeldOut | None) -> tuple[float, ...]:
        """Choose weights by coordinate search over `GRID`, from the best member alone."""
        fold_in, held_out = self.members_[0].check_held_out(validation)
        single = np.eye(len(self.members_)).tolist()
        best = int(np.argmax(self.sum_ndcg(single, fold_in, held_out)))
        weights = single[best]
        for place in [place for place in range(len(weights)) if place != best] * SWEEPS:
            tried = [[*weights[:place], w, *weights[place + 1 :]] for w in GRID]
            weights = tried[int(np.argmax(self.sum_ndcg(tried, fold_in, held_out)))]
        return tuple(weights)

    def sum_ndcg(self, tried: list[list[float]], fold_in: CSR, held_out: CSR) -> np.ndarray:
        """Return the sum over users of NDCG@100 with each of these weights, shape (len(tried),).

        The scores of the members are computed once for each block of users.
        """
        sums = np.zeros(len(tried))
        for users, rows in user_blocks(fold_in):
            parts = [member.block_scores(rows, Refinement()) for member in self.members_]
            count, wanted = users.stop - users.start, held_out[users]
            for i, weights in enumerate(tried):
                hit = hits_of_best(self.pool(weights, parts)[:count], rows[:count], wanted, 100)
                sums[i] += np.nansum(ndcg(hit, np.diff(wanted.indptr), 100))
        return sums

    def pool(self, weights: Sequence[float], scores: Sequence[AnyArray]) -> np.ndarray:
        """Return weighted sums of the members' log probabilities, up to a constant for each user.

        Args:
            weights: one weight for each member.
            scores: the scores of each member, shape (b, items).
        """
        parts = zip(weights, self.members_, scores, strict=True)
        return np.add.reduce(
            [w / member.temperature_ * np.asarray(member.log_weights(f)) for w, member, f in parts]
        )

    def block_scores(self, rows: CSR, refinement: Refinement) -> np.ndarray:
        return self.pool(
            self.weights_, [member.block_scores(rows, refinement) for member in self.members_]
        )

    def block_posterior(self, rows: CSR, refinement: Refinement) -> tuple[np.ndarray, Partial]:
        parts = [member.block_posterior(rows, refinement) for member in self.members_]
        scores, draws = zip(*parts, strict=True)
        weights = tuple(
            w / member.temperature_ for w, member in zip(self.weights_, self.members_, strict=True)
        )
        return self.pool(self.weights_, scores), Partial(_draw_pool, draws, weights)

    def item_vectors(self) -> np.ndarray:
        parts = [member.item_vectors() for member in self.members_]
        scaled = [
            w * part / max(float(np.linalg.norm(part)), 1e-12)
            for w, part in zip(self.weights_, parts, strict=True)
        ]
        return np.concatenate(scaled, axis=1)


def _draw_pool(
    draws: tuple[Partial, ...], weights: tuple[ArrayLike, ...], keys: jax.Array
) -> jax.Array:
    """Draw the weighted sum of the members' log weights, shape (b, items).

    Args:
        draws: the members' draws of log weights.
        weights: the members' weights over their temperatures.
        keys: the keys of the users, shape (1,) or (b,).
    """
    each = jax.vmap(lambda key: jax.random.split(key, len(draws)), out_axes=1)(keys)
    parts = (w * draw(k) for draw, w, k in zip(draws, weights, each, strict=True))
    return sum(parts)  # pyright: ignore[reportReturnType]
