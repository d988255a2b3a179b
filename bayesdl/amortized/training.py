"""The training of a prior-data fitted network on a model: plan, bars, training, certificate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.certificate import certify_network
from bayesdl.amortized.requirements import (
    check_program,
    check_settings,
    column_range,
    draw_hash,
    same_program,
)
from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel
from inference.amortized.certificate import ExactLogProb, check_rows
from inference.amortized.kinds import KINDS
from inference.amortized.network import AbstractNetwork, Shape, context_units
from inference.amortized.saving import TrainingCheckpoint
from inference.amortized.steps.optimizer import Schedule
from inference.amortized.tasks import Tasks, simulate
from inference.amortized.training import Budget, train
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.core.typing import Info, Key, KeywordArguments
from inference.distributions.bars import Grid, Grids, fit_grid

# Data sets whose targets give the edges of the bars, and how many of them are drawn at a time.
NUM_FOR_BARS = 4096
NUM_AT_ONCE = 512

# Data sets for each number of rows in each check of the gap during training.
NUM_GAP_CHECKED = 128

# The number of steps if neither steps nor seconds are given.
DEFAULT_STEPS = 10_000

# The libraries whose versions change what is trained.
LIBRARIES = ("jax", "numpyro", "optax", "equinox")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a training, made of the arguments of `PFN.train`.

    Attributes:
        spec: the model.
        tasks: the data sets to train on.
        shape: the sizes of the network.
        schedule: the hyperparameters of the training loop.
        budget: the budget of training.
        seed: the seed of weights and data sets.
    """

    spec: AbstractModel
    tasks: Tasks
    shape: Shape
    schedule: Schedule
    budget: Budget
    seed: int

    @classmethod
    def from_settings(cls, spec: AbstractModel, given: KeywordArguments) -> Plan:
        """Read and check the arguments of `PFN.train`.

        Raises:
            ModelError: for a model that cannot be drawn from, or settings that make no sense.
        """
        low, high = column_range(given["num_inputs"])
        latents, bars = tuple(given["latents"]), given["bars"]
        check_settings(spec, low, high, given)
        program, classes = spec.simulator(given["num_classes"])
        # compiled anew, as what a function reads may have changed
        drawn: Any = given["inputs"]
        drawn = functools.partial(drawn) if callable(drawn) else drawn
        sizes = given["max_rows"], given["num_queries"], drawn
        tasks = Tasks(program, (low, high), *sizes, spec.double_precision, latents)
        check_program(spec, tasks, classes)
        if given["normalize"] and classes:
            raise ModelError(
                "normalize=True is for targets that are numbers, and these are classes; "
                "leave it out."
            )
        names = ("width", "layers", "heads", "hidden", "frequencies")
        shape = Shape(
            high,
            num_outputs=classes or bars,
            num_classes=classes,
            num_latents=len(latents),
            latent_bars=bars if latents else 0,
            # `fit_bars` measures the unit of the prior before training.
            unit=(0.0, 1.0) if given["normalize"] else None,
            tokens=given["kind"],
            **{name: given[name] for name in names},
        )
        kind = KINDS[given["kind"]]
        reason = kind.refusal(shape)
        if reason:
            raise ModelError(f"kind={given['kind']!r}: {reason}.")
        shape = kind.settle(shape)
        names = ("batch_size", "learning_rate", "precision", "devices")
        schedule = Schedule(**{name: given[name] for name in names})
        open_ended = given["steps"] is None and given["seconds"] is None
        budget = Budget(DEFAULT_STEPS if open_ended else given["steps"], given["seconds"])
        return cls(spec, tasks, shape, schedule, budget, given["seed"])

    def key(self, use: str) -> Key:
        """Return the random key for one use."""
        return tagged_key(jax.random.key(self.seed), use)

    def identity(self, start: TrainedNetwork | None, gap: float | None) -> Info:
        """Return what identifies the training, as plain data."""
        tasks = {"draw": draw_hash(self.tasks), **self.tasks.settings()}
        return {
            "tasks": tasks,
            "sizes": dataclasses.asdict(self.shape),
            "schedule": dataclasses.asdict(self.schedule),
            "budget": [self.budget.steps, self.budget.seconds, gap],
            "seed": self.seed,
            "start": None if start is None else start.hash,
            "versions": {name: version(name) for name in LIBRARIES},
        }


