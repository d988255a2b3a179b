"""One run of an objective: its inputs and its draws, and how programs inside it find it."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state
from jax.lax import stop_gradient as sg
from jax.typing import ArrayLike

from inference.core.problem import ProblemError
from inference.core.typing import Program
from inference.vi.gradients.estimators import EstimatorError
from inference.vi.gradients.programs import BatchShape, Call, Outcome, Site, run_program

CURRENT: contextvars.ContextVar[ObjectiveRun] = contextvars.ContextVar("objective run")
LEAK = (
    "A sample statement is inside jax.jit, jax.vmap, lax.scan or lax.cond, where its draw cannot "
    "be seen: use numpyro.plate, numpyro.contrib.control_flow.scan or cond in programs, and "
    "q.sim(K) or a vmap of the whole expectation for several draws."
)


class ObjectiveRun:
    """One run of an objective: its inputs, and what it drew.

    Args:
        call: arguments, parameters, keys and estimators.
        step: the number of the optimiser's step, for schedules.
        overrides: values of sites by id.
        swaps: for draws made side by side, by group, which of them stands in each place.
        resolved: ids of sites that need no estimator any more. If there are any, the run may end
            with `StopAtSite`.

    Attributes:
        sites: the sites so far whose gradient does not pass through their values.
        scores: the score terms of `Reparam(stick=True)`.
        costs: the costs that were added, each with the number of sites before it.
        auxiliary: the names of auxiliary sites, as autoguides have.
        drawn: the names of all sites that were drawn.
        programs: the programs that were run, with the shapes of their inputs.
        inside_program: whether one of them is running now.
    """

    def __init__(
        self,
        call: Call,
        step: int | jax.Array,
        overrides: Mapping[str, jax.Array],
        swaps: Mapping[str, jax.Array],
        resolved: Collection[str] = (),
    ) -> None:
        self.call, self.step = call, step
        self.overrides, self.swaps, self.resolved = overrides, swaps, resolved
        self.num_labels = 0
        self.sites: list[Site] = []
        self.scores: list[jax.Array] = []
        self.costs: list[tuple[int, jax.Array]] = []
        self.auxiliary: set[str] = set()
        self.drawn: set[str] = set()
        self.programs: list[tuple[Program, tuple]] = []
        self.trace_state = get_opaque_trace_state()
        self.inside_program = False

    def next_label(self) -> str:
        """Return the label of the next draw."""
        self.num_labels += 1
        return f"draw {self.num_labels}"

    def run(
        self,
        program: Program,
        label: str,
        given: Mapping[str, Any] = {},
        batch_shape: BatchShape = (),
        inputs: tuple = (),
        group: str | None = None,
        detached: bool = False,
        fixed: bool = False,
    ) -> Outcome:
        """Run a program inside the objective; see `run_program` for the other arguments.

        Args:
            program: the program.
            label: the label of this draw.
            given: values of latent sites.
            batch_shape: the shape of the copies of the program.
            inputs: the first arguments of the program.
            group: the label of draws made side by side.
            detached: whether gradients pass neither through draws nor through their estimators.
            fixed: whether parameters are constants.
        """
        # shapes, as arrays made here would leak out of the trace
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[len(batch_shape) :], leaf.dtype), inputs
        )
        self.programs.append((program, shapes))
        call = dataclasses.replace(self.call, params=sg(self.call.params)) if fixed else self.call
        prefix = f"{label}/"
        overrides = {
            id.removeprefix(prefix): value
            for id, value in self.overrides.items()
            if id.startswith(prefix)
        }
        resolved, all_resolved = self.resolved, all(s.id in self.resolved for s in self.sites)
        seeking = bool(resolved) and not detached and all_resolved
        self.inside_program = True
        outcome = run_program(
            program, call, label, given, overrides, batch_shape, inputs, group, resolved, seeking
        )
        self.inside_program = False
        # the objective's own vmap or loop would give one key to all its copies
        if outcome.drawn and get_opaque_trace_state() != self.trace_state:
            raise EstimatorError(LEAK)
        self.auxiliary.update(outcome.auxiliary)
        self.drawn.update(outcome.drawn)
        if detached:
            return dataclasses.replace(
                outcome, values=sg(outcome.values), log_probs=sg(outcome.log_probs), sites=()
            )
        self.sites.extend(outcome.sites)
        if outcome.sticking:
            values = sg(outcome.values)
            again = run_program(program, call, label, values, {}, batch_shape, sg(inputs), group)
            score = sum((again.log_probs[name].mean() for name in outcome.sticking), jnp.zeros(()))
            self.scores.append(score - sg(score))
        return outcome

    def add_costs_and_scores(self, value: jax.Array) -> jax.Array:
        """Add to the objective its costs and the scores of `Reparam(stick=True)`."""
        return value + sum(cost for _, cost in self.costs) + sum(self.scores)

    def costs_before(self, site: Site) -> jax.Array:
        """Return the costs that were added before a site was drawn."""
        at = self.sites.index(site)
        return sum((sg(cost) for count, cost in self.costs if count <= at), jnp.zeros(()))


def current_run() -> ObjectiveRun:
    """Return the run of an objective that is going on.

    Raises:
        ProblemError: outside an objective.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise ProblemError(
            "sim, density and add_cost are for objectives: pass the objective to "
            "bdl.vi.expectation(objective, model, guide) or bdl.VI(objective=...), which call it."
        ) from None


@contextlib.contextmanager
def make_current(run: ObjectiveRun) -> Iterator[ObjectiveRun]:
    """Make a run the current one until the `with` block ends."""
    token = CURRENT.set(run)
    try:
        yield run
    finally:
        CURRENT.reset(token)


def add_cost(cost: ArrayLike) -> None:
    """Add a scalar to the objective at this point of it.

    Sites that are drawn later leave it out of their score terms.

    Raises:
        ProblemError: outside an objective.
    """
    run = current_run()
    if run.inside_program:
        raise ProblemError("add_cost is for objectives, not for the programs that they draw from.")
    run.costs.append((len(run.sites), jnp.asarray(cost)))


def step() -> int | jax.Array:
    """Return the number of the optimiser's step, for schedules of beta or temperature.

    It is 0 outside an optimisation.
    """
    return current_run().step
