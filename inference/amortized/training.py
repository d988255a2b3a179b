"""Training a network on a prior.

The loss is the mean of -log q(y | x, data) over data sets drawn anew at each step. Its minimum over
all q is the exact predictive distribution. The loss exceeds that minimum by the mean divergence
KL(p(y | x, data) || q(y | x, data)), the gap (Mueller et al. 2022, arXiv:2112.10510, corollary
1.1).
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.amortized.kinds import init_network
from inference.amortized.network import AbstractNetwork, Shape
from inference.amortized.saving import Snapshot, TrainingCheckpoint
from inference.amortized.steps.bank import BankedSteps
from inference.amortized.steps.optimizer import BLOCK, Schedule, State, run_block
from inference.amortized.tasks import Tasks
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.core.typing import Key
from inference.distributions.bars import Grids

# How often the gap is checked during training.
CHECKS = 20

# Steps that are timed to learn how many fit into a time.
TIMED_STEPS = 5


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
    compiled: Any = functools.partial(run_block, tasks=tasks, schedule=schedule)
    drawing = 0.0
    if run.state.network.reuse > 1:
        compiled = BankedSteps(tasks, schedule, run.state.network.reuse, key)
        drawing = 0.0 if run.steps else compiled.seconds_per_step(run.state)
    run.steps = run.steps or affordable_steps(
        run.state, compiled, key, grids, budget.seconds or 0.0, started, drawing
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
    state: State,
    compiled: Callable,
    key: Key,
    grids: Grids,
    seconds: float,
    started: float,
    drawing: float = 0.0,
) -> int:
    """Return the number of steps that fit into the time left.

    Args:
        state: the state of training, which is copied.
        compiled: the function that does a block of steps.
        key: the random key of the steps.
        grids: the grids of the bars.
        seconds: the wall time of training, of which compilation has used some.
        started: the time at which training started, by `time.perf_counter`.
        drawing: the seconds that a step takes beside those of `compiled`.
    """
    some, block_started = jnp.asarray(TIMED_STEPS), 0.0
    # The first of the two runs compiles.
    for _ in range(2):
        block_started = time.perf_counter()
        jax.block_until_ready(compiled(jax.tree.map(jnp.copy, state), key, some, some, grids))
    each = (time.perf_counter() - block_started) / TIMED_STEPS + drawing
    return max(1, int((seconds - (time.perf_counter() - started)) / each))
