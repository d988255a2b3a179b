"""Stacking: several models are fitted, and averaged by how they predict rows that were left out.

    p(y | x, data) = sum_k w_k p_k(y | x, data)

with the weights of `weights.py`. Each member is an ordinary fit with its own engine. Where rows
are few, p_k(y_i | y_-i) is in closed form (`AbstractEngine.left_out`); where they are many, some
are held out from all members.

Yao, Vehtari, Simpson and Gelman (2018), arXiv:1704.02030.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.engine import (
    CLOSED_FORM,
    AbstractEngine,
    Preference,
    check_positive_integers,
)
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractPredictive, AbstractResult, with_prefix
from inference.core.typing import Info, Key, StoredArrays
from inference.stacking.members import Member, Members
from inference.stacking.result import StackedResult
from inference.stacking.weights import stack

# a member with less weight is not looked at
LEAST_WEIGHT = 0.1
BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Stacking(AbstractEngine):
    """An average of several models, weighted by their predictions of rows that were left out.

    Attributes:
        num_draws: the number of draws that stand for a member whose posterior is an approximation.

    Example:
        >>> Stacking(num_draws=100).num_draws
        100
    """

    num_draws: int = 200

    def __post_init__(self) -> None:
        check_positive_integers(self, "num_draws")

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        structure = problem.structure
        if not isinstance(structure, Members):
            return None
        names = ", ".join(member.name for member in structure.members)
        return Preference(cls(), f"the model is an average ({names})", CLOSED_FORM - 1)

    def supports(self, problem: Problem) -> str | None:
        if not isinstance(problem.structure, Members):
            return "it needs a model that is an average of several (bdl.Table)"
        return None

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> StackedResult:
        structure, started = problem.structure_as(Members), time.perf_counter()
        members, results, densities, failed = [], [], [], {}
        for member in structure.members:
            try:
                result = member.engine.infer(
                    member.problem, key=named_key(key, member.name), progress=progress
                )
            except ProblemError as error:
                failed[member.name] = str(error)
                continue
            except KeyboardInterrupt:
                if not members:
                    raise
                progress.stopped()
                break
            members.append(member)
            results.append(result)
            densities.append(_left_out(member, result, structure.held_out, self.num_draws))
            # a member that was interrupted gave what it had, and is the last one
            if progress.is_stopped:
                break
        if not members:
            raise ProblemError(f"No member could be fitted: {failed}.")
        weights = stack(np.stack(densities, axis=1))
        named = {m.name: float(w) for m, w in zip(members, weights, strict=True)}
        info: Info = {
            "hyperparameters": {f"weight of {name}": weight for name, weight in named.items()},
            "elpd": {m.name: float(d.sum()) for m, d in zip(members, densities, strict=True)},
            "failed": failed,
            "members": {m.name: dict(r.info) for m, r in zip(members, results, strict=True)},
            "seconds": time.perf_counter() - started,
        }
        return StackedResult(tuple(members), tuple(results), named, info, self.num_draws)

    def restore(self, problem: Problem, arrays: StoredArrays, info: Info) -> StackedResult:
        members = [
            member
            for member in problem.structure_as(Members).members
            if member.name in info["members"]
        ]
        results = [
            member.engine.restore(
                member.problem,
                with_prefix(arrays, f"{member.name}/"),
                info["members"][member.name],
            )
            for member in members
        ]
        weights = {m.name: info["hyperparameters"][f"weight of {m.name}"] for m in members}
        return StackedResult(tuple(members), tuple(results), weights, info, self.num_draws)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        elpd = {f"elpd of {name}": value for name, value in result.info["elpd"].items()}
        return {**result.info["hyperparameters"], **elpd}

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        info, found = result.info, []
        for member in problem.structure_as(Members).members:
            if member.name in info["failed"]:
                why = f"Member '{member.name}' was left out: {info['failed'][member.name]}"
                found.append(Finding(why, severity="note"))
            elif not info["members"][member.name].get("converged", True):
                minor = info["hyperparameters"][f"weight of {member.name}"] < LEAST_WEIGHT
                what = f"The search of member '{member.name}' did not converge"
                found.append(Finding(what, severity="note" if minor else "doubt"))
        weights = info["hyperparameters"]
        shown = ", ".join(f"{k.removeprefix('weight of ')} {w:.2f}" for k, w in weights.items())
        said = f"The answer is an average, weighted by densities of left-out rows: {shown}"
        return (*found, Finding(said, severity="note"))


def _left_out(
    member: Member, result: AbstractResult, held_out: tuple | None, num_draws: int
) -> np.ndarray:
    """Return the log densities of rows that a member has not seen.

    Raises:
        ProblemError: where nothing was held out, and the engine has no closed form.
    """
    if held_out is None:
        densities = member.engine.left_out(member.problem, result)
        if densities is None:
            raise ProblemError(
                f"Member '{member.name}' has no leave-one-out densities in closed form."
            )
        return densities
    alone = StackedResult((member,), (result,), {member.name: 1.0}, {}, num_draws)
    predictive = alone.predictive(member.problem, member.model)
    X, y = held_out

    @jax.jit
    def densities_of(predictive: AbstractPredictive, X: np.ndarray, y: np.ndarray) -> jax.Array:
        return jnp.asarray(predictive({}, jax.random.key(0), X).distribution.log_prob(y))

    parts = [
        np.asarray(densities_of(predictive, X[at : at + BATCH], y[at : at + BATCH]))
        for at in range(0, len(y), BATCH)
    ]
    return np.concatenate(parts)
