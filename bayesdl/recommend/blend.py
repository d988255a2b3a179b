"""A logarithmic pool of the laws of several recommenders, weighted as validation users say:

    log p(i) = sum_j w_j log p_j(i) + constant

Reference: Genest and Zidek (1986), Combining probability distributions, Statistical Science 1.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jax.tree_util import Partial

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.codes import Refinement
from bayesdl.recommend.base import AbstractRecommender
from bayesdl.recommend.evaluation.metrics import ndcg, ranked_hits
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.rows import CSR, blocks

GRID = (
    0.0,
    0.125,
    0.25,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
)  # weights that are tried beside the best member's 1
SWEEPS = 2  # over the other members


@dataclasses.dataclass
class Blend(AbstractRecommender):
    """A logarithmic pool of recommenders: its scores are weighted sums of the log chances of its members.

    Members whose temperature was fitted, by validation users, are weighed by chances that can be trusted.

    Args:
        members: a list of recommenders. Those that are fitted are taken as they are, of others a copy is fitted.
        weights: one for each member, or None to choose them on validation users, the best member having 1.

    Attributes:
        members_: the fitted members.
        weights_: of the members.

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
                f"Blend(weights={self.weights!r}): expected numbers of at least 0, not all of them 0."
            )

    def fit(self, train: Any, validation: HeldOut | None = None, *, items: Any = None) -> Any:
        """Fits members that are not fitted, and chooses the weights with the best NDCG@100 one after the other.

        Raises:
            DataError: for bad values.
            ValueError: without members, or where weights are to be chosen without validation users.
        """
        self.check()
        if self.weights is None and validation is None:
            raise ValueError(
                "Blend: weights are chosen on validation users; give fit(train, validation=...) or weights=."
            )
        rows = self.begin(train, validation, self.labels() if items is None else items)
        self.members_ = [
            m if m.fitted else copy.copy(m).fit(rows, validation, items=self.items_)
            for m in self.members
        ]
        for member in self.members_:
            if member.num_items_ != rows.shape[1]:
                raise DataError(
                    f"A member was fitted to {member.num_items_} items, and these rows have {rows.shape[1]}."
                )
            if not np.array_equal(member.items_, self.items_):
                raise DataError(
                    f"The members were fitted with different labels of items, {member.items_[:3]}, ... and {self.items_[:3]}, "
                    "...: give all the same items=."
                )
        self.weights_ = (
            tuple(map(float, self.weights)) if self.weights is not None else self.chosen(validation)
        )
        return self.finish(validation)

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        self.members_ = self.members  # a file holds them fitted

    def labels(self) -> Any:
        """Those of a member that is fitted already, or None."""
        return next((member.items_ for member in self.members if member.fitted), None)

    @property
    def refines(self) -> bool:
        return any(member.refines for member in self.members)

    def chosen(self, validation: Any) -> tuple[float, ...]:
        """Weights by coordinate search over `GRID` from the best member alone."""
        fold_in, held_out = self.members_[0].held(validation)
        alone = np.eye(len(self.members_)).tolist()
        best = int(np.argmax(self.totals(alone, fold_in, held_out)))
        weights = alone[best]
        for place in [place for place in range(len(weights)) if place != best] * SWEEPS:
            tried = [[*weights[:place], w, *weights[place + 1 :]] for w in GRID]
            weights = tried[int(np.argmax(self.totals(tried, fold_in, held_out)))]
        return tuple(weights)

    def totals(self, tried: list[list[float]], fold_in: CSR, held_out: CSR) -> np.ndarray:
        """The sum over users of NDCG@100 with each of these weights, by blocks of users."""
        sums = np.zeros(len(tried))
        for users, rows in blocks(fold_in):
            parts, count = (
                [member.block_scores(rows, Refinement()) for member in self.members_],
                users.stop - users.start,
            )
            wanted = held_out[users]
            for i, weights in enumerate(tried):
                total = self.pooled(weights, parts)[:count]
                sums[i] += np.nansum(
                    ndcg(ranked_hits(total, rows[:count], wanted, 100), np.diff(wanted.indptr), 100)
                )
        return sums

    def pooled(self, weights: Sequence[float], scores: Sequence[Any]) -> np.ndarray:
        """Weighted sums of the members' log chances, up to a constant of each user."""
        parts = zip(weights, self.members_, scores, strict=True)
        return np.add.reduce(
            [w / member.temperature_ * np.asarray(member.log_weights(f)) for w, member, f in parts]
        )

    def block_scores(self, rows: CSR, how: Refinement) -> Any:
        return self.pooled(
            self.weights_, [member.block_scores(rows, how) for member in self.members_]
        )

    def block_law(self, rows: CSR, how: Refinement) -> tuple[Any, Partial]:
        scores, draws = zip(*[member.block_law(rows, how) for member in self.members_], strict=True)
        weights = tuple(
            w / member.temperature_ for w, member in zip(self.weights_, self.members_, strict=True)
        )
        return self.pooled(self.weights_, scores), Partial(pooled_draw, draws, weights)

    def item_vectors(self) -> np.ndarray:
        parts = [member.item_vectors() for member in self.members_]
        scaled = [
            w * part / max(float(np.linalg.norm(part)), 1e-12)
            for w, part in zip(self.weights_, parts, strict=True)
        ]
        return np.concatenate(scaled, axis=1)


def pooled_draw(draws: tuple, weights: tuple, keys: jax.Array) -> jax.Array:
    each = jax.vmap(lambda key: jax.random.split(key, len(draws)), out_axes=1)(keys)
    return sum(w * draw(k) for draw, w, k in zip(draws, weights, each, strict=True))  # type: ignore[return-value]
