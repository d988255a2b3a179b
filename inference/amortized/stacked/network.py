"""Stacked networks: learners fitted to the context, weighted by a gate that a prior has trained.

    log q(c | x, data) = log softmax_c(sum_b w_b(s) log p_b(c | x, data))

p_b are the base learners of `learners`, s their statistics on the context, and w the gate. All of
it is the same for any order of rows, of columns and of classes, and for any number of them. Classes
that the context lacks get the mass exp(m) / (n + 1) each, beside the mass 1 of the others.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.stacked import learners, statistics
from inference.amortized.stacked.gate import Gate
from inference.amortized.stacked.learners import Fitted
from inference.amortized.stacked.statistics import Statistics, combine
from inference.amortized.tasks import Batch
from inference.core.typing import Key
from inference.distributions.bars import Grids

# The fewest rows and columns of a padded data set.
FEWEST = 16

# The number from which sizes are no longer padded to powers of two.
LARGE = 128


class StackedCache(eqx.Module):
    """What `condition` keeps of contexts.

    Attributes:
        fitted: the learners, with a leading axis of tasks.
        statistics: the statistics of the contexts, likewise.
        weights: the weights of learners, shape (tasks, learners).
        missing: the logarithm of the mass of each class that the context lacks, shape (tasks,).
        units: None, as targets are classes.
    """

    fitted: Fitted
    statistics: Statistics
    weights: jax.Array
    missing: jax.Array
    units: None


class Prepared(eqx.Module):
    """Data sets as the gate sees them, each array with a leading axis of tasks.

    Attributes:
        statistics: the statistics of the contexts.
        log_probs: log probabilities of queries, shape (tasks, learners, queries, classes).
        targets: the classes of queries, shape (tasks, queries).
    """

    statistics: Statistics
    log_probs: jax.Array
    targets: jax.Array


class StackedNetwork(AbstractNetwork):
    """A stacked network; the module's docstring defines it.

    Attributes:
        shape: the sizes of the network.
        gate: the weights of the gate.
    """

    shape: Shape = eqx.field(static=True)
    gate: Gate

    at_once: ClassVar[int] = 4
    num_checked: ClassVar[int] = 64
    reuse: ClassVar[int] = 16
    any_columns: ClassVar[bool] = True

    @classmethod
    def init(cls, shape: Shape, key: Key) -> StackedNetwork:
        """Return a network that stacks classically."""
        number = len(learners.NAMES)
        features = number * (statistics.PER_LEARNER + 1) + statistics.OF_CONTEXT
        return cls(shape, Gate.init(features, shape.width, number, key))

    @classmethod
    def settle(cls, shape: Shape) -> Shape:
        return dataclasses.replace(shape, layers=2, heads=1, hidden=shape.width, frequencies=0)

    @classmethod
    def refusal(cls, shape: Shape) -> str | None:
        if not shape.num_classes:
            return "it predicts classes, and the model's targets are numbers"
        if shape.num_latents:
            return "it learns no posteriors of latent sites"
        return None

    def padded(self, rows: int, columns: int) -> tuple[int, int]:
        return _round_up(rows), _round_up(columns)

    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> StackedCache:
        fitted, found = jax.lax.map(lambda task: self._fit(*task), (X, y, num_rows))
        weights, missing = self._weigh(found)
        return StackedCache(
            fitted=fitted, statistics=found, weights=weights, missing=missing, units=None
        )

    def _weigh(self, found: Statistics) -> tuple[jax.Array, jax.Array]:
        """Return the weights of learners, and the logarithm of the mass of each missing class."""
        weights, mass = self.gate(found.features, found.stacking)
        return weights, mass - jnp.log1p(found.num_rows.astype(mass.dtype))

    def _fit(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> tuple[Fitted, Statistics]:
        """Fit the learners to one context, and return them with their statistics."""
        X, y = X.astype(jnp.float32), y.astype(jnp.int32)
        fitted, left_out, y = learners.fit(X, y, num_rows, self.shape.num_classes)
        columns = fitted.columns.used.sum()
        return fitted, statistics.describe(left_out, y, num_rows, columns, fitted.present)

    def predict(self, cache: StackedCache, X: jax.Array) -> jax.Array:
        return self._logits(cache.weights, cache, self.learn_log_probs(cache, X))

    def learn_log_probs(self, cache: StackedCache, X: jax.Array) -> jax.Array:
        """Return the learners' log probabilities, shape (tasks, learners, queries, classes)."""
        queries = X.astype(jnp.float32)
        return jax.lax.map(lambda task: task[0].log_probs(task[1]), (cache.fitted, queries))

    def _logits(self, weights: jax.Array, cache: StackedCache, log_probs: jax.Array) -> jax.Array:
        """Return log probabilities of classes given weights of learners, not normalised."""
        return _with_missing(weights, log_probs, cache.statistics.present, cache.missing)

    def predict_latents(self, cache: StackedCache) -> jax.Array:
        raise NotImplementedError("A stacked network learns no posteriors of latent sites.")

    def baselines(self, cache: StackedCache, X: jax.Array) -> dict[str, jax.Array]:
        log_probs, found = self.learn_log_probs(cache, X), cache.statistics
        best = jax.nn.one_hot(found.losses.argmin(1), log_probs.shape[1])
        ways = {"selection by leave-one-out": best, "classical stacking": found.stacking}
        return {name: self._logits(weights, cache, log_probs) for name, weights in ways.items()}

    def prepare(self, batch: Batch, num_queries: int) -> Prepared:
        """Return data sets as the gate sees them; no weights take part."""

        def one(task: tuple) -> tuple[Statistics, jax.Array]:
            X, y, num_rows = task
            fitted, found = self._fit(X[:-num_queries], y[:-num_queries], num_rows)
            return found, fitted.log_probs(X[-num_queries:])

        found, log_probs = jax.lax.map(one, (batch.X, batch.y, batch.num_rows))
        return Prepared(found, log_probs, batch.y[:, -num_queries:])

    def prepared_loss(self, prepared: Prepared, grids: Grids) -> jax.Array:
        """Return the mean of -log q of prepared data sets."""
        found = prepared.statistics
        weights, missing = self._weigh(found)
        logits = _with_missing(weights, prepared.log_probs, found.present, missing)
        log_q = jax.nn.log_softmax(logits, -1)
        return -jnp.take_along_axis(log_q, prepared.targets[..., None], -1).mean()


def _with_missing(
    weights: jax.Array, log_probs: jax.Array, present: jax.Array, missing: jax.Array
) -> jax.Array:
    """Return log probabilities of all classes, not normalised, shape (tasks, queries, classes)."""
    found = jax.vmap(combine)(weights, log_probs, present)
    return jnp.where(present[:, None, :], found, missing[:, None, None])


def _round_up(number: int) -> int:
    """Return a power of two up to `LARGE`, and from there on a quarter larger at most."""
    power = max(FEWEST, 1 << max(number - 1, 0).bit_length())
    step = power if power <= LARGE else power // 8
    return -(-number // step) * step
