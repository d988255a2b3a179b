"""Gaussian process regression in closed form.

With K the kernel matrix of the training inputs, k the covariances with a new input and
S = K + sigma^2 I,

    f(x) | y ~ N(k' S^-1 y, k(x, x) - k' S^-1 k)
    log p(y) = -y' S^-1 y / 2 - log |S| / 2 - n log(2 pi) / 2

(Rasmussen and Williams 2006, equations 2.25, 2.26 and 2.30). The solver is tinygp's, in double
precision. Hyperparameters maximise log p(y) (type-II maximum likelihood) or the posterior, or are
sampled by NUTS.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from inference.core.engine import (
    CLOSED_FORM,
    AbstractEngine,
    Preference,
    check_choice,
    check_positive_integers,
    problem_size,
)
from inference.core.findings import Finding, hyperparameter_findings, numbers_of
from inference.core.keys import named_key
from inference.core.minimise import minimise_to
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractPredictive, AbstractResult, Conditional, Draws, Predictor
from inference.core.structure import AbstractGaussianProcessRegression
from inference.core.typing import HyperparameterMethod, Info, Key, SiteArrays, StoredArrays
from inference.exact.density import JOINT_JITTER, quadratic_and_log_det
from inference.exact.scale_mixture import FixedScale, ScaledNormal
from inference.exact.search import hyperparameters_at, one_row, prior_draw, some_rows
from inference.mcmc.hmc import NUTS
from inference.sharing import compile_with_data

# A Cholesky factor of this size takes about a second on two cores.
EXACT_ROWS = 3000

MAX_STEPS = 1000
# draws of the prior for each start
TRIES = 20
# a search that has come to rest this many nats behind another one ends
BEHIND = 10.0
# the Cholesky factor of this many rows takes 800 MB
MAX_ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class ExactGP(AbstractEngine):
    """Exact Gaussian process regression.

    Attributes:
        can_checkpoint: whether interrupted runs can go on; no, as runs are short.
        hyperparameters: the way to find hyperparameters: "ml" (the default) maximises the marginal
            likelihood, "map" the posterior density in unconstrained space, and "sample" draws from
            the posterior with NUTS. Hyperparameters given as numbers stay fixed in each case.
        num_restarts: the number of searches for the maximum, each from a draw of the prior; with
            three, one of them nearly always finds the best mode.
        sampler: the settings of NUTS for "sample".
        search_rows: the largest number of rows, chosen at random, from which "ml" and "map" find
            hyperparameters; the answer is given all rows. None takes all of them.

    Example:
        >>> ExactGP(hyperparameters="sample").num_restarts
        3
    """

    cli_name: ClassVar[str] = "exact-gp"

    hyperparameters: HyperparameterMethod = "ml"
    num_restarts: int = 3
    sampler: NUTS = NUTS(num_warmup=500, num_samples=500, num_chains=2)
    search_rows: int | None = None

    def __post_init__(self) -> None:
        check_choice(self, "hyperparameters", ("ml", "map", "sample"))
        check_positive_integers(self, "num_restarts")
        check_positive_integers(self, "search_rows", optional=True)

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        rows, _ = problem_size(problem)
        structure = problem.structure
        if not isinstance(structure, AbstractGaussianProcessRegression):
            return None
        if rows > (EXACT_ROWS if structure.scale is None else MAX_ROWS):
            return None
        reason = f"a Gaussian process with {rows} rows has a closed form"
        return Preference(cls(), reason, CLOSED_FORM)

    @classmethod
    def example(cls) -> ExactGP:
        return cls(num_restarts=1)

    def supports(self, problem: Problem) -> str | None:
        regression = problem.structure
        scaled = getattr(regression, "scale", None) is not None
        cure = "fit some of the rows, or bdl.GP()" if scaled else "use bdl.SparseGP()"
        return reason_unsupported(problem, MAX_ROWS, f", {cure}")

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> AbstractResult:
        if self.hyperparameters == "sample" and problem.latents:
            return self.sampler.infer(problem, key=key, progress=progress)
        started = time.perf_counter()
        with jax.enable_x64(True):
            values, converged = (
                self.maximise(problem, key, progress) if problem.latents else ({}, True)
            )
            regression = problem.structure_as(AbstractGaussianProcessRegression)
            evidence = float(_log_evidence(regression, values, *problem.args))
        info = {
            "log_evidence": evidence,
            "converged": converged,
            "answer": f"exact for {regression.describe(values)}"
            + ("; that these numbers are not known for sure is not in it" if values else ""),
            "hyperparameters": {name: np.asarray(value).tolist() for name, value in values.items()},
            "seconds": time.perf_counter() - started,
        }
        return self.predictor(problem, values, info)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> AbstractResult:
        if any(name.startswith("samples/") for name in arrays):
            return Draws.from_arrays(arrays, info)
        return self.predictor(problem, arrays, info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        if result.groups():
            return self.sampler.diagnostics(problem, result)
        return numbers_of(result.info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        if result.groups():
            return self.sampler.findings(problem, result, facts)
        return hyperparameter_findings(result.info)

    def maximise(
        self, problem: Problem, key: jax.Array, progress: AbstractProgress
    ) -> tuple[dict[str, np.ndarray], bool]:
        """Return the hyperparameters with the highest objective over all restarts.

        Returns:
            Hyperparameters by site, and whether the search that found them converged.
        """
        problem = some_rows(problem, self.search_rows, named_key(key, "rows"))
        compiled = compile_with_data(problem, _value_and_slope, self.hyperparameters)
        best, lowest, converged = None, np.inf, False
        progress.start(self.num_restarts, "hyperparameters")
        try:
            draw = compile_with_data(problem, prior_draw)
            for restart in range(self.num_restarts):
                start = _finite_start(draw, compiled, named_key(key, f"restart {restart}"))
                if start is not None:
                    u, value, done = minimise_to(compiled, start, MAX_STEPS, lowest + BEHIND)
                    if value < lowest:
                        best, lowest, converged = u, value, done
                progress.advance(1, best=f"{-lowest:.5g}")
        except KeyboardInterrupt:
            if best is None:
                raise
            progress.stopped()
        finally:
            progress.close()
        if best is None:
            raise ProblemError(
                "No hyperparameters with a finite marginal likelihood were found: "
                "give tighter priors."
            )
        values = compile_with_data(problem, hyperparameters_at)(jnp.asarray(best))
        return {site: np.asarray(value) for site, value in values.items()}, converged

    def left_out(self, problem: Problem, result: AbstractResult) -> np.ndarray | None:
        """Return log p(y_i | y_-i), with S^-1 the precision of all targets.

        y_i | y_-i ~ N(y_i - [S^-1 y]_i / [S^-1]_ii, 1 / [S^-1]_ii) (Rasmussen and Williams 2006,
        equation 5.12).
        """
        regression = problem.structure_as(AbstractGaussianProcessRegression)
        if result.groups():
            return None
        values, (X, y) = result.arrays(), problem.args
        with jax.enable_x64(True):
            process = regression.gaussian_process(values, jnp.asarray(X))
            if regression.scale is not None:
                scaled = ScaledNormal(process.solver.scale_tril, regression.scale)
                return np.asarray(scaled.left_out(jnp.asarray(y))[0])
            root = np.asarray(process.solver.solve_triangular(jnp.eye(len(X))))
            whitened = np.asarray(process.solver.solve_triangular(jnp.asarray(y)))
        precision = np.sum(root**2, axis=0)
        residuals = root.T @ whitened / precision
        return (np.log(precision) - np.log(2 * np.pi) - precision * residuals**2) / 2

    def predictor(self, problem: Problem, values: StoredArrays, info: Info) -> Predictor:
        """Return the result for given hyperparameters."""
        return Predictor(
            values,
            GPPredictive(problem.structure_as(AbstractGaussianProcessRegression), *problem.args),
            info,
        )


def _value_and_slope(
    problem: Problem, hyperparameters: str, u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return what the search minimises, and its gradient."""
    regression = problem.structure_as(AbstractGaussianProcessRegression)

    def objective(u: jax.Array) -> jax.Array:
        values = problem.log_density().constrain(u)
        evidence = _log_evidence(regression, values, *problem.args)
        if hyperparameters == "ml":
            return -evidence
        # the program with one row has the density of the hyperparameters times that of the row
        row = one_row(problem)
        return _log_evidence(regression, values, *row.args) - row.log_density()(u) - evidence

    return jax.value_and_grad(objective)(u)


