"""One run of an objective: what it was given and what it drew, and how programs inside it find it."""

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
from inference.core.program import Program
from inference.vi.gradients.estimators import EstimatorError
from inference.vi.gradients.programs import Call, Outcome, Site, run_program

CURRENT: contextvars.ContextVar[ObjectiveRun] = contextvars.ContextVar("pass")
LEAK = (
    "A sample statement is inside jax.jit, jax.vmap, lax.scan or lax.cond, where its draw cannot be seen: use numpyro.plate, "
    "numpyro.contrib.control_flow.scan or cond in programs, and q.sim(K) or a vmap of the whole expectation for several draws."
)


class ObjectiveRun:
    """One run of an objective: what it was given, and what it drew.

    Args:
        call: arguments, parameters, keys and estimators.
        step: of the optimiser, for schedules.
        overrides: values of sites by id.
        swaps: for draws made side by side, by group, which of them stands in each place.
        resolved: ids of sites that need no estimator any more; where there are any, the run may end with `Reached`.
    """

    def __init__(
        self,
        call: Call,
        step: Any,
        overrides: Mapping[str, jax.Array],
        swaps: Mapping[str, jax.Array],
        resolved: Collection[str] = (),
    ) -> None:
        self.call, self.step, self.overrides, self.swaps, self.resolved = (
            call,
            step,
            overrides,
            swaps,
            resolved,
        )
        self.number = 0
        self.sites: list[Site] = []
        self.scores: list[jax.Array] = []
        self.costs: list[tuple[int, jax.Array]] = []
        self.auxiliary: set[str] = set()
        self.drawn: set[str] = set()
        self.programs: list[tuple[Program, tuple]] = []
        self.began = get_opaque_trace_state()
        self.inside = False

    def next_label(self) -> str:
        """The label of the next draw."""
        self.number += 1
        return f"draw {self.number}"

    def run(
        self,
        program: Program,
        label: str,
        given: Mapping[str, Any] = {},
        lanes: tuple[int, ...] = (),
        inputs: tuple = (),
        group: str | None = None,
        detached: bool = False,
        fixed: bool = False,
    ) -> Outcome:
        """Runs a program; see `programs.run`.

        Args:
            program: as there.
            label: as there.
            given: as there.
            lanes: as there.
            inputs: as there.
            group: as there.
            detached: whether gradients pass neither through draws nor through their estimators.
            fixed: whether parameters are constants.
        """
        self.programs.append(
            (
                program,
                jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[len(lanes) :], leaf.dtype), inputs),
            )
        )
        call = dataclasses.replace(self.call, params=sg(self.call.params)) if fixed else self.call
        prefix = f"{label}/"
        overrides = {
            id.removeprefix(prefix): value
            for id, value in self.overrides.items()
            if id.startswith(prefix)
        }
        self.inside = True
        seeking = (
            bool(self.resolved)
            and not detached
            and all(site.id in self.resolved for site in self.sites)
        )
        outcome = run_program(
            program, call, label, given, overrides, lanes, inputs, group, self.resolved, seeking
        )
        self.inside = False
        if outcome.drawn and get_opaque_trace_state() != self.began:
            raise EstimatorError(LEAK)  # one key for all lanes of the objective's own vmap or loop
        self.auxiliary.update(outcome.auxiliary)
        self.drawn.update(outcome.drawn)
        if detached:
            return dataclasses.replace(
                outcome, values=sg(outcome.values), log_probs=sg(outcome.log_probs), sites=()
            )
        self.sites.extend(outcome.sites)
        if outcome.sticking:
            again = run_program(
                program, call, label, sg(outcome.values), {}, lanes, sg(inputs), group
            )
            score = sum((again.log_probs[name].mean() for name in outcome.sticking), jnp.zeros(()))
            self.scores.append(score - sg(score))
        return outcome

    def add_costs_and_scores(self, value: jax.Array) -> jax.Array:
        """The objective with the costs that were added and the scores of `Reparam(stick=True)`."""
        return value + sum(cost for _, cost in self.costs) + sum(self.scores)

    def costs_before(self, site: Site) -> jax.Array:
        """The costs that were added before a site was drawn."""
        at = self.sites.index(site)
        return sum((sg(cost) for count, cost in self.costs if count <= at), jnp.zeros(()))


def current_run() -> ObjectiveRun:
    """The run of an objective that is going on.

    Raises:
        ProblemError: outside an objective.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise ProblemError(
            "sim, density and add_cost are for objectives: pass the objective to bdl.vi.expectation(objective, model, guide) "
            "or bdl.VI(objective=...), which call it."
        ) from None


@contextlib.contextmanager
def make_current(one: ObjectiveRun) -> Iterator[ObjectiveRun]:
    token = CURRENT.set(one)
    try:
        yield one
    finally:
        CURRENT.reset(token)


def add_cost(cost: ArrayLike) -> None:
    """Adds a scalar to the objective at this point of it; sites drawn later leave it out of their score terms.

    Raises:
        ProblemError: outside an objective.
    """
    now = current_run()
    if now.inside:
        raise ProblemError("add_cost is for objectives, not for the programs that they draw from.")
    now.costs.append((len(now.sites), jnp.asarray(cost)))


def step() -> Any:
    """The number of the optimiser's step, 0 outside an optimisation; for schedules of beta or temperature."""
    return current_run().step
