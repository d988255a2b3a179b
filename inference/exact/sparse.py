"""Gaussian process regression for many rows, through inducing inputs.

The collapsed bound of Titsias (2009) in place of the evidence (`inducing.py`). Inducing inputs are
rows that a pivoted Cholesky factorisation takes first, which is about as good as optimising them
(Burt, Rasmussen and van der Wilk 2020, arXiv:2008.00323). Hyperparameters are found on a part of
the rows, in rounds: choose inducing inputs, maximise the bound, choose them anew. The answer is
given all rows and more inducing inputs.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.engine import (
    MADE_FOR_IT,
    AbstractEngine,
    Preference,
    check_positive_integers,
    problem_size,
)
from inference.core.findings import Finding, hyperparameter_findings, numbers_of
from inference.core.keys import named_key
from inference.core.minimise import minimise_to
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, Predictor
from inference.core.structure import AbstractGaussianProcessRegression
from inference.core.typing import Info, Key, SiteArrays, StoredArrays
from inference.exact.gp import EXACT_ROWS, reason_unsupported
from inference.exact.inducing import InducingPredictive, choose_inducing, collapsed_bound
from inference.exact.search import hyperparameters_at, one_row, prior_draw, some_rows
from inference.sharing import compile_with_data

# the default number of inducing inputs, and the largest number of rows that are all taken
INDUCING, ALL_ROWS = 512, 1000
# rows among which inducing inputs are chosen, at most: their factor has a column for each
CANDIDATES = 20_000
# draws of the prior whose median is the start
DRAWS = 200


@dataclasses.dataclass(frozen=True)
class SparseGP(AbstractEngine):
    """Gaussian process regression through inducing inputs, in memory linear in the rows.

    Attributes:
        can_checkpoint: whether interrupted runs can go on; no, as runs are short.
        num_inducing: the number of inducing inputs, at most one per row; None takes 512, or
            all of at most 1,000 rows, which is exact. Time grows with its square, and the
            approximation improves.
        search_rows: the largest number of rows, chosen at random, on which hyperparameters are
            found.
        search_inducing: the largest number of inducing inputs while they are found, where there
            are more than 1,000 rows; too few of them take a rough function for noise.
        num_rounds: how often inducing inputs are chosen and the bound is maximised.
        num_steps: the largest number of steps of L-BFGS in each round.

    Example:
        >>> SparseGP(num_inducing=100).num_rounds
        2
    """

    cli_name: ClassVar[str] = "sparse-gp"

    num_inducing: int | None = None
    search_rows: int = 4000
    search_inducing: int = 256
    num_rounds: int = 2
    num_steps: int = 50

    def __post_init__(self) -> None:
        check_positive_integers(self, "num_inducing", optional=True)
        check_positive_integers(self, "search_rows", "search_inducing", "num_rounds", "num_steps")

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        rows, _ = problem_size(problem)
        if not isinstance(problem.structure, AbstractGaussianProcessRegression):
            return None
        if rows <= EXACT_ROWS or _reason_scaled(problem):
            return None
        return Preference(cls(), f"{rows} rows are too many for a closed form", MADE_FOR_IT + 1)

    @classmethod
    def example(cls) -> SparseGP:
        return cls(num_rounds=1)

    def supports(self, problem: Problem) -> str | None:
        reason = reason_unsupported(problem, np.inf) or _reason_scaled(problem)
        if reason is None and (self.num_inducing or 1) > (rows := len(problem.args[0])):
            return f"num_inducing={self.num_inducing} is more than the {rows} rows"
        return reason

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> Predictor:
        started = time.perf_counter()
        regression = problem.structure_as(AbstractGaussianProcessRegression)
        with jax.enable_x64(True):
            values, converged = self.maximise(problem, key, progress)
            rows = len(problem.args[0])
            count = self.num_inducing or (rows if rows <= ALL_ROWS else min(INDUCING, rows))
            candidates = some_rows(problem, CANDIDATES, named_key(key, "candidates"))
            Z = _inducing_inputs(candidates, values, count)
            bound, parts = compile_with_data(problem, _answer)(values, Z)
        info = {
            "elbo": float(bound),
            "converged": converged,
            "num_inducing": len(Z),
            "answer": f"an approximation with {len(Z)} inducing inputs of "
            f"{regression.describe(values)}: judge it by post.score on held-out data",
            "hyperparameters": {name: np.asarray(value).tolist() for name, value in values.items()},
            "seconds": time.perf_counter() - started,
        }
        if not np.isfinite(info["elbo"]):
            raise ProblemError(
                "The covariance of the inducing inputs is singular: give fewer of them "
                f"(num_inducing, now {len(Z)})."
            )
        arrays = {name: np.asarray(value) for name, value in (values | parts).items()}
        return self.predictor(problem, arrays, info)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Predictor:
        return self.predictor(problem, arrays, info)

    def predictor(self, problem: Problem, arrays: StoredArrays, info: Info) -> Predictor:
        """Return the result for given hyperparameters and inducing inputs."""
        regression = problem.structure_as(AbstractGaussianProcessRegression)
        return Predictor(arrays, InducingPredictive(regression), info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        return numbers_of(result.info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        return hyperparameter_findings(result.info)

    def maximise(
        self, problem: Problem, key: Key, progress: AbstractProgress
    ) -> tuple[SiteArrays, bool]:
        """Return the hyperparameters, and whether the bound had stopped rising."""
        if not problem.latents:
            return {}, True
        few = some_rows(problem, self.search_rows, named_key(key, "rows"))
        prior = one_row(problem)
        draw = compile_with_data(prior, _prior_draws)
        constrain = compile_with_data(prior, hyperparameters_at)
        u = np.median(draw(jax.random.split(named_key(key, "start"), DRAWS)), axis=0)
        objective = compile_with_data(few, _value_and_slope)
        rows = len(few.args[0])
        count = rows if rows <= ALL_ROWS else min(self.search_inducing, rows)
        converged, rounds = False, 0
        progress.start(self.num_rounds, "hyperparameters")
        try:
            for _ in range(self.num_rounds):
                Z = _inducing_inputs(few, constrain(u), count)
                found, value, ended = minimise_to(lambda u, Z=Z: objective(u, Z), u, self.num_steps)
                if not np.isfinite(value) and not rounds:
                    raise ProblemError(
                        "No hyperparameters with a finite bound were found: give tighter priors."
                    )
                # other inducing inputs may have a singular covariance: the rounds before count
                if not np.isfinite(value):
                    converged = False
                    break
                u, converged = found, ended
                progress.advance(1, elbo=f"{-value:.5g}")
                rounds += 1
        except KeyboardInterrupt:
            # before the first round has ended there is nothing but the prior
            if not rounds:
                raise
            progress.stopped()
        finally:
            progress.close()
        return constrain(u), converged


def _reason_scaled(problem: Problem) -> str | None:
    """Return why a process whose scale is not known cannot be run, or None."""
    scale = problem.structure_as(AbstractGaussianProcessRegression).scale
    return None if scale is None else "its bound is that of a normal process; use bdl.ExactGP()"


def _inducing_inputs(problem: Problem, values: SiteArrays, count: int) -> jax.Array:
    """Return rows of a problem as inducing inputs, at most `count`, all different."""
    chosen, useful = compile_with_data(problem, _choose, count)(values)
    X = np.asarray(problem.args[0], np.float64)
    return jnp.asarray(X[np.asarray(chosen)[: max(1, int(useful))]])


def _choose(problem: Problem, count: int, values: SiteArrays) -> tuple[jax.Array, jax.Array]:
    """Choose rows of a problem as inducing inputs."""
    regression = problem.structure_as(AbstractGaussianProcessRegression)
    X = jnp.asarray(problem.args[0])
    return choose_inducing(regression.kernel_at(values, X.shape[1]), X, count)


def _prior_draws(problem: Problem, keys: Key) -> jax.Array:
    """Draw from the prior on flat unconstrained space, shape (keys, d)."""
    return jax.vmap(functools.partial(prior_draw, problem))(keys)


def _value_and_slope(problem: Problem, u: jax.Array, Z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return minus the bound, and its gradient."""
    regression = problem.structure_as(AbstractGaussianProcessRegression)
    X, y = map(jnp.asarray, problem.args)
    prior = one_row(problem)

    def objective(u: jax.Array) -> jax.Array:
        return -collapsed_bound(regression, hyperparameters_at(prior, u), Z, X, y)[0]

    return jax.value_and_grad(objective)(u)


def _answer(problem: Problem, values: SiteArrays, Z: jax.Array) -> tuple[jax.Array, SiteArrays]:
    """Return the bound, and what the predictive needs."""
    regression = problem.structure_as(AbstractGaussianProcessRegression)
    X, y = map(jnp.asarray, problem.args)
    return collapsed_bound(regression, values, Z, X, y)
