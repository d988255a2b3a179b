"""Steps of the optimiser, on data sets that are drawn anew at each step.

The optimiser is AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). Its learning rate rises over
the first steps and falls to zero along a cosine. Gradients are clipped, and steps whose gradient is
not finite are skipped and counted. The weights are averaged over the last twentieth of the steps.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inference.amortized.network import AbstractNetwork
from inference.amortized.tasks import Tasks
from inference.core.typing import Key
from inference.distributions.bars import Grids

# Steps compiled together.
BLOCK = 50

# The share of the steps that the averaged weights remember.
AVERAGED_SHARE = 0.05

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

    def shard(self, batch: Any) -> Any:
        """Spread the data sets of a batch over the devices."""
        if self.devices == 1:
            return batch
        mesh = Mesh(np.array(jax.devices()[: self.devices]), ("tasks",))
        return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("tasks")))


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

    def step(i: jax.Array, carry: tuple) -> tuple:
        state, losses = carry
        batch = schedule.shard(tasks.draw(jax.random.fold_in(key, state.step), schedule.batch_size))
        prepared = state.network.prepare(batch, tasks.num_queries)
        state, value = take_step(state, prepared, steps, grids, schedule)
        return state, losses.at[i].set(value)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(BLOCK)))


def take_step(
    state: State, prepared: Any, steps: jax.Array, grids: Grids, schedule: Schedule
) -> tuple[State, jax.Array]:
    """Do one step of the optimiser, and return the new state and the loss.

    Args:
        state: the state of training.
        prepared: the data sets of the step, as the network's `prepare` gives them.
        steps: the total number of steps.
        grids: the grids of the bars.
        schedule: the hyperparameters of the training loop.
    """
    optimizer, precision = schedule.optimizer(), PRECISIONS[schedule.precision]

    def loss(network: AbstractNetwork) -> jax.Array:
        lower = jax.tree.map(lambda leaf: leaf.astype(precision), network)
        return lower.prepared_loss(prepared, grids)

    before: Any = state.network
    value, gradient = eqx.filter_value_and_grad(loss)(state.network)
    updates, inner = optimizer.update(gradient, state.optimizer, before)
    rate = schedule.learning_rate_at(state.step, steps).astype(jnp.float32)
    network: Any = optax.apply_updates(before, jax.tree.map(lambda update: rate * update, updates))
    averaged: Any = state.averaged
    averaged = optax.incremental_update(network, averaged, _averaging_weight(state.step, steps))
    return State(network, averaged, inner, state.step + 1), value


def _averaging_weight(step: jax.Array, steps: jax.Array) -> jax.Array:
    """Return the weight of a new network in the average.

    It is 1 / (1 + step) at first, so that the start of training is forgotten.
    """
    least = 1 / jnp.maximum(1.0, AVERAGED_SHARE * steps)
    return jnp.maximum(1 / (1.0 + step), least).astype(jnp.float32)
