"""Training a network on a prior: the mean of -log q(y | x, data) over data sets drawn anew at each step.

Its minimum over all q is the exact predictive distribution, and what the loss is above that minimum is the mean divergence
KL(p(y | x, data) || q(y | x, data)): the gap (Mueller et al. 2022, arXiv:2112.10510, corollary 1.1).

AdamW, whose rate rises over the first steps and falls to zero along a cosine; gradients are clipped, steps whose gradient is
not finite are skipped and counted, and the network that is kept is a running average of the last twentieth of the steps.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inference.amortized.kinds import initial
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.saving import Saved
from inference.amortized.tasks import Batch, Tasks
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.distributions.bars import Grids, law

BLOCK = 50  # steps compiled together
AVERAGED = 0.05  # share of the steps that the averaged weights remember
CHECKS = 20  # of the gap during training
MEASURED = 5  # steps whose speed says how many fit into a time
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Of training.

    Attributes:
        batch_size: data sets per step.
        learning_rate: the highest.
        warmup: share of the steps over which it rises.
        weight_decay: AdamW's.
        clip: largest norm of a gradient.
        precision: of the network's arithmetic, a key of `PRECISIONS`; weights and losses stay in single precision.
        devices: over which the data sets of a step are spread.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 1.0
    precision: str = "float32"
    devices: int = 1

    def optimizer(self) -> optax.GradientTransformation:
        """Steps for a rate of 1."""
        steps = (
            optax.scale_by_adam(b2=0.98),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale(-1.0),
        )
        return optax.apply_if_finite(
            optax.chain(optax.clip_by_global_norm(self.clip), *steps), max_consecutive_errors=100
        )

    def rate(self, step: jax.Array, steps: jax.Array) -> jax.Array:
        """Of one step of so many, which may be traced so that no number of steps is compiled anew."""
        warm = jnp.maximum(1.0, jnp.floor(self.warmup * steps))
        fall = jnp.clip((step - warm) / jnp.maximum(steps - warm, 1.0), 0, 1)
        return self.learning_rate * jnp.where(
            step < warm, (step + 1) / warm, (1 + jnp.cos(jnp.pi * fall)) / 2
        )

    def spread(self, batch: Batch) -> Batch:
        """The batch over devices."""
        if self.devices == 1:
            return batch
        mesh = Mesh(np.array(jax.devices()[: self.devices]), ("tasks",))
        return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("tasks")))


@dataclasses.dataclass(frozen=True)
class Budget:
    """When training ends.

    Attributes:
        steps: of the optimiser; None where `seconds` says how many.
        seconds: wall time, from which the number of steps is chosen after the first blocks.
        enough: says of a network whether it is good enough; asked `CHECKS` times.
    """

    steps: int | None
    seconds: float | None = None
    enough: Callable[[AbstractNetwork], bool] | None = None


class State(NamedTuple):
    """Of training, all that is needed to go on.

    Attributes:
        network: the weights.
        averaged: their running average, which is what is kept in the end.
        optimizer: its state.
        step: steps done.
    """

    network: AbstractNetwork
    averaged: AbstractNetwork
    optimizer: Any
    step: jax.Array

    @classmethod
    def of(cls, network: AbstractNetwork, schedule: Schedule) -> State:
        """At the start."""
        start = schedule.optimizer().init(network)  # pyright: ignore[reportArgumentType]
        return cls(network, jax.tree.map(jnp.copy, network), start, jnp.zeros((), jnp.int32))


def loss_of(network: AbstractNetwork, batch: Batch, num_queries: int, grids: Grids) -> jax.Array:
    """The mean of -log q over tasks and queries, and over tasks and latent sites."""
    X, y = batch.X, batch.y
    cache = network.condition(X[:, :-num_queries], y[:, :-num_queries], batch.num_rows)
    loss = (
        -network.law(cache, X[:, -num_queries:], grids.target).log_prob(y[:, -num_queries:]).mean()
    )
    if grids.latents is None:
        return loss
    return loss - law(network.latents(cache), grids.latents).log_prob(batch.latents).mean()


@functools.partial(jax.jit, static_argnames=("tasks", "schedule"), donate_argnames="state")
def block(
    state: State,
    key: jax.Array,
    count: jax.Array,
    steps: jax.Array,
    grids: Grids,
    *,
    tasks: Tasks,
    schedule: Schedule,
) -> tuple[State, jax.Array]:
    """`count` more of `steps` steps, at most `BLOCK`, and their losses; step i has the key that belongs to it."""
    optimizer, precision = schedule.optimizer(), PRECISIONS[schedule.precision]

    def loss(network: AbstractNetwork, batch: Batch) -> jax.Array:
        lower = jax.tree.map(lambda leaf: leaf.astype(precision), network)
        return loss_of(lower, batch, tasks.num_queries, grids)

    def step(i: jax.Array, carry: tuple) -> tuple:
        state, losses = carry
        batch = schedule.spread(
            tasks.draw(jax.random.fold_in(key, state.step), schedule.batch_size)
        )
        value, gradient = eqx.filter_value_and_grad(loss)(state.network, batch)
        updates, inner = optimizer.update(gradient, state.optimizer, state.network)
        rate = schedule.rate(state.step, steps).astype(jnp.float32)
        network: Any = optax.apply_updates(
            state.network, jax.tree.map(lambda update: rate * update, updates)
        )
        averaged: Any = optax.incremental_update(
            network, state.averaged, averaging(state.step, steps)
        )
        return State(network, averaged, inner, state.step + 1), losses.at[i].set(value)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(BLOCK)))


def averaging(step: jax.Array, steps: jax.Array) -> jax.Array:
    """The weight of a new network in the average: 1 / (1 + step) at first, so that the start is forgotten."""
    return jnp.maximum(1 / (1.0 + step), 1 / jnp.maximum(1.0, AVERAGED * steps)).astype(jnp.float32)


def refuse_not_finite(network: AbstractNetwork) -> None:
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
        steps: done.
        skipped: steps whose gradient was not finite.
        seconds: wall and CPU time, since training began or went on.
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
    key: jax.Array,
    progress: AbstractProgress,
    start: AbstractNetwork | None = None,
    saved: Saved | None = None,
) -> Trained:
    """Trains a network from given weights, from new ones, or from where a saved training was."""
    with jax.enable_x64(
        False
    ):  # the network stays in single precision where its tasks are drawn in double
        network: Any = (
            initial(shape, tagged_key(key, "network"))
            if start is None
            else jax.tree.map(jnp.copy, start)
        )
    with jax.enable_x64(tasks.double):
        run = Run(State.of(network, schedule), [], budget.steps)
        run = run if saved is None else Run(*saved.load((run.state, run.losses, run.steps)))
        return trained(
            run, tasks, grids, schedule, budget, tagged_key(key, "steps"), progress, saved
        )


@dataclasses.dataclass
class Run:
    """A training on its way: its state, losses of blocks, and the number of steps, None as long as that is not known."""

    state: State
    losses: list[float]
    steps: int | None

    @property
    def done(self) -> int:
        return int(self.state.step)


def trained(
    run: Run,
    tasks: Tasks,
    grids: Grids,
    schedule: Schedule,
    budget: Budget,
    key: jax.Array,
    progress: AbstractProgress,
    saved: Saved | None,
) -> Trained:
    """The blocks of a training, saved now and then."""
    started, cpu, first = time.perf_counter(), time.process_time(), run.done
    compiled = functools.partial(block, tasks=tasks, schedule=schedule)
    run.steps = run.steps or affordable(
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
            if saved is not None:
                saved.save((run.state, run.losses, run.steps), at_once=run.done == run.steps)
            if budget.enough and len(run.losses) % every == 0 and budget.enough(run.state.averaged):
                break
    finally:
        progress.close()
    refuse_not_finite(run.state.averaged)
    skipped = int(run.state.optimizer.total_notfinite)
    seconds = time.perf_counter() - started, time.process_time() - cpu
    return Trained(run.state.averaged, np.array(run.losses), run.done, skipped, seconds)


def affordable(
    state: State, compiled: Callable, key: jax.Array, grids: Grids, seconds: float, started: float
) -> int:
    """The number of steps that fit into the time, of which compilation has used some."""
    some, begun = jnp.asarray(MEASURED), 0.0
    for _ in range(2):  # the first compiles
        begun = time.perf_counter()
        jax.block_until_ready(compiled(jax.tree.map(jnp.copy, state), key, some, some, grids))
    each = (time.perf_counter() - begun) / MEASURED
    return max(1, int((seconds - (time.perf_counter() - started)) / each))
