"""Training a network on a prior.

The loss is the mean of -log q(y | x, data) over data sets drawn anew at each step. Its minimum over
all q is the exact predictive distribution. The loss exceeds that minimum by the mean divergence
KL(p(y | x, data) || q(y | x, data)), the gap (Mueller et al. 2022, arXiv:2112.10510, corollary
1.1).

The optimiser is AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). Its learning rate rises over
the first steps and falls to zero along a cosine. Gradients are clipped. Steps whose gradient is not
finite are skipped and counted. The resulting network is a running average of the weights over the
last twentieth of the steps.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inference.amortized.kinds import init_network
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.saving import Snapshot, TrainingCheckpoint
from inference.amortized.tasks import Batch, Tasks
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.core.typing import Key
from inference.distributions.bars import Bars, Grids

# Steps compiled together.
BLOCK = 50

# The share of the steps that the averaged weights remember.
AVERAGED_SHARE = 0.05

# How often the gap is checked during training.
CHECKS = 20

# Steps that are timed to learn how many fit into a time.
TIMED_STEPS = 5

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The hyperparameters of the training loop.

    Attributes:
        batch_size: the number of data sets per step.
        learning_rate: the highest learning rate.
        warmup: the share of the steps over which the learning rate rises.
        weight_decay: the weight decay of AdamW.
        clip: the largest norm of a gradient.
        precision: the precision of the network's arithmetic, a key of `PRECISIONS`; weights and
            losses stay in single precision.
        devices: the number of devices over which the data sets of a step are spread.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 1.0
    precision: str = "float32"
    devices: int = 1

    def optimizer(self) -> optax.GradientTransformation:
        """Return the optimiser for a learning rate of 1."""
        steps = (
            optax.scale_by_adam(b2=0.98),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale(-1.0),
        )
        return optax.apply_if_finite(
            optax.chain(optax.clip_by_global_norm(self.clip), *steps), max_consecutive_errors=100
        )

    def learning_rate_at(self, step: jax.Array, steps: jax.Array) -> jax.Array:
        """Return the learning rate of one step.

        Args:
            step: the number of the step.
            steps: the total number of steps. It may be traced, so that training for another number
                of steps is not compiled again.
        """
        warm = jnp.maximum(1.0, jnp.floor(self.warmup * steps))
        fall = jnp.clip((step - warm) / jnp.maximum(steps - warm, 1.0), 0, 1)
        return self.learning_rate * jnp.where(
            step < warm, (step + 1) / warm, (1 + jnp.cos(jnp.pi * fall)) / 2
        )

    def shard(self, batch: Batch) -> Batch:
        """Spread the data sets of a batch over the devices."""
        if self.devices == 1:
            return batch
        mesh = Mesh(np.array(jax.devices()[: self.devices]), ("tasks",))
        return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("tasks")))


@dataclasses.dataclass(frozen=True)
class Budget:
    """The budget of training, which says when it ends.

    Attributes:
        steps: the number of steps of the optimiser; None if `seconds` determines it.
        seconds: the wall time, from which the number of steps is chosen after a few timed steps.
        good_enough: a function that says whether a network is good enough to stop early; it is
            called `CHECKS` times.
    """

    steps: int | None
    seconds: float | None = None
    good_enough: Callable[[AbstractNetwork], bool] | None = None


class State(NamedTuple):
    """The state of training, all that is needed to continue it.

    Attributes:
        network: the weights.
        averaged: the running average of the weights, which training returns.
        optimizer: the state of the optimiser.
        step: the number of steps done.
    """

    network: AbstractNetwork
    averaged: AbstractNetwork
    optimizer: Any
    step: jax.Array

    @classmethod
    def init(cls, network: AbstractNetwork, schedule: Schedule) -> State:
        """Return the state before the first step."""
        start = schedule.optimizer().init(network)  # pyright: ignore[reportArgumentType]
        return cls(network, jax.tree.map(jnp.copy, network), start, jnp.zeros((), jnp.int32))


def _mean_loss(network: AbstractNetwork, batch: Batch, num_queries: int, grids: Grids) -> jax.Array:
    """Return the mean of -log q over tasks and queries, plus that over tasks and latent sites."""
    X, y = batch.X, batch.y
    cache = network.condition(X[:, :-num_queries], y[:, :-num_queries], batch.num_rows)
    q = network.predictive(cache, X[:, -num_queries:], grids.target)
    loss = -q.log_prob(y[:, -num_queries:]).mean()
    if grids.latents is None:
        return loss
    latents = Bars(network.predict_latents(cache), *grids.latents)
    return loss - latents.log_prob(batch.latents).mean()


@functools.partial(jax.jit, static_argnames=("tasks", "schedule"), donate_argnames="state")
def run_block(
    state: State,
    key: Key,
    count: jax.Array,
    steps: jax.Array,
    grids: Grids,
    *,
    tasks: Tasks,
    schedule: Schedule,
) -> tuple[State, jax.Array]:
    """Do the next steps of training, and return the new state and the losses of the steps.

    Args:
        state: the state of training.
        key: the random key; step i uses `fold_in(key, i)`.
        count: the number of steps to do, at most `BLOCK`.
        steps: the total number of steps.
        grids: the grids of the bars.
        tasks: the data sets to train on.
        schedule: the hyperparameters of the training loop.
    """
    optimizer, precision = schedule.optimizer(), PRECISIONS[schedule.precision]

    def loss(network: AbstractNetwork, batch: Batch) -> jax.Array:
        lower = jax.tree.map(lambda leaf: leaf.astype(precision), network)
        return _mean_loss(lower, batch, tasks.num_queries, grids)

    def step(i: jax.Array, carry: tuple) -> tuple:
        state, losses = carry
        batch = schedule.shard(tasks.draw(jax.random.fold_in(key, state.step), schedule.batch_size))
        value, gradient = eqx.filter_value_and_grad(loss)(state.network, batch)
        updates, inner = optimizer.update(gradient, state.optimizer, state.network)
        rate = schedule.learning_rate_at(state.step, steps).astype(jnp.float32)
        network: Any = optax.apply_updates(
            state.network, jax.tree.map(lambda update: rate * update, updates)
        )
        averaged: Any = optax.incremental_update(
            network, state.averaged, _averaging_weight(state.step, steps)
        )
        return State(network, averaged, inner, state.step + 1), losses.at[i].set(value)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(BLOCK)))


def _averaging_weight(step: jax.Array, steps: jax.Array) -> jax.Array:
    """Return the weight of a new network in the average.

    It is 1 / (1 + step) at first, so that the start of training is forgotten.
    """
    least = 1 / jnp.maximum(1.0, AVERAGED_SHARE * steps)
    return jnp.maximum(1 / (1.0 + step), least).astype(jnp.float32)


def _refuse_not_finite(network: AbstractNetwork) -> None:
    """Refuse a network with weights that are not finite.

    Raises:
        ValueError: if training diverged, naming the cure.
    """
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(network)):
        raise ValueError(
            "Training diverged: the network's weights are not finite. Lower learning_rate, and "
            "check that the prior draws no targets or inputs beyond single precision."
        )


class TrainingResult(NamedTuple):
    """The result of training.

    Attributes:
        network: the network with averaged weights.
        losses: the mean loss of each block of steps.
        steps: the number of steps done.
        skipped: the number of steps whose gradient was not finite.
        seconds: wall and CPU time in seconds, since training began or was continued.
    """

    network: AbstractNetwork
    losses: np.ndarray
    steps: int
    skipped: int
    seconds: tuple[float, float]


def train(
    tasks: Tasks,
    shape: Shape,
    grids: Grids,
    schedule: Schedule,
    budget: Budget,
    key: Key,
    progress: AbstractProgress,
    start: AbstractNetwork | None = None,
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainingResult:
    """Train a network.

    Args:
        tasks: the data sets to train on.
        shape: the sizes of the network.
        grids: the grids of the bars.
        schedule: the hyperparameters of the training loop.
        budget: the budget, which says when training ends.
        key: the random key of weights and data sets.
        progress: the progress bar.
        start: the network whose weights training begins with; None for random weights.
        checkpoint: the folder that keeps the training, from which it continues; None for none.
    """
    # The network stays in single precision when its tasks are drawn in double precision.
    with jax.enable_x64(False):
        network = (
            init_network(shape, tagged_key(key, "network"))
            if start is None
            else jax.tree.map(jnp.copy, start)
        )
    with jax.enable_x64(tasks.double):
        first = Snapshot(State.init(network, schedule), [], budget.steps)
        run = Run(*(first if checkpoint is None else checkpoint.load(first)))
        steps_key = tagged_key(key, "steps")
        return _run_blocks(run, tasks, grids, schedule, budget, steps_key, progress, checkpoint)


@dataclasses.dataclass
class Run:
    """A training in progress.

    Attributes:
        state: the state of training.
        losses: the mean losses of the blocks done.
        steps: the total number of steps; None as long as it is not known.
    """

    state: State
    losses: list[float]
    steps: int | None

    @property
    def done(self) -> int:
        """The number of steps done."""
        return int(self.state.step)


def _run_blocks(
    run: Run,
    tasks: Tasks,
    grids: Grids,
    schedule: Schedule,
    budget: Budget,
    key: Key,
    progress: AbstractProgress,
    checkpoint: TrainingCheckpoint | None,
) -> TrainingResult:
    """Run the blocks of a training, and save its state now and then."""
    started, cpu, first = time.perf_counter(), time.process_time(), run.done
    compiled = functools.partial(run_block, tasks=tasks, schedule=schedule)
    run.steps = run.steps or affordable_steps(
        run.state, compiled, key, grids, budget.seconds or 0.0, started
    )
    progress.start(run.steps - first, "training")
    every = max(1, run.steps // (BLOCK * CHECKS))
    try:
        while run.done < run.steps:
            count = min(BLOCK, run.steps - run.done)
            run.state, found = compiled(
                run.state, key, jnp.asarray(count), jnp.asarray(run.steps), grids
            )
            run.losses.append(float(found[:count].mean()))
            rate = (run.done - first) * schedule.batch_size / (time.perf_counter() - started)
            progress.advance(
                count, loss=f"{run.losses[-1]:.4f}", data_sets_per_second=f"{rate:.0f}"
            )
            if checkpoint is not None:
                snapshot = Snapshot(run.state, run.losses, run.steps)
                checkpoint.save(snapshot, at_once=run.done == run.steps)
            if len(run.losses) % every == 0 and (
                budget.good_enough and budget.good_enough(run.state.averaged)
            ):
                break
    except KeyboardInterrupt:
        if not run.losses:
            raise
        progress.stopped()
        warnings.warn(
            f"The training was interrupted after {run.done} of {run.steps} steps: the network is "
            "what it had learned by then.",
            stacklevel=2,
        )
        if checkpoint is not None:
            checkpoint.save(Snapshot(run.state, run.losses, run.steps), at_once=True)
    finally:
        progress.close()
    _refuse_not_finite(run.state.averaged)
    skipped = int(run.state.optimizer.total_notfinite)
    seconds = time.perf_counter() - started, time.process_time() - cpu
    return TrainingResult(run.state.averaged, np.array(run.losses), run.done, skipped, seconds)


def affordable_steps(
    state: State, compiled: Callable, key: Key, grids: Grids, seconds: float, started: float
) -> int:
    """Return the number of steps that fit into the time left.

    Args:
        state: the state of training, which is copied.
        compiled: the function that does a block of steps.
        key: the random key of the steps.
        grids: the grids of the bars.
        seconds: the wall time of training, of which compilation has used some.
        started: the time at which training started, by `time.perf_counter`.
    """
    some, block_started = jnp.asarray(TIMED_STEPS), 0.0
    # The first of the two runs compiles.
    for _ in range(2):
        block_started = time.perf_counter()
        jax.block_until_ready(compiled(jax.tree.map(jnp.copy, state), key, some, some, grids))
    each = (time.perf_counter() - block_started) / TIMED_STEPS
    return max(1, int((seconds - (time.perf_counter() - started)) / each))
