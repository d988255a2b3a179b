"""How a prior-data fitted network is trained on a model, and certified."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.requirements import (
    draw_hash,
    refuse,
    refuse_program,
    same_program,
    span,
)
from bayesdl.data.validation import ModelError
from bayesdl.model.base import AbstractModel
from inference.amortized.certificate import AT_ONCE, LEVELS, checked, dependence, latents_checked
from inference.amortized.network import AbstractNetwork, Shape, units_of
from inference.amortized.saving import Saved
from inference.amortized.tasks import Tasks, simulated
from inference.amortized.training import Budget, Schedule, train
from inference.core.keys import tagged_key
from inference.core.progress import AbstractProgress
from inference.distributions.bars import Grid, Grids, fitted_grid

TARGETS = 4096  # data sets whose targets give the bars' edges, `CHECKED` at a time
CHECKED = 512  # data sets per number of rows in the certificate
GAP_CHECKED = 128  # and in each check of a gap during training
STEPS = 10_000
LIBRARIES = ("jax", "numpyro", "optax", "equinox")  # whose versions change what is trained


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that says how a network is trained; see `PFN.train`."""

    spec: AbstractModel
    tasks: Tasks
    shape: Shape
    schedule: Schedule
    budget: Budget
    seed: int

    @classmethod
    def of(cls, spec: AbstractModel, settings: dict[str, Any]) -> Plan:
        """Reads and checks the arguments of `PFN.train`.

        Raises:
            ModelError: for a model that cannot be drawn from, or settings that make no sense.
        """
        given = dict(settings)
        low, high = span(given["num_inputs"])
        latents, bars = tuple(given["latents"]), given["bars"]
        refuse(spec, low, high, given)
        program, classes = spec.simulator(given["num_classes"])
        sizes = given["max_rows"], given["num_queries"], given["inputs"]
        tasks = Tasks(program, (low, high), *sizes, spec.double_precision, latents)
        refuse_program(spec, tasks, classes)
        network = {
            name: given[name]
            for name in ("width", "layers", "heads", "hidden", "frequencies", "tokens")
        }
        outputs = {"num_outputs": classes or bars, "num_classes": classes}
        if given["normalize"] and classes:
            raise ModelError(
                "normalize=True is for targets that are numbers, and these are classes; leave it out."
            )
        unit = (
            (0.0, 1.0) if given["normalize"] else None
        )  # what they are of this prior is measured before training
        shape = Shape(
            high,
            **outputs,
            **network,
            num_latents=len(latents),
            latent_bars=bars if latents else 0,
            unit=unit,
        )
        schedule = Schedule(
            **{
                name: given[name]
                for name in ("batch_size", "learning_rate", "precision", "devices")
            }
        )
        steps = STEPS if given["steps"] is None and given["seconds"] is None else given["steps"]
        return cls(spec, tasks, shape, schedule, Budget(steps, given["seconds"]), given["seed"])

    def key(self, use: str) -> jax.Array:
        return tagged_key(jax.random.key(self.seed), use)

    def identity(self, start: Any, gap: float | None) -> dict[str, Any]:
        """What identifies the training, as plain data."""
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


def trained(
    plan: Plan, start: Any, gap: float | None, checkpoint: Any, shown: AbstractProgress
) -> tuple:
    """The network, its grids, facts of training and certificate."""
    tasks, exact = plan.tasks, plan.spec.exact_predictive(plan.tasks.num_inputs[1])
    first = begun(start, plan.shape, tasks)
    shape, grids = (
        measured(tasks, plan.shape, plan.key("edges"))
        if start is None
        else (start.network.shape, start.grids)
    )
    enough = None if gap is None else enough_of(gap, tasks, grids, exact, plan.key("gap"))
    budget = dataclasses.replace(plan.budget, enough=enough)
    saved = None if checkpoint is None else Saved(Path(checkpoint), plan.identity(start, gap))
    found = train(
        tasks, shape, grids, plan.schedule, budget, plan.key("training"), shown, first, saved
    )
    facts = {
        "steps": found.steps,
        "data_sets": found.steps * plan.schedule.batch_size
        + (0 if start is None else start.facts["data_sets"]),
        "skipped_steps": found.skipped,
        "loss": float(found.losses[-1]),
        "losses": [round(float(loss), 5) for loss in found.losses],
        "seconds": found.seconds[0],
        "cpu_seconds": found.seconds[1],
        "device": jax.devices()[0].device_kind,
    }
    return (
        found.network,
        grids,
        facts,
        certified(exact, tasks, found.network, grids, plan.key("certificate")),
    )


