"""What all recommenders share: scores in blocks of users, rankings with what they mean, and similar items.

A recommender gives scores f of all items for any user's row, and draws of them under its posterior. The chance that the next
item is i is softmax(f / T)_i over the items that may be recommended, with a temperature T that is fitted on validation users.
"""

from __future__ import annotations

import abc
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.tree_util import Partial

from bayesdl.cells import DataError
from bayesdl.recommend.chances import DRAWS, Lists, draw_once, drawn_probabilities, temperature, upper
from bayesdl.recommend.metrics import hits as hits_of
from bayesdl.recommend.metrics import ndcg, ranked, ranked_hits
from bayesdl.recommend.recommendations import Recommendations
from bayesdl.recommend.rows import CSR, as_rows
from bayesdl.recommend.split import HeldOut
from inference.keys import named

BLOCK = 500  # users whose scores are in memory at a time
SIZES = (1, 32, BLOCK)  # of blocks, each compiled once
CALIBRATED = 1000  # validation users that fit the temperature
LIST = 20  # length of the lists whose hits it matches
STRATEGIES = ("mean", "thompson", "ucb")


class NotFittedError(ValueError):
    """The recommender was asked before it was fitted."""


@dataclasses.dataclass(frozen=True)
class Refinement:
    """How a user's posterior is found from the encoder's answer.

    Attributes:
        steps: of optimising each user's mean and variance; zero takes the encoder's.
        likelihood_power: of the posterior; None for that of training.
    """

    steps: int = 0
    likelihood_power: float | int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int | np.integer) or isinstance(self.steps, bool) or self.steps < 0:
            raise ValueError(f"refine_steps={self.steps!r}: expected a whole number of at least 0.")
        if self.likelihood_power is not None and not self.likelihood_power > 0:
            raise ValueError(f"likelihood_power={self.likelihood_power!r}: expected a number above zero.")
        if self.likelihood_power is not None and not self.steps:
            raise ValueError("likelihood_power: the encoder knows that of training; give refine_steps too, such as 100.")


