"""Steps of training on a bank of data sets, for networks whose learners have no weights.

What such a network's learners say of a data set never changes, so it is computed once and used in
several steps. Most of the time goes into drawing data sets, and the weights take next to none.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from inference.amortized.network import AbstractNetwork
from inference.amortized.steps.optimizer import BLOCK, Schedule, State, take_step
from inference.amortized.tasks import Tasks
from inference.core.keys import tagged_key
from inference.core.typing import Key
from inference.distributions.bars import Grids

# The number of groups of data sets in a bank.
WINDOW = 32

# The sizes of contexts below the largest one.
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)


class BankedSteps:
    """Steps of training on data sets of a bank, each of which is used several times.

    The bank before step s has the groups of data sets b - WINDOW to b - 1, b = WINDOW + s // reuse,
    so it depends on s alone. Group g is drawn with a key of its own, and with contexts of one of
    several sizes, in turn. A step takes data sets of the bank at random.

    Args:
        tasks: the data sets to train on.
        schedule: the hyperparameters of the training loop.
        reuse: how often a data set is used in the mean.
        key: the random key of the steps.
    """

    def __init__(self, tasks: Tasks, schedule: Schedule, reuse: int, key: Key) -> None:
        self.tasks, self.schedule, self.reuse = tasks, schedule, reuse
        self.key = tagged_key(key, "bank")
        self.groups: dict[int, Any] = {}
        self.sizes = _context_sizes(tasks.max_rows)

    def draw(self, network: AbstractNetwork, number: int) -> Any:
        """Return one group of data sets, prepared."""
        tasks = dataclasses.replace(self.tasks, max_rows=self.sizes[number % len(self.sizes)])
        key = jax.random.fold_in(self.key, number)
        return prepare_group(network, key, tasks=tasks, num_tasks=self.schedule.batch_size)

    def bank(self, state: State) -> Any:
        """Return the data sets for the next steps."""
        first = int(state.step) // self.reuse
        wanted = range(first, first + WINDOW)
        self.groups = {
            number: self.groups[number]
            if number in self.groups
            else self.draw(state.network, number)
            for number in wanted
        }
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *self.groups.values())

    def seconds_per_step(self, state: State) -> float:
        """Return the seconds that drawing takes for each step, once all is compiled."""
        numbers = range(-1, -1 - len(self.sizes), -1)
        for _ in range(2):
            begun = time.perf_counter()
            jax.block_until_ready([self.draw(state.network, number) for number in numbers])
        return (time.perf_counter() - begun) / len(self.sizes) / self.reuse

    def __call__(
        self, state: State, key: Key, count: jax.Array, steps: jax.Array, grids: Grids
    ) -> tuple[State, jax.Array]:
        """Do the next steps, as `run_block` does."""
        bank = self.bank(state)
        return run_banked(state, bank, key, count, steps, grids, schedule=self.schedule)


def _context_sizes(most: int) -> list[int]:
    """Return the sizes of contexts in turn: those of `SIZES` well below the largest one, and it."""
    return [*(size for size in SIZES if size <= most * 3 / 4), most]


@functools.partial(jax.jit, static_argnames=("tasks", "num_tasks"))
def prepare_group(network: AbstractNetwork, key: Key, *, tasks: Tasks, num_tasks: int) -> Any:
    """Return data sets as the network's `prepared_loss` takes them."""
    batch = tasks.draw(key, num_tasks, 1)
    return network.prepare(batch, tasks.num_queries)


@functools.partial(jax.jit, static_argnames=("schedule",), donate_argnames="state")
def run_banked(
    state: State,
    bank: Any,
    key: Key,
    count: jax.Array,
    steps: jax.Array,
    grids: Grids,
    *,
    schedule: Schedule,
) -> tuple[State, jax.Array]:
    """Do the next steps of training on a bank, as `run_block` does on new data sets."""
    total = len(jax.tree.leaves(bank)[0])

    def step(i: jax.Array, carry: tuple) -> tuple:
        state, losses = carry
        chosen = jax.random.randint(
            jax.random.fold_in(key, state.step), (schedule.batch_size,), 0, total
        )
        prepared = schedule.shard(jax.tree.map(lambda part: part[chosen], bank))
        state, value = take_step(state, prepared, steps, grids, schedule)
        return state, losses.at[i].set(value)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(BLOCK)))