def _finite_start(draw: Callable, objective: Callable, key: Key) -> np.ndarray | None:
    """Return the first draw where the objective and its gradient are finite, or None."""
    for one in jax.random.split(key, TRIES):
        u = np.asarray(draw(one))
        if all(np.isfinite(part).all() for part in map(np.asarray, objective(u))):
            return u
    return None


@functools.partial(jax.jit, static_argnums=0)
def _log_evidence(
    regression: AbstractGaussianProcessRegression, values: SiteArrays, X: ArrayLike, y: ArrayLike
) -> jax.Array:
    """Return log p(y), given hyperparameters by site."""
    covariance = regression.noisy_covariance(values, jnp.asarray(X))
    known = quadratic_and_log_det(covariance, jnp.asarray(y))
    return (regression.scale or FixedScale()).log_density(*known, len(covariance))


def reason_unsupported(problem: Problem, max_rows: int | float, cure: str = "") -> str | None:
    """Return the reason why a problem is no Gaussian process regression with so many rows, or None.

    Args:
        problem: the problem.
        max_rows: the largest number of rows.
        cure: what to do where there are more, appended to the reason.
    """
    if not isinstance(problem.structure, AbstractGaussianProcessRegression):
        return "it needs a Gaussian process with normal noise (bdl.GP)"
    rows = problem.args[0].shape[0]
    if rows > max_rows:
        return f"{rows} rows need a dense {rows} x {rows} matrix; the limit is {max_rows}{cure}"
    return None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class GPPredictive(AbstractPredictive):
    """The distribution of new targets given hyperparameters and the training data.

    Attributes:
        regression: the Gaussian process regression.
        X: the training inputs, shape (rows, columns).
        y: the training targets, shape (rows,).
    """

    regression: AbstractGaussianProcessRegression = dataclasses.field(metadata={"static": True})
    X: Any
    y: Any

    def __call__(
        self, values: dict, key: Key | None, X_new: ArrayLike, joint: bool = False
    ) -> Conditional:
        return condition(self.regression, values, self.X, self.y, X_new, joint)


