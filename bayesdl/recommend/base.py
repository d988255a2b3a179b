"""What all recommenders share: scores in blocks of users, rankings with probabilities, likeness.

A recommender gives scores f of all items for any user's row, and draws of their log weights g(f)
under its posterior, where g is the identity except for EASE. The probability that the next item is
i is softmax(g(f) / T)_i over the items that may be recommended. The temperature T is fitted on
validation users.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bayesdl.data.validation import DataError
from bayesdl.recommend.bundle import write_recommender
from bayesdl.recommend.estimator import AbstractEstimator
from bayesdl.recommend.evaluation.metrics import find_hits, hits_of_best, ndcg, rank_items
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.probabilities import (
    TopLists,
    draw_once,
    draw_probabilities,
    fit_temperature,
    upper_bounds,
    user_keys,
    warn_if_miscalibrated,
)
from bayesdl.recommend.recommendations import Recommendations, empty_parts
from bayesdl.recommend.refinement import Refinement
from bayesdl.recommend.rows import CSR, AnyArray, hidden_items, refuse_empty, user_blocks
from bayesdl.recommend.validation import (
    refuse_length,
    refuse_settings,
    warn_of_short_lists,
    warn_of_users_without_items,
)
from bayesdl.typing import ColumnLike, Strategy, TableLike
from inference.core.keys import named_key
from inference.settings import is_whole

RecommenderT = TypeVar("RecommenderT", bound="AbstractRecommender")

# Validation users that fit the temperature, at most.
CALIBRATION_USERS = 1000
# The length of the lists whose hits the temperature matches.
LIST_LENGTH = 20


class AbstractRecommender(AbstractEstimator):
    """A model of which items users choose; a subclass gives its fit, scores and their posterior.

    Attributes:
        needs_items: whether nothing can be said of a user without items.
        in_batches: whether it learns from batches of users, in epochs.
    """

    needs_items: ClassVar[bool] = False
    in_batches: ClassVar[bool] = False

    @abc.abstractmethod
    def fit(
        self,
        train: TableLike,
        validation: HeldOut | None = None,
        *,
        items: ColumnLike | None = None,
    ) -> AbstractRecommender:
        """Learn from users x items.

        Args:
            train: users x items, to learn from.
            validation: users whose held-out items give the temperature; None leaves it at 1.
            items: the labels of the columns; None for those of a DataFrame or of the validation
                users, or else 0, 1, ...
        """

    @abc.abstractmethod
    def block_scores(self, rows: CSR, refinement: Refinement) -> AnyArray:
        """Return the scores of a block of users, shape (b, items)."""

    @abc.abstractmethod
    def block_posterior(self, rows: CSR, refinement: Refinement) -> tuple[AnyArray, Partial]:
        """Return the same scores, and the draw of log weights under the posterior.

        The draw is a function of a key for each user; see `bayesdl.recommend.probabilities`.
        """

    @abc.abstractmethod
    def item_vectors(self) -> np.ndarray:
        """Return the vectors that `similar_items` compares, shape (items, width)."""

    def log_weights(self, scores: AnyArray) -> AnyArray:
        """Return the log weights g(scores), whose softmax is the probability at T = 1."""
        return scores

    @property
    def refines(self) -> bool:
        """Whether each user has a posterior that optimisation steps improve."""
        return False

    @property
    def needs_validation(self) -> bool:
        """Whether settings are chosen on validation users, so that `fit` needs some."""
        return False

    def describe_fit(self) -> list[str]:
        """Return in words what the fit has found beside its arrays, such as the best epoch."""
        return []

    def save(self, path: str | Path, *, key: str | bytes | None = None) -> Path:
        """Write the recommender to a file, which `bayesdl.recommend.load` reads.

        A function given as beta is stored as the number that was used, with a warning.

        Args:
            path: the path of the file.
            key: a secret to sign the file with, which `load(path, key=...)` then asks for.

        Raises:
            NotFittedError: before `fit`.
            BundleError: where the path cannot be written, or items have labels that are neither
                whole numbers nor text.
        """
        return write_recommender(self, path, key)

    def finish_fit(self: RecommenderT, validation: HeldOut | None) -> RecommenderT:
        """End a fit with the temperature: from validation users, or 1."""
        self.temperature_ = 1.0
        try:
            return self if validation is None else self.calibrate(validation)
        except BaseException:
            # Without a temperature it counts as not fitted.
            del self.temperature_
            raise

    def refinement(self, refine_steps: int, likelihood_power: float | int | None) -> Refinement:
        """Return how users' posteriors are found.

        Raises:
            ValueError: for impossible settings, or steps where there is nothing to refine.
        """
        found = Refinement(refine_steps, likelihood_power)
        if found.steps and not self.refines:
            raise ValueError(
                f"refine_steps={refine_steps}: {type(self).__name__} has no posterior of users to "
                "refine; leave it out."
            )
        return found

    def scores(
        self,
        X: TableLike,
        *,
        refine_steps: int = 0,
        likelihood_power: float | int | None = None,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Return the scores of all items in blocks of users.

        Args:
            X: users x items, of old or new users; a row may be empty.
            refine_steps: see `recommend`.
            likelihood_power: see `recommend`.

        Returns:
            An iterator over pairs of a block: the slice of its users, and their scores, shape
            (users of the block, items).
        """
        refinement, rows = self.refinement(refine_steps, likelihood_power), self.rows(X)
        return (
            (users, np.asarray(self.block_scores(part, refinement))[: users.stop - users.start])
            for users, part in user_blocks(rows)
        )

    def calibrate(
        self: RecommenderT,
        validation: HeldOut,
        *,
        k: int | None = None,
        refine_steps: int = 0,
        likelihood_power: float | int | None = None,
    ) -> RecommenderT:
        """Fit the temperature: as many hits are expected as the validation users have.

        `fit` does this for the encoder's answers. Where answers are refined, or under another
        power, call it again with the same settings. The probabilities are then those of what these
        users have hidden. They are right for the next items where the hidden ones came last
        (`strong_split(..., times=...)`), and too large for these where they were random.

        Args:
            validation: the validation users.
            k: the length of the lists; None for 20, or a tenth of the items where that is less.
            refine_steps: see `recommend`.
            likelihood_power: see `recommend`.

        Returns:
            The recommender itself, changed.
        """
        refinement = self.refinement(refine_steps, likelihood_power)
        fold_in, held_out = self.check_held_out(validation)
        refuse_empty(held_out, "validation.held_out")
        judged = np.flatnonzero(np.diff(held_out.indptr))
        some = np.random.default_rng(0).permutation(judged)[:CALIBRATION_USERS]
        fold_in, held_out = fold_in[np.sort(some)], held_out[np.sort(some)]
        k = max(1, min(LIST_LENGTH, self.num_items_ // 10)) if k is None else k
        refuse_length(k, self.num_items_)
        lists, spread = [], 0.0
        blocks = zip(user_blocks(fold_in), user_blocks(held_out), strict=True)
        for (users, part), (_, wanted) in blocks:
            scores, draw = self.block_posterior(part, refinement)
            hide = jnp.asarray(part.toarray() > 0)
            items = rank_items(jnp.where(hide, -jnp.inf, jnp.asarray(scores)), k)[1]
            spread = max(spread, float(np.std(self.log_weights(scores))))
            hits = find_hits(np.asarray(items), wanted).sum(1)
            keys = user_keys(jax.random.key(0), users.start, part.shape[0])
            sizes = jnp.asarray(np.diff(wanted.indptr), jnp.float32)
            lists.append(TopLists(draw, keys, hide, items, sizes, hits))
        self.temperature_, matched = fit_temperature(lists, spread)
        warn_if_miscalibrated(type(self).__name__, lists, self.temperature_, matched)
        return self

    def recommend(
        self,
        X: TableLike,
        k: int = 20,
        *,
        exclude_seen: bool = True,
        strategy: Strategy = "mean",
        refine_steps: int = 0,
        likelihood_power: float | int | None = None,
        candidates: ColumnLike | None = None,
        level: float = 0.9,
        seed: object = 0,
    ) -> Recommendations:
        """Recommend the k best items to each user.

        Args:
            X: users x items of any users, new ones too; a row may be empty.
            k: the number of items.
            exclude_seen: whether items of the user's own row are left out.
            strategy: "mean" ranks by the score at the posterior's mean; the order of the
                probabilities, which are means over the posterior, may differ. "thompson" ranks by
                one draw of the posterior, which explores. "ucb" ranks by the mean plus one standard
                deviation of the log probabilities.
            refine_steps: the number of optimisation steps of each user's posterior from the
                encoder's answer, for recommenders that have one; zero takes that answer, which is
                too sure of users with few items.
            likelihood_power: how many times each choice counts in a user's posterior. None is that
                of training, 1 / beta; 1 is that of the model. A power other than that of training
                needs `refine_steps`.
            candidates: the labels of the items that may be recommended; None for all. Probabilities
                and hits are those of next items among these.
            level: the probability of the intervals.
            seed: the seed of the draws, a whole number.

        Raises:
            DataError: for k above the number of candidates, or unknown candidates.
        """
        rows = self.rows(X)
        allowed = self.candidate_mask(candidates)
        refuse_length(k, int(allowed.sum()))
        whole_seed = refuse_settings(strategy, level, seed)
        refinement = self.refinement(refine_steps, likelihood_power)
        if self.needs_items:
            warn_of_users_without_items(type(self).__name__, rows)
        found: list[list] = []
        for users, part in user_blocks(rows):
            hide = hidden_items(part, allowed, exclude_seen)
            answer = self.recommend_block(
                part, hide, k, strategy, refinement, jax.random.key(whole_seed), users.start
            )
            found.append([np.asarray(leaf)[: users.stop - users.start] for leaf in answer])
        parts = empty_parts(k)
        if found:
            parts = [np.concatenate(leaves) for leaves in zip(*found, strict=True)]
        answer = Recommendations.from_draws(self.items_, *parts, level=level)
        warn_of_short_lists(int((~answer.filled.all(1)).sum()))
        return answer

    def recommend_block(
        self,
        rows: CSR,
        hidden: np.ndarray,
        k: int,
        strategy: Strategy,
        refinement: Refinement,
        key: jax.Array,
        first: int,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Recommend the k best items to each user of a block.

        Args:
            rows: the users' rows.
            hidden: whether each item may not be recommended, shape (b, items).
            k: the number of items.
            strategy: see `recommend`.
            refinement: how the users' posteriors are found.
            key: the key of the draws.
            first: the position of the first user of the block among all.

        Returns:
            The items and their scores, shape (b, k), and `draw_probabilities` of the items.
        """
        ranking, draw = self.block_posterior(rows, refinement)
        hide, shared_key = jnp.asarray(hidden), named_key(key, "chances")[None]
        if strategy == "thompson":
            ranking = draw_once(draw, user_keys(named_key(key, strategy), first, len(hidden)))
        elif strategy == "ucb":
            ranking = upper_bounds(draw, shared_key, hide, self.temperature_)
        scores, items = rank_items(jnp.where(hide, -jnp.inf, jnp.asarray(ranking)), k)
        drawn = draw_probabilities(draw, shared_key, hide, items, self.temperature_)
        return items, scores, *drawn

    def similar_items(self, item: object, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items most like this one, and the cosines of their vectors with its own.

        Args:
            item: the label of the item.
            k: the number of items.

        Raises:
            DataError: for an item without a label here, or a recommender without item vectors.
        """
        if not is_whole(k):
            raise ValueError(f"similar_items(k={k!r}): expected a whole number of at least 1.")
        at = np.flatnonzero(self.items_ == item)
        if not len(at):
            raise DataError(
                f"{item} is not an item of the fit, whose items are {self.items_[:3]}, ..."
            )
        vectors = self.item_vectors()
        if not vectors.shape[1]:
            raise DataError(
                f"{type(self).__name__} does not know which items are alike: take MultVAE or EASE."
            )
        norms = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
        cosine = vectors @ vectors[at[0]] / norms / norms[at[0]]
        order = np.argsort(-cosine, kind="stable")
        order = order[order != at[0]][:k]
        return self.items_[order], cosine[order]

    def score(self, held: HeldOut, k: int = 100) -> float:
        """Return the mean NDCG@k of held-out items.

        Args:
            held: the users to judge on.
            k: the length of the lists.

        Raises:
            DataError: where nothing is held out.
        """
        return self.score_rows(*self.check_held_out(held), k)

    def score_rows(self, fold_in: CSR, held_out: CSR, k: int = 100) -> float:
        """Return the mean NDCG@k of rows that are checked already."""
        refuse_empty(held_out, "held_out")
        hit = self.hits_by_rank(fold_in, held_out, k, Refinement())
        return float(np.nanmean(ndcg(hit, np.diff(held_out.indptr), k)))

    def hits_by_rank(
        self, fold_in: CSR, held_out: CSR, k: int, refinement: Refinement
    ) -> np.ndarray:
        """Return whether each of the k best items that were not shown is held out.

        Args:
            fold_in: the rows that are shown, users x items.
            held_out: the rows that are held out, users x items.
            k: the number of items.
            refinement: how the users' posteriors are found.

        Returns:
            True and False, shape (users, k), or fewer columns where there are fewer items.
        """
        found = []
        for users, part in user_blocks(fold_in):
            scores = np.asarray(self.block_scores(part, refinement))[: users.stop - users.start]
            found.append(hits_of_best(scores, fold_in[users], held_out[users], k))
        return np.concatenate(found)
