"""Training a network on a prior: the mean of -log q(y | x, data) over data sets drawn anew at each step.

Its minimum over all q is the exact predictive distribution, and what the loss is above that minimum is the mean divergence
KL(p(y | x, data) || q(y | x, data)): the gap (Mueller et al. 2022, arXiv:2112.10510, corollary 1.1).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from inference.amortized.bars import Grids, law
from inference.amortized.network import Network, Shape
from inference.amortized.tasks import Batch, Tasks
from inference.keys import tagged
from inference.progress import AbstractProgress

BLOCK = 50  # steps compiled together
AVERAGED = 0.05  # share of the steps that the averaged weights remember


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Of training.

    Attributes:
        steps: of the optimiser.
        batch_size: data sets per step.
        learning_rate: AdamW's highest; it rises over the first `warmup` of the steps and falls to zero along a cosine.
        warmup: share of the steps.
        weight_decay: AdamW's.
        clip: largest norm of a gradient.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 1.0

    def optimizer(self) -> optax.GradientTransformation:
        warm = max(1, int(self.warmup * self.steps))
        rate = optax.warmup_cosine_decay_schedule(self.learning_rate / warm, self.learning_rate, warm, self.steps)
        adam = optax.adamw(rate, b2=0.98, weight_decay=self.weight_decay)
        return optax.apply_if_finite(optax.chain(optax.clip_by_global_norm(self.clip), adam), max_consecutive_errors=100)


class State(NamedTuple):
    """Of training, all that is needed to go on.

    Attributes:
        network: the weights.
        averaged: their running average, which is what is kept in the end.
        optimizer: its state.
        step: steps done.
    """

    network: Network
    averaged: Network
    optimizer: Any
    step: jax.Array


def loss_of(network: Network, batch: Batch, num_queries: int, grids: Grids) -> jax.Array:
    """The mean of -log q over tasks and queries, and over tasks and latent sites."""
    X, y = batch.X, batch.y
    cache = network.condition(X[:, :-num_queries], y[:, :-num_queries], batch.num_rows)
    logits = network.predict(cache, X[:, -num_queries:])
    loss = -law(logits, grids.target).log_prob(y[:, -num_queries:]).mean()
    if grids.latents is None:
        return loss
    return loss - law(network.latents(cache), grids.latents).log_prob(batch.latents).mean()


@functools.partial(jax.jit, static_argnames=("tasks", "schedule"), donate_argnames="state")
def block(
    state: State, key: jax.Array, count: jax.Array, grids: Grids, *, tasks: Tasks, schedule: Schedule
) -> tuple[State, jax.Array]:
    """`count` more steps, at most `BLOCK`, and their losses; step i has the key that belongs to it."""
    optimizer = schedule.optimizer()

    def step(i: jax.Array, carry: tuple) -> tuple:
        state, losses = carry
        batch = tasks.draw(jax.random.fold_in(key, state.step), schedule.batch_size)
        loss, gradient = eqx.filter_value_and_grad(loss_of)(state.network, batch, tasks.num_queries, grids)
        updates, inner = optimizer.update(gradient, state.optimizer, state.network)
        network: Any = optax.apply_updates(state.network, updates)
        averaged: Any = optax.incremental_update(network, state.averaged, averaging(state.step, schedule.steps))
        return State(network, averaged, inner, state.step + 1), losses.at[i].set(loss)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(BLOCK)))


def averaging(step: jax.Array, steps: int) -> jax.Array:
    """The weight of a new network in the average: 1 / (1 + step) at first, so that the start is forgotten."""
    return jnp.maximum(1 / (1.0 + step), 1 / max(1.0, AVERAGED * steps)).astype(jnp.float32)


def refuse_not_finite(network: Network) -> None:
    """Refuses weights that training has lost.

    Raises:
        ValueError: naming the cure.
    """
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(network)):
        raise ValueError(
            "Training diverged: the network's weights are not finite. Lower learning_rate, and check that the prior draws no "
            "targets or inputs beyond single precision."
        )


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        network: with averaged weights.
        losses: per block.
        skipped: steps whose gradient was not finite.
        seconds: wall and CPU time.
    """

    network: Network
    losses: np.ndarray
    skipped: int
    seconds: tuple[float, float]


def train(
    tasks: Tasks,
    shape: Shape,
    grids: Grids,
    schedule: Schedule,
    key: jax.Array,
    progress: AbstractProgress,
    start: Network | None = None,
) -> Trained:
    """Trains a network from given weights, or from new ones."""
    started, cpu = time.perf_counter(), time.process_time()
    with jax.enable_x64(False):  # the network stays in single precision where its tasks are drawn in double
        network: Any = Network.init(shape, tagged(key, "network")) if start is None else jax.tree.map(jnp.copy, start)
    with jax.enable_x64(tasks.double):
        state = State(network, jax.tree.map(jnp.copy, network), schedule.optimizer().init(network), jnp.zeros((), jnp.int32))
        progress.start(schedule.steps, "training")
        losses, done = [], 0
        try:
            while done < schedule.steps:
                count = min(BLOCK, schedule.steps - done)
                at = tagged(key, "steps"), jnp.asarray(count)
                state, found = block(state, *at, grids, tasks=tasks, schedule=schedule)
                losses.append(float(found[:count].mean()))
                done += count
                rate = done * schedule.batch_size / (time.perf_counter() - started)
                progress.advance(count, loss=f"{losses[-1]:.4f}", data_sets_per_second=f"{rate:.0f}")
        finally:
            progress.close()
        refuse_not_finite(state.averaged)
        skipped = int(state.optimizer.total_notfinite)
        return Trained(state.averaged, np.array(losses), skipped, (time.perf_counter() - started, time.process_time() - cpu))
