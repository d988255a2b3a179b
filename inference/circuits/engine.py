"""Variational Bayes and expectation maximisation for circuits, by exact expected statistics.

    E step:  t = sum over rows of E[statistics | row, weights], by one upward and one downward pass
    M step:  q(theta) = the conjugate posterior with statistics t

`EM` takes the posterior mode as the weights of the next pass. `VBEM` takes exp E_q[log .], which
raises the bound

    sum over rows of log Z(row) - KL(q(theta) || prior) <= log p(table).

Tables of many rows are learned in minibatches at the mode, whose last statistics make q; there the
bound is reported and not raised further. Attias (2000); Cappe and Moulines (2009),
arXiv:0712.4273.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import ClassVar

import jax
import numpy as np

from inference.circuits.layout import Layout
from inference.circuits.learning import Learned, Schedule, learn, make_start
from inference.circuits.model import TractableCircuit
from inference.circuits.result import CircuitResult, restore_statistics
from inference.core.engine import (
    MADE_FOR_IT,
    AbstractEngine,
    Preference,
    check_positive_integers,
)
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult
from inference.core.typing import Info, Key, StoredArrays

# more rows are learned in minibatches
MANY = 1000
# rows * nodes * states^2 of all passes together, and the fewest and the most passes
WORK, EPOCHS = 2e10, (6, 40)


@dataclasses.dataclass(frozen=True)
class AbstractCircuitEngine(AbstractEngine):
    """What `VBEM` and `EM` share.

    Attributes:
        epochs: the number of passes in minibatches, for more than 1,000 rows; None takes as many as
            keep a fit below about a minute, at most 40.
        batch_size: the number of rows of a minibatch; None chooses it by the number of rows.
        passes: the largest number of passes over all rows, where there are no minibatches.
        tolerance: the gain in nats a row below which these passes end.
        restarts: the number of starts, of which the one with the highest bound is kept.
        num_draws: the number of draws that stand for the posterior.
    """

    epochs: int | None = None
    batch_size: int | None = None
    passes: int = 200
    tolerance: float = 1e-5
    restarts: int = 1
    num_draws: int = 100
    at_mode: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive_integers(self, "passes", "restarts", "num_draws")
        check_positive_integers(self, "epochs", "batch_size", optional=True)
        if not self.tolerance > 0:
            raise ValueError(
                f"{type(self).__name__}(tolerance={self.tolerance!r}): expected a number above 0."
            )

    @classmethod
    def example(cls) -> AbstractCircuitEngine:
        return cls(passes=20, num_draws=20)

    def supports(self, problem: Problem) -> str | None:
        if not isinstance(problem.structure, TractableCircuit):
            return "it needs a probabilistic circuit (bdl.Circuit)"
        return None

    def schedule(self, layout: Layout, rows: int) -> Schedule:
        """Return how long and how finely to learn from so many rows."""
        variational = not self.at_mode
        if rows <= MANY:
            return Schedule(None, 0, self.passes, self.tolerance, variational)
        size = self.batch_size or int(np.clip(rows // 16, 100, 500))
        work = rows * layout.nodes * layout.states**2
        epochs = self.epochs or int(np.clip(WORK / work, *EPOCHS))
        return Schedule(min(size, rows), epochs, 0, self.tolerance, variational)

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> CircuitResult:
        structure, started = problem.structure_as(TractableCircuit), time.perf_counter()
        layout, prior, table = structure.layout, structure.prior, structure.table
        schedule, runs = self.schedule(layout, len(table)), []
        for restart in range(self.restarts):
            start_key, order_key = jax.random.split(named_key(key, f"restart {restart}"))
            start = make_start(layout, prior, table, start_key)
            runs.append(learn(layout, prior, start, table, schedule, order_key, progress))
        best = max(runs, key=lambda run: np.nan_to_num(run.bounds[-1], nan=-np.inf))
        self._refuse_no_bound(best)
        info: Info = {
            "bound": float(best.bounds[-1]),
            "bounds": best.bounds.tolist(),
            "bound_of_restarts": [float(run.bounds[-1]) for run in runs],
            "converged": best.converged,
            "fell": best.fell,
            "minibatches": bool(schedule.epochs),
            "seconds": time.perf_counter() - started,
        }
        return CircuitResult(structure, best.statistics, info, self.num_draws, self.at_mode)

    def _refuse_no_bound(self, learned: Learned) -> None:
        """Refuse numbers whose bound cannot be computed.

        Raises:
            ValueError: saying what to look at.
        """
        if not np.isfinite(learned.bounds[-1]):
            raise ValueError(
                f"{type(self).__name__} diverged: the bound is {learned.bounds[-1]}. Look at cells "
                "far from all others, and fit with fewer states."
            )

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> CircuitResult:
        structure, found = problem.structure_as(TractableCircuit), restore_statistics(arrays)
        return CircuitResult(structure, found, info, self.num_draws, self.at_mode)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        rows = len(problem.structure_as(TractableCircuit).table)
        return {"bound a row": result.info["bound"] / rows}

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        fell = float(result.info.get("fell", 0.0))
        if fell != 0:
            said = (
                f"The bound fell by {fell:.2g} nats a row after {len(result.info['bounds'])} "
                "passes, which it does by rounding alone; the numbers before it are kept"
            )
            return (Finding(said, "fit with fewer states, or with another seed"),)
        if result.info["minibatches"] or result.info["converged"]:
            return ()
        said = f"The bound still rose after {self.passes} passes"
        return (Finding(said, f"fit with passes={2 * self.passes}"),)


@dataclasses.dataclass(frozen=True)
class VBEM(AbstractCircuitEngine):
    """Variational Bayes for circuits: a posterior for all numbers, and an exact predictive.

    Attributes:
        epochs: the number of passes in minibatches, for more than 1,000 rows; None takes as many as
            keep a fit below about a minute, at most 40.
        batch_size: the number of rows of a minibatch; None chooses it by the number of rows.
        passes: the largest number of passes over all rows, where there are no minibatches.
        tolerance: the gain in nats a row below which these passes end.
        restarts: the number of starts, of which the one with the highest bound is kept.
        num_draws: the number of draws that stand for the posterior.

    Example:
        >>> VBEM(restarts=3).restarts
        3
    """

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        if cls().supports(problem) is not None:
            return None
        return Preference(cls(), "a probabilistic circuit is what it is made for", MADE_FOR_IT - 1)


@dataclasses.dataclass(frozen=True)
class EM(AbstractCircuitEngine):
    """Expectation maximisation for circuits: the posterior mode.

    Attributes:
        epochs: the number of passes in minibatches, for more than 1,000 rows; None takes as many as
            keep a fit below about a minute, at most 40.
        batch_size: the number of rows of a minibatch; None chooses it by the number of rows.
        passes: the largest number of passes over all rows, where there are no minibatches.
        tolerance: the gain in nats a row below which these passes end.
        restarts: the number of starts, of which the one with the highest bound is kept.
        num_draws: the number of draws that stand for the posterior, all of them the mode.

    Example:
        >>> EM().at_mode
        True
    """

    at_mode: ClassVar[bool] = True