def enough_of(
    gap: float, tasks: Tasks, grids: Grids, exact: Callable | None, key: jax.Array
) -> Callable[[AbstractNetwork], bool]:
    """Whether the mean gap of a network to the exact predictive is at most so much.

    Raises:
        ModelError: where no exact predictive is known.
    """
    if exact is None:
        raise ModelError(
            f"gap={gap}: the exact predictive of this model is not known, so leave gap out (a GP with fixed "
            "hyperparameters has one)."
        )

    def enough(network: AbstractNetwork) -> bool:
        rows = checked(network, tasks, grids.target, exact, key, GAP_CHECKED)
        return float(np.mean([row.gap[0] for row in rows if row.gap])) <= gap

    return enough


def measured(tasks: Tasks, shape: Shape, key: jax.Array) -> tuple[Shape, Grids]:
    """The shape with the unit of a prior's targets, and bars for these and latent sites.

    Raises:
        ModelError: where these are not finite.
    """
    if shape.num_classes and not shape.num_latents:
        return shape, Grids(None)
    drawn = [
        simulated(tasks, tagged_key(key, f"part {part}"), CHECKED)
        for part in range(TARGETS // CHECKED)
    ]
    _, y, rows, latents = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    for what, values in (("targets", y), ("latent sites", latents)):
        if not np.isfinite(values).all():
            share = np.mean(~np.isfinite(values))
            raise ModelError(
                f"The model's prior draws {what} that are not finite ({share:.2%} of them)."
            )
    if shape.unit is not None:
        low, middle, high = np.quantile(
            y, [0.25, 0.5, 0.75]
        )  # a prior's targets may lack a variance
        unit = float(middle), float(high - low) / 1.349  # of normal targets the standard deviation
        if not unit[1] > 0:
            raise ModelError(
                f"normalize=True: half of the prior's targets are {unit[0]:g}, so they have no scale; leave it out."
            )
        shape, units = (
            dataclasses.replace(shape, unit=unit),
            np.asarray(units_of(jnp.asarray(y), jnp.asarray(rows), unit)),
        )
        y = ((y - units[:, :1]) / units[:, 1:])[
            np.arange(y.shape[1])[None, :] >= rows[:, None]
        ]  # those not in the context
    target = None if shape.num_classes else single(fitted_grid(y, shape.num_outputs))
    if not shape.num_latents:
        return shape, Grids(target)
    each = [fitted_grid(values, shape.latent_bars) for values in latents.T]
    return shape, Grids(target, single(jax.tree.map(lambda *parts: np.stack(parts), *each)))


def single(grid: Grid) -> Grid:
    """The grid in single precision."""
    return jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), grid)


def begun(start: Any, shape: Shape, tasks: Tasks) -> AbstractNetwork | None:
    """The weights that training begins with, if any are given.

    Raises:
        ModelError: where they are those of other sizes or another program.
    """
    if start is None:
        return None
    same = same_program(tasks.program, start.tasks.program) and tasks.latents == start.tasks.latents
    if sizes(start.network.shape) != sizes(shape) or not same:
        raise ModelError(
            f"start={start!r} has sizes {start.network.shape}, and expected are {shape}, the same model and the same latents."
        )
    return start.network


def sizes(shape: Shape) -> dict[str, Any]:
    """All that a user sets: the unit is measured."""
    return dataclasses.asdict(shape) | {"unit": shape.unit is not None}


def certified(
    exact: Any, tasks: Tasks, network: AbstractNetwork, grids: Grids, key: jax.Array
) -> dict[str, Any]:
    """The certificate as plain data."""
    rows = checked(network, tasks, grids.target, exact, key, CHECKED)
    batch = simulated(tasks, tagged_key(key, "exactness"), CHECKED)
    order, leak = dependence(
        network, jax.tree.map(lambda part: part[:AT_ONCE], batch), tasks.num_queries
    )
    latents = [] if grids.latents is None else latents_checked(network, batch, tasks, grids.latents)
    return {
        "rows": [row._asdict() for row in rows],
        "levels": LEVELS,
        "data_sets": CHECKED,
        "latents": latents,
        "change_with_order": order,
        "change_with_other_queries": leak,
        "num_inputs": tasks.num_inputs,
        "max_rows": tasks.max_rows,
        "targets": (float(batch.y.min()), float(batch.y.max())),
        "inputs": (0.0, 1.0)
        if tasks.inputs == "uniform"
        else (float(batch.X.min()), float(batch.X.max())),
    }
