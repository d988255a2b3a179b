"""What all recommenders share: scores in blocks of users, rankings with what they mean, and similar items.

A recommender gives scores f of all items for any user's row, and draws of their log weights g(f) under its posterior, where g
is the identity but for EASE. The chance that the next item is i is softmax(g(f) / T)_i over the items that may be recommended,
with a temperature T that is fitted on validation users.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bayesdl.data.validation import DataError
from bayesdl.recommend.autoencoder.codes import Refinement
from bayesdl.recommend.estimator import AbstractEstimator
from bayesdl.recommend.evaluation.metrics import hits as hits_of
from bayesdl.recommend.evaluation.metrics import ndcg, ranked, ranked_hits
from bayesdl.recommend.evaluation.split import HeldOut
from bayesdl.recommend.probabilities import (
    Lists,
    apart,
    draw_once,
    drawn_chances,
    temperature,
    upper,
    warn_of_chances,
)
from bayesdl.recommend.recommendations import Recommendations
from bayesdl.recommend.rows import CSR, blocks, masked, refuse_empty
from bayesdl.recommend.validation import (
    empty,
    refuse_length,
    refuse_settings,
    warn_of_seen,
    warn_of_unknown,
)
from inference.core.keys import named_key

CALIBRATED = 1000  # validation users that fit the temperature
LIST = 20  # length of the lists whose hits it matches


class AbstractRecommender(AbstractEstimator):
    """A model of which items users choose; a subclass gives its fit, its scores and their law."""

    facts: ClassVar[tuple[str, ...]] = ()  # what a fit finds beside arrays
    needs_items: ClassVar[bool] = False  # whether nothing can be said of a user without items

    @abc.abstractmethod
    def fit(self, train: Any, validation: HeldOut | None = None, *, items: Any = None) -> Any:
        """Learns from users x items."""

    @abc.abstractmethod
    def block_scores(self, rows: CSR, how: Refinement) -> Any:
        """Scores of a block of users, shape (b, items)."""

    @abc.abstractmethod
    def block_law(self, rows: CSR, how: Refinement) -> tuple[Any, Partial]:
        """The same scores, and a function of a key for each user that draws their log weights under the posterior."""

    @abc.abstractmethod
    def item_vectors(self) -> np.ndarray:
        """What `similar_items` compares, shape (items, width)."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a fit found, by the names in a file."""
        return {}

    def shapes(self, arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays that a file must have, which may depend on what it has."""
        return {}

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `arrays`."""

    def log_weights(self, scores: Any) -> Any:
        """What the chances at T = 1 are the softmax of."""
        return scores

    @property
    def refines(self) -> bool:
        """Whether each user has a posterior that steps of optimising improve."""
        return False

    def save(self, path: str | Path) -> Path:
        """Writes the recommender to a file, which `bayesdl.recommend.load` reads.

        A function given as beta is stored as the number that was used, with a warning.

        Raises:
            NotFittedError: before `fit`.
            BundleError: where the path cannot be written, or items have labels that are neither whole numbers nor text.
        """
        from bayesdl.recommend.saving import save

        return save(self, path)

    def finish(self, validation: HeldOut | None) -> Any:
        """Ends a fit with the temperature, from validation users or one."""
        self.temperature_ = 1.0
        try:
            return self if validation is None else self.calibrate(validation)
        except BaseException:
            del self.temperature_  # it is not fitted
            raise

    def how(self, refine_steps: int, likelihood_power: Any) -> Refinement:
        """How users' posteriors are found.

        Raises:
            ValueError: for impossible settings, or steps where there is nothing to refine.
        """
        found = Refinement(refine_steps, likelihood_power)
        if found.steps and not self.refines:
            raise ValueError(
                f"refine_steps={refine_steps}: {type(self).__name__} has no posterior of users to refine; leave it out."
            )
        return found

    def scores(
        self, X: Any, *, refine_steps: int = 0, likelihood_power: Any = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The scores of all items in blocks of users: pairs of the users' slice and an array (users of the block, items).

        Args:
            X: users x items, of old or new users; a row may be empty.
            refine_steps: see `recommend`.
            likelihood_power: see `recommend`.
        """
        how, rows = self.how(refine_steps, likelihood_power), self.rows(X)
        return (
            (users, np.asarray(self.block_scores(part, how))[: users.stop - users.start])
            for users, part in blocks(rows)
        )

    def calibrate(
        self,
        validation: HeldOut,
        *,
        k: int | None = None,
        refine_steps: int = 0,
        likelihood_power: Any = None,
    ) -> Any:
        """Fits the temperature: in the lists of validation users as many hits are expected as there are.

        `fit` does this for the encoder's answers; where answers are refined, or under another power, call it again with the
        same settings. Chances are then those of what these users have hidden: of the next items where it is what came last
        (`strong_split(..., times=...)`), and too large for these where it is random. Gives the recommender itself, changed.

        Args:
            validation: users.
            k: length of the lists; None for 20, or a tenth of the items where that is less.
            refine_steps: see `recommend`.
            likelihood_power: see `recommend`.
        """
        how, (fold_in, held_out) = self.how(refine_steps, likelihood_power), self.held(validation)
        refuse_empty(held_out, "validation.held_out")
        some = np.random.default_rng(0).permutation(np.flatnonzero(np.diff(held_out.indptr)))[
            :CALIBRATED
        ]
        fold_in, held_out = fold_in[np.sort(some)], held_out[np.sort(some)]
        k = max(1, min(LIST, self.num_items_ // 10)) if k is None else k
        refuse_length(k, self.num_items_)
        lists, spread = [], 0.0
        for (users, part), (_, wanted) in zip(blocks(fold_in), blocks(held_out), strict=True):
            scores, draw = self.block_law(part, how)
            hide = jnp.asarray(part.toarray() > 0)
            items = ranked(jnp.where(hide, -jnp.inf, jnp.asarray(scores)), k)[1]
            spread = max(spread, float(np.std(self.log_weights(scores))))
            hits = hits_of(np.asarray(items), wanted).sum(1)
            keys = apart(jax.random.key(0), users.start, part.shape[0])
            lists.append(
                Lists(
                    draw, keys, hide, items, jnp.asarray(np.diff(wanted.indptr), jnp.float32), hits
                )
            )
        self.temperature_, matched = temperature(lists, spread)
        warn_of_chances(type(self).__name__, lists, self.temperature_, matched)
        return self

    def recommend(
        self,
        X: Any,
        k: int = 20,
        *,
        exclude_seen: bool = True,
        strategy: str = "mean",
        refine_steps: int = 0,
        likelihood_power: float | int | None = None,
        candidates: Any = None,
        level: float = 0.9,
        seed: Any = 0,
    ) -> Recommendations:
        """The k best items of each user.

        Args:
            X: users x items of any users, new ones too; a row may be empty.
            k: number of items.
            exclude_seen: whether items of the user's own row are left out.
            strategy: "mean" ranks by the score at the posterior's mean (the order of the chances, which are means over the
                posterior, may differ), "thompson" by one draw of it, which explores, "ucb" by the mean plus one standard
                deviation of the log chances.
            refine_steps: steps of optimising each user's posterior from the encoder's answer, of those that have one; zero
                takes that answer, which is too sure of users with few items.
            likelihood_power: how many times each choice counts in a user's posterior; None for as often as in training,
                1 / beta, and 1 for once, as the model has it. Another than that of training needs `refine_steps`.
            candidates: labels of the items that may be recommended, or None for all; chances and hits are of next items among
                these.
            level: of the intervals.
            seed: of the draws.

        Raises:
            DataError: for k above the number of candidates, or unknown candidates.
        """
        rows = self.rows(X)
        allowed = self.allowed(candidates)
        refuse_length(k, int(allowed.sum()))
        refuse_settings(strategy, level, seed)
        how = self.how(refine_steps, likelihood_power)
        if self.needs_items:
            warn_of_unknown(type(self).__name__, rows)
        found: list[list] = []
        for users, part in blocks(rows):
            blocked = masked(part, allowed, exclude_seen)
            answer = self.block_recommended(
                part, blocked, k, strategy, how, jax.random.key(seed), users.start
            )
            found.append([np.asarray(leaf)[: users.stop - users.start] for leaf in answer])
        parts = (
            [np.concatenate(leaves) for leaves in zip(*found, strict=True)] if found else empty(k)
        )
        answer = Recommendations.of(self.items_, *parts, level=level)
        warn_of_seen(int((~answer.filled.all(1)).sum()))
        return answer

    def block_recommended(
        self,
        rows: CSR,
        blocked: np.ndarray,
        k: int,
        strategy: str,
        how: Refinement,
        key: jax.Array,
        first: int,
    ) -> tuple[Any, ...]:
        """Items and scores of a block, shape (b, k), and `drawn_chances` of the items."""
        ranking, draw = self.block_law(rows, how)
        hide, alike = jnp.asarray(blocked), named_key(key, "chances")[None]
        if strategy == "thompson":
            ranking = draw_once(draw, apart(named_key(key, strategy), first, len(blocked)))
        elif strategy == "ucb":
            ranking = upper(draw, alike, hide, self.temperature_)
        scores, items = ranked(jnp.where(hide, -jnp.inf, jnp.asarray(ranking)), k)
        return items, scores, *drawn_chances(draw, alike, hide, items, self.temperature_)

    def similar_items(self, item: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items most like this one, and the cosines of their vectors.

        Raises:
            DataError: for an item without a label here, or a recommender that knows nothing of likeness.
        """
        if not isinstance(k, int | np.integer) or k < 1:
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
        """Mean NDCG@k of held-out items.

        Raises:
            DataError: where nothing is held out.
        """
        return self.score_rows(*self.held(held), k)

    def score_rows(self, fold_in: CSR, held_out: CSR, k: int = 100) -> float:
        """The same of rows that are checked."""
        refuse_empty(held_out, "held_out")
        hit = self.hit_ranks(fold_in, held_out, k, Refinement())
        return float(np.nanmean(ndcg(hit, np.diff(held_out.indptr), k)))

    def hit_ranks(self, fold_in: CSR, held_out: CSR, k: int, how: Refinement) -> np.ndarray:
        """Whether each of the k best items of each user that were not shown is held out, shape (users, k)."""
        found = []
        for users, part in blocks(fold_in):
            scores = np.asarray(self.block_scores(part, how))[: users.stop - users.start]
            found.append(ranked_hits(scores, fold_in[users], held_out[users], k))
        return np.concatenate(found)