class AbstractRecommender(abc.ABC):
    """A model of which items users choose, in scikit-learn's style: settings at the start, `fit`, then attributes with `_`.

    Attributes:
        num_items_: columns of the data it was fitted to.
        items_: labels of the items, or their numbers.
        temperature_: T of the probabilities.
    """

    num_items_: int
    items_: np.ndarray
    temperature_: float

    @abc.abstractmethod
    def fit(self, train: Any, validation: HeldOut | None = None, *, items: Any = None) -> Any:
        """Learns from users x items."""

    @abc.abstractmethod
    def block_scores(self, rows: CSR, how: Refinement) -> Any:
        """Scores of a block of users, shape (b, items)."""

    @abc.abstractmethod
    def block_law(self, rows: CSR, how: Refinement) -> tuple[Any, Partial]:
        """The same scores, and a function of a key that draws them under the posterior."""

    @abc.abstractmethod
    def item_vectors(self) -> np.ndarray:
        """What `similar_items` compares, shape (items, width)."""

    def check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuses settings that have no meaning.

        Raises:
            ValueError: naming the setting.
        """

    def save(self, path: str | Path) -> Path:
        """Writes the recommender to a file, which `bayesdl.recommend.load` reads.

        A function given as beta is stored as the number that was used, with a warning.

        Raises:
            NotFittedError: before `fit`.
            BundleError: where the path cannot be written, or items have labels that are neither whole numbers nor text.
        """
        from bayesdl.recommend.saved import save

        return save(self, path)

    def learned(self, rows: CSR, items: Any) -> None:
        """Remembers the items, to be called by `fit`.

        Raises:
            DataError: where there is not a label for each.
        """
        labels = np.arange(rows.shape[1]) if items is None else np.asarray(items)
        if labels.shape != (rows.shape[1],):
            raise DataError(f"items has shape {labels.shape}, expected one label for each of {rows.shape[1]} columns.")
        if len(np.unique(labels)) < len(labels):
            raise DataError("items: two columns have one label; give each its own.")
        self.num_items_, self.items_, self.temperature_ = rows.shape[1], labels, 1.0

    def rows(self, X: Any) -> CSR:
        """Users' rows, checked against the fit; one row may be given alone."""
        if not hasattr(self, "num_items_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit(train) first.")
        if not scipy.sparse.issparse(X) and np.ndim(X) == 1:
            X = np.asarray(X)[None]
        return as_rows(X, self.num_items_)

    def scores(self, X: Any, *, refine_steps: int = 0, likelihood_power: Any = None) -> Iterator[tuple[slice, np.ndarray]]:
        """The scores of all items in blocks of users: pairs of the users' slice and an array (users of the block, items).

        Args:
            X: users x items, of old or new users; a row may be empty.
            refine_steps: see `recommend`.
            likelihood_power: see `recommend`.
        """
        how, rows = Refinement(refine_steps, likelihood_power), self.rows(X)
        return ((users, np.asarray(self.block_scores(part, how))[: users.stop - users.start]) for users, part in blocks(rows))

    def calibrate(self, validation: HeldOut, *, refine_steps: int = 0) -> None:
        """Fits the temperature: among the best items of validation users as many hits are expected as there are.

        `fit` does this for the encoder's answers; where all are refined, call it again with as many steps.
        """
        fold_in, held_out = self.rows(validation.fold_in), as_rows(validation.held_out, self.num_items_)
        fold_in, held_out, how = fold_in[:CALIBRATED], held_out[:CALIBRATED], Refinement(refine_steps)
        k = max(1, min(LIST, self.num_items_ // 10))
        lists, hits, spread = [], 0, 0.0
        for (users, part), (_, wanted) in zip(blocks(fold_in), blocks(held_out), strict=True):
            scores, draw = self.block_law(part, how)
            hide = jnp.asarray(part.toarray() > 0)
            items = ranked(jnp.where(hide, -jnp.inf, jnp.asarray(scores)), k)[1]
            count, spread = users.stop - users.start, max(spread, float(np.std(scores)))
            hits += int(hits_of(np.asarray(items)[:count], wanted[:count]).sum())
            lists.append(Lists(draw, hide, items, jnp.asarray(wanted.sum(1), jnp.float32)))
        self.temperature_, matched = temperature(lists, hits, spread)
        if matched != hits:
            warnings.warn(
                f"{type(self).__name__}: {matched:.1f} hits of validation users are expected at the best temperature, {hits} "
                "are there: its chances are doubtful.",
                stacklevel=3,
            )

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
        seed: int = 0,
    ) -> Recommendations:
        """The k best items of each user.

        Args:
            X: users x items of any users, new ones too; a row may be empty.
            k: number of items.
            exclude_seen: whether items of the user's own row are left out.
            strategy: "mean" ranks by the score at the posterior's mean, "thompson" by one draw of it, which explores, "ucb" by
                the mean plus one standard deviation of the log chances.
            refine_steps: steps of optimising each user's posterior from the encoder's answer, of those that have one; zero
                takes that answer, which is too sure of users with few items.
            likelihood_power: of the posterior behind draws and intervals; None for that of training, 1 / beta, and 1 for the
                model's own. Another than that of training needs `refine_steps`.
            candidates: labels of the items that may be recommended, or None for all.
            level: of the intervals.
            seed: of the draws.

        Raises:
            DataError: for k above the number of candidates, or unknown candidates.
        """
        rows = self.rows(X)
        allowed = self.allowed(candidates)
        refuse_settings(k, int(allowed.sum()), strategy, level)
        how = Refinement(refine_steps, likelihood_power)
        found: list[list] = []
        key = jax.random.key(seed)
        for users, part in blocks(rows):
            blocked = masked(part, allowed, exclude_seen)
            answer = self.block_recommended(part, blocked, k, strategy, how, jax.random.fold_in(key, users.start))
            found.append([np.asarray(leaf)[: users.stop - users.start] for leaf in answer])
        parts = [np.concatenate(leaves) for leaves in zip(*found, strict=True)] if found else empty(k)
        answer = Recommendations.of(self.items_, *parts, level=level)
        warn_of_seen(int((~answer.filled.all(1)).sum()))
        return answer

    def block_recommended(
        self, rows: CSR, blocked: np.ndarray, k: int, strategy: str, how: Refinement, key: jax.Array
    ) -> tuple[Any, Any, Any]:
        """Items and scores of a block, shape (b, k), and draws of the items' probabilities, (b, draws, k)."""
        ranking, draw = self.block_law(rows, how)
        hide = jnp.asarray(blocked)
        if strategy == "thompson":
            ranking = draw_once(draw, named(key, strategy))
        elif strategy == "ucb":
            ranking = upper(draw, named(key, strategy), hide, self.temperature_)
        scores, items = ranked(jnp.where(hide, -jnp.inf, jnp.asarray(ranking)), k)
        return items, scores, drawn_probabilities(draw, named(key, "probabilities"), hide, items, self.temperature_)

    def allowed(self, candidates: Any) -> np.ndarray:
        """Which items may be recommended.

        Raises:
            DataError: for labels that no item has.
        """
        if candidates is None:
            return np.ones(self.num_items_, bool)
        labels = np.asarray(candidates)
        unknown = labels[~np.isin(labels, self.items_)]
        if len(unknown):
            raise DataError(f"candidates: {unknown[0]} is not an item of the fit, whose items are {self.items_[:3]}, ...")
        return np.isin(self.items_, labels)

    def similar_items(self, item: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items most like this one, and the cosines of their vectors.

        Raises:
            DataError: for an item without a label here, or a recommender that knows nothing of likeness.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"similar_items(k={k!r}): expected a whole number of at least 1.")
        at = np.flatnonzero(self.items_ == item)
        if not len(at):
            raise DataError(f"{item} is not an item of the fit, whose items are {self.items_[:3]}, ...")
        vectors = self.item_vectors()
        if not vectors.shape[1]:
            raise DataError(f"{type(self).__name__} does not know which items are alike: take MultVAE or EASE.")
        norms = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
        cosine = vectors @ vectors[at[0]] / norms / norms[at[0]]
        order = np.argsort(-cosine, kind="stable")
        order = order[order != at[0]][:k]
        return self.items_[order], cosine[order]

    def score(self, held: HeldOut, k: int = 100) -> float:
        """Mean NDCG@k of held-out items."""
        fold_in, held_out = self.rows(held.fold_in), as_rows(held.held_out, self.num_items_)
        hit = np.concatenate([ranked_hits(f, fold_in[users], held_out[users], k) for users, f in self.scores(fold_in)])
        return float(np.nanmean(ndcg(hit, np.diff(held_out.indptr), k)))


def blocks(rows: CSR) -> Iterator[tuple[slice, CSR]]:
    """Slices of users, and their rows, filled up with empty ones to a number from a short list."""
    for first in range(0, rows.shape[0], BLOCK):
        part = rows[first : first + BLOCK]
        count = part.shape[0]
        size = next(size for size in SIZES if size >= count)
        if size > count:
            part = scipy.sparse.vstack([part, scipy.sparse.csr_array((size - count, part.shape[1]), dtype=part.dtype)], "csr")
        yield slice(first, first + count), scipy.sparse.csr_array(part)


def masked(rows: CSR, allowed: np.ndarray, exclude_seen: bool) -> np.ndarray:
    """Which items each user is not to be given, shape (b, items)."""
    blocked = np.repeat(~allowed[None], rows.shape[0], axis=0)
    if exclude_seen:
        blocked[rows.tocoo().coords] = True
    return blocked


def refuse_settings(k: int, candidates: int, strategy: str, level: float) -> None:
    """Refuses what cannot be asked for.

    Raises:
        DataError: for k above the number of candidates.
        ValueError: for other settings.
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise ValueError(f"recommend(k={k!r}): expected a whole number of at least 1.")
    if k > candidates:
        raise DataError(f"recommend(k={k}): there are {candidates} candidates; ask for at most so many.")
    if strategy not in STRATEGIES:
        raise ValueError(f"recommend(strategy={strategy!r}): expected one of {', '.join(STRATEGIES)}.")
    if not 0 < level < 1:
        raise ValueError(f"recommend(level={level!r}): expected a number with 0 < level < 1.")


def empty(k: int) -> list[np.ndarray]:
    return [np.zeros((0, k), int), np.zeros((0, k)), np.zeros((0, DRAWS, k))]


def warn_of_seen(count: int) -> None:
    """Says that some users get fewer items than asked for."""
    if count:
        told = f"{count} users have fewer unseen candidates than k: the rest of their rows holds no items, see `filled`."
        warnings.warn(told, stacklevel=3)