def train_network(
    plan: Plan,
    start: TrainedNetwork | None,
    gap: float | None,
    folder: str | Path | None,
    progress: AbstractProgress,
) -> TrainedNetwork:
    """Train a network and certify it.

    Args:
        plan: the plan of the training.
        start: the network whose weights training begins with; None for random weights.
        gap: the gap to the exact predictive at which training ends early, in nats; or None.
        folder: the folder that keeps the training; None for none.
        progress: the progress bar.
    """
    tasks, exact = plan.tasks, plan.spec.exact_predictive(plan.tasks.num_inputs[1])
    first = _initial_weights(start, plan.shape, tasks)
    shape, grids = (
        _fit_bars(tasks, plan.shape, plan.key("edges"))
        if start is None
        else (start.network.shape, start.grids)
    )
    enough = None if gap is None else _gap_reached(gap, tasks, grids, exact, plan.key("gap"))
    budget = dataclasses.replace(plan.budget, good_enough=enough)
    checkpoint = (
        None if folder is None else TrainingCheckpoint(Path(folder), plan.identity(start, gap))
    )
    key = plan.key("training")
    found = train(tasks, shape, grids, plan.schedule, budget, key, progress, first, checkpoint)
    before = 0 if start is None else start.facts["data_sets"]
    facts = {
        "steps": found.steps,
        "data_sets": found.steps * plan.schedule.batch_size + before,
        "skipped_steps": found.skipped,
        "loss": float(found.losses[-1]),
        "losses": [round(float(loss), 5) for loss in found.losses],
        "seconds": found.seconds[0],
        "cpu_seconds": found.seconds[1],
        "device": jax.devices()[0].device_kind,
    }
    certificate = certify_network(exact, tasks, found.network, grids, plan.key("certificate"))
    return TrainedNetwork(plan.spec, tasks, found.network, grids, facts, certificate)


def _gap_reached(
    gap: float, tasks: Tasks, grids: Grids, exact: ExactLogProb | None, key: Key
) -> Callable[[AbstractNetwork], bool]:
    """Return a function that says whether a network's mean gap is small enough.

    Args:
        gap: the largest gap, in nats.
        tasks: the data sets of the prior.
        grids: the grids of the bars.
        exact: the exact log predictive density, or None where it is not known.
        key: the random key of the data sets.

    Raises:
        ModelError: if no exact predictive is known.
    """
    if exact is None:
        raise ModelError(
            f"gap={gap}: the exact predictive of this model is not known, so leave gap out (a GP "
            "with fixed hyperparameters has one)."
        )

    def enough(network: AbstractNetwork) -> bool:
        rows = check_rows(network, tasks, grids.target, exact, key, NUM_GAP_CHECKED)
        return float(np.mean([row.gap[0] for row in rows if row.gap])) <= gap

    return enough


def _fit_bars(tasks: Tasks, shape: Shape, key: Key) -> tuple[Shape, Grids]:
    """Return the shape with the unit of the prior's targets, and the grids of all bars.

    Raises:
        ModelError: if the prior draws values that are not finite, or targets without a scale.
    """
    if shape.num_classes and not shape.num_latents:
        return shape, Grids(None)
    drawn = [
        simulate(tasks, tagged_key(key, f"part {part}"), NUM_AT_ONCE)
        for part in range(NUM_FOR_BARS // NUM_AT_ONCE)
    ]
    _, y, rows, latents = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    for what, values in (("targets", y), ("latent sites", latents)):
        if not np.isfinite(values).all():
            share = np.mean(~np.isfinite(values))
            raise ModelError(
                f"The model's prior draws {what} that are not finite ({share:.2%} of them)."
            )
    if shape.unit is not None:
        unit = _measure_unit(y)
        shape = dataclasses.replace(shape, unit=unit)
        units = np.asarray(context_units(jnp.asarray(y), jnp.asarray(rows), unit))
        # Only targets outside of the context count, as only these are predicted.
        outside = np.arange(y.shape[1])[None, :] >= rows[:, None]
        y = ((y - units[:, :1]) / units[:, 1:])[outside]
    target = None if shape.num_classes else _to_single_precision(fit_grid(y, shape.num_outputs))
    if not shape.num_latents:
        return shape, Grids(target)
    each = [fit_grid(values, shape.latent_bars) for values in latents.T]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *each)
    return shape, Grids(target, _to_single_precision(stacked))


def _measure_unit(y: np.ndarray) -> tuple[float, float]:
    """Return a centre and a spread of targets: the median, and a robust standard deviation.

    The targets of a prior may lack a variance, while quantiles always exist.

    Raises:
        ModelError: if half of the targets are one number.
    """
    low, middle, high = np.quantile(y, [0.25, 0.5, 0.75])
    # The interquartile range of normal targets is 1.349 standard deviations.
    unit = float(middle), float(high - low) / 1.349
    if not unit[1] > 0:
        raise ModelError(
            f"normalize=True: half of the prior's targets are {unit[0]:g}, so they have no scale; "
            "leave it out."
        )
    return unit


def _to_single_precision(grid: Grid) -> Grid:
    """Return the grid in single precision."""
    return jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), grid)


def _initial_weights(
    start: TrainedNetwork | None, shape: Shape, tasks: Tasks
) -> AbstractNetwork | None:
    """Return the weights that training begins with, if any are given.

    Raises:
        ModelError: if they have other sizes, or were trained on another program.
    """
    if start is None:
        return None
    same = same_program(tasks.program, start.tasks.program) and tasks.latents == start.tasks.latents
    if _user_sizes(start.network.shape) != _user_sizes(shape) or not same:
        raise ModelError(
            f"start has sizes {start.network.shape}, and expected are {shape}, the same model and "
            "the same latents."
        )
    return start.network


def _user_sizes(shape: Shape) -> Info:
    """Return the sizes that a user sets; the unit is measured, so only whether there is one."""
    return dataclasses.asdict(shape) | {"unit": shape.unit is not None}