def condition(
    structure: AbstractGaussianProcessRegression,
    values: dict,
    X: ArrayLike,
    y: ArrayLike,
    X_new: ArrayLike,
    joint: bool = False,
) -> Conditional:
    """Return the distribution of new targets given the training data and hyperparameters.

    Args:
        structure: the Gaussian process regression.
        values: the hyperparameters by site.
        X: the training inputs.
        y: the training targets.
        X_new: the new inputs.
        joint: whether the distribution is that of all rows jointly, rather than of each row.
    """
    X, X_new = jnp.asarray(X), jnp.asarray(X_new)
    process = structure.gaussian_process(values, X)
    # L^-1 y with L L' = K + sigma^2 I
    whitened = process.solver.solve_triangular(jnp.asarray(y))
    projected = process.solver.solve_triangular(process.kernel(X, X_new))
    variance = jnp.maximum(process.kernel(X_new) - jnp.sum(projected**2, axis=0), 0.0)
    mean, noise = projected.T @ whitened, structure.noise_variance(values)
    scale = structure.scale or FixedScale()
    rows = scale.row(mean, variance, noise, whitened @ whitened, len(X))
    if not joint:
        return rows
    covariance = (
        process.kernel(X_new, X_new)
        - projected.T @ projected
        + (noise + JOINT_JITTER) * jnp.eye(len(X_new))
    )
    together = scale.joint(mean, covariance, whitened @ whitened, len(X))
    return Conditional(together, rows.epistemic)
