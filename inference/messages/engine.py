"""Message passing for functional tensors (FunBaT; Fang et al. 2024, arXiv:2311.04829).

y at tuples of indexes is modelled by products of functions of one index each, Gaussian processes in
state-space form. With q factorised over modes, each mode is smoothed given the sums of what the
entries say of it (`forms.py`, `smoother.py`): what the paper calls conditional expectation
propagation is, for normal noise and one damping, coordinate ascent on the evidence bound. So it is
run: with the prior counted once, the core's uncertainty kept, and hyperparameters learned by the
bound's gradient.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to, constraints

from inference.core.engine import (
    MADE_FOR_IT,
    AbstractEngine,
    Preference,
    check_choice,
    check_positive_integers,
)
from inference.core.findings import Finding, hyperparameter_findings, numbers_of
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, Predictor
from inference.core.structure import StateSpaceTensor
from inference.core.typing import Key, Smoother
from inference.messages.iteration import Iteration, State, order_by_size
from inference.messages.predictive import TensorPredictive
from inference.messages.streaming import add_entries
from inference.messages.summary import point_estimates, rank_weights
from inference.settings import check_positive, is_whole

# iterations of a compiled block
BLOCK = 10
# iterations of annealing, if there are at least twice as many iterations
ANNEAL = 10
# A fit has found nothing if the variance of f is below this share of the one that explains y.
COLLAPSED = 0.05
# The noise while factors find their shape, in units of the standardised target, and the variance
# of the factors at the start. With either smaller, fits end in rougher functions that predict
# worse.
START_SCALE = 1.0
SPREAD = 1.0
NOTHING = (
    "The fit explains nothing of the data: they may have no structure of this kind, or need other "
    "length scales or ranks."
)
ANSWER = (
    "structured mean-field: functions of different modes are independent in it, noise and length "
    "scales are point estimates"
)


class CollapseWarning(UserWarning):
    """A warning that some restarts, or all, explain nothing of the data."""


@dataclasses.dataclass(frozen=True)
class MessagePassing(AbstractEngine):
    """Message passing for `bdl.FunBaT` (Fang et al. 2024, arXiv:2311.04829).

    Attributes:
        iterations: the largest number of iterations; each updates all modes once.
        restarts: the number of starts from different random factors, run side by side; the one
            with the best bound is kept.
        tolerance: the fit stops when the bound of the best restart grows by less than this share
            of itself over ten iterations.
        damping: the weight of the old messages in new ones; 0 for no damping.
        noise_damping: the weight of the old noise variance in the new one.
        anneal: the number of iterations in which the noise stays at its start, and binary data
            count several times, so that factors find their shape first; None is 10, or half of
            the iterations if these are fewer than 20.
        learning_rate: the learning rate of the hyperparameters (Adam), which decays to zero.
        smoother: "sequential", "parallel" along each index, or "auto": parallel on accelerators,
            where it is faster.

    Example:
        >>> MessagePassing(restarts=4).iterations
        300
    """

    cli_name: ClassVar[str] = "message-passing"

    iterations: int = 300
    restarts: int = 8
    tolerance: float = 1e-4
    damping: float = 0.0
    noise_damping: float = 0.0
    anneal: int | None = None
    learning_rate: float = 0.1
    smoother: Smoother = "auto"

    def __post_init__(self) -> None:
        check_choice(self, "smoother", ("auto", "sequential", "parallel"))
        check_positive(self, "tolerance", "learning_rate")
        check_positive_integers(self, "iterations", "restarts")
        if not is_whole(self.num_annealed, 0) or self.num_annealed >= self.iterations:
            raise ValueError(
                f"MessagePassing(anneal={self.anneal!r}): expected None or a whole number with 0 "
                f"<= anneal < iterations, which is {self.iterations}."
            )
        for name in ("damping", "noise_damping"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"MessagePassing({name}={getattr(self, name)!r}): expected a number with 0 <= "
                    f"{name} < 1."
                )

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        if cls().supports(problem) is not None:
            return None
        return Preference(cls(), "a functional tensor is what it is made for", MADE_FOR_IT)

    @classmethod
    def example(cls) -> MessagePassing:
        return cls(iterations=20, restarts=2)

    @property
    def num_annealed(self) -> int:
        """The number of annealed iterations."""
        return min(ANNEAL, self.iterations // 2) if self.anneal is None else self.anneal

    def supports(self, problem: Problem) -> str | None:
        if not isinstance(problem.structure, StateSpaceTensor):
            return "it needs a functional tensor (bdl.FunBaT)"
        if problem.structure.no_likelihood is not None:
            return problem.structure.no_likelihood
        if (
            "sigma" in problem.latents
            and problem.trace["sigma"]["fn"].support is not constraints.positive
        ):
            return (
                "the prior of its noise has a bounded support; give one on all positive numbers, "
                "such as HalfNormal"
            )
        return None

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> Predictor:
        started = time.perf_counter()
        with jax.enable_x64(True):
            iteration = self.iteration(problem)
            state, bounds, converged = self.run(iteration, key, progress)
            kept, collapsed = self.choose_restart(iteration, state, bounds[-1])
            params = self.params(iteration, jax.tree.map(lambda leaf: leaf[kept], state))
        info = {
            "elbo_trace": bounds[:, kept].tolist(),
            "elbo": float(bounds[-1, kept]),
            "elbo_of_restarts": bounds[-1].tolist(),
            "kept": kept,
            "collapsed": collapsed,
            "doubts": self.find_doubts(iteration, float(bounds[-1, kept]), kept in collapsed),
            "answer": ANSWER,
            "converged": converged,
            "rank_weights": rank_weights(problem.structure_as(StateSpaceTensor), params),
            "seconds": time.perf_counter() - started,
        }
        return self.predictor(problem, params, info)

    def iteration(self, problem: Problem) -> Iteration:
        """Return the functions of a fit of this problem."""
        y = jnp.asarray(problem.args[1], float)
        order = order_by_size([len(x) for x in problem.structure_as(StateSpaceTensor).positions])
        return Iteration(
            problem,
            y,
            self.damping,
            self.noise_damping,
            self.learning_rate,
            self.iterations,
            self.parallel,
            order,
        )

    @property
    def parallel(self) -> bool:
        """Whether smoothing is parallel along the index."""
        return self.smoother == "parallel" or (
            self.smoother == "auto" and jax.default_backend() != "cpu"
        )

    def run(
        self, iteration: Iteration, key: Key, progress: AbstractProgress
    ) -> tuple[State, np.ndarray, bool]:
        """Run all restarts until the best one converges.

        Return their states, their bounds, shape (iterations, restarts), and whether the best one
        converged.
        """
        state = jax.jit(jax.vmap(lambda key: self.start(iteration, key)))(
            jax.random.split(named_key(key, "starts"), self.restarts)
        )
        # no weak types, for which blocks would compile a second time
        state = jax.tree.map(lambda leaf: leaf.astype(leaf.dtype), state)
        block = jax.jit(
            jax.vmap(lambda *given: self.block(iteration, *given), in_axes=(0, None, None, None))
        )
        bounds: list[np.ndarray] = []
        converged = False
        progress.start(self.iterations, "message passing")
        try:
            for first in range(0, self.iterations, BLOCK):
                count = min(BLOCK, self.iterations - first)
                state, new = block(state, first, count, True)
                bounds.append(np.asarray(new).T[:count])
                best = np.where(np.isfinite(bounds[-1][-1]), bounds[-1][-1], -np.inf)
                progress.advance(count, elbo=f"{best.max():.5g}")
                if first >= self.num_annealed and self.has_settled(bounds[-1], int(best.argmax())):
                    converged = True
                    break
        except KeyboardInterrupt:
            if not bounds:
                raise
            progress.stopped()
        finally:
            progress.close()
        # one more iteration with fixed hyperparameters, so that all parts belong together
        state, last = block(state, self.num_annealed, 1, False)
        return state, np.concatenate([*bounds, np.asarray(last).T[:1]]), converged

    def has_settled(self, bounds: np.ndarray, best: int) -> bool:
        """Whether the best restart's bound has stopped growing."""
        return bool(np.ptp(bounds[:, best]) <= self.tolerance * abs(bounds[-1, best]))

    def start(self, iteration: Iteration, key: Key) -> State:
        """Start from hyperparameters drawn from their priors; scales begin at one."""
        s, problem = iteration.structure, iteration.problem
        hyper = {}
        for name in s.hyperparameters:
            prior = problem.trace[name]["fn"]
            positive = (
                prior.support is constraints.positive
                or getattr(prior.support, "base_constraint", None) is constraints.positive
            )
            drawn = name.endswith("lengthscale") or not positive
            value = prior.sample(named_key(key, name)) if drawn else jnp.ones(prior.shape())
            hyper[name] = biject_to(prior.support).inv(value.astype(float))
        sigma = jnp.asarray(START_SCALE if s.scale is None else s.scale)
        return iteration.start(named_key(key, "factors"), hyper, sigma, SPREAD)

    def block(
        self,
        iteration: Iteration,
        state: State,
        first: Any,
        count: Any = BLOCK,
        learn: Any = True,
    ) -> tuple[State, jax.Array]:
        """Run `count` iterations from number `first` on.

        Return the state and the bound after each, in an array for the longest block.
        """

        def one(j: Any, carry: tuple) -> tuple:
            state, bounds = carry
            late = first + j >= self.num_annealed
            emphasis = jnp.where(late, 1.0, iteration.likelihood.emphasis)
            state, bound = iteration.iterate(state, late, late & learn, emphasis)
            return state, bounds.at[j].set(bound)

        return jax.lax.fori_loop(0, count, one, (state, jnp.zeros(BLOCK)))

    def choose_restart(
        self, iteration: Iteration, state: State, bounds: np.ndarray
    ) -> tuple[int, list[int]]:
        """Return the number of the restart to keep, and those that explain nothing.

        Raises:
            ProblemError: if no restart has a finite bound.
        """
        if not np.isfinite(bounds).any():
            raise ProblemError(
                "Message passing diverged in every restart: raise damping, or give tighter priors."
            )
        spread = np.asarray(jax.jit(jax.vmap(lambda s: jnp.var(iteration.entries(s)[0])))(state))
        wanted = iteration.likelihood.spread(np.asarray(iteration.y))
        collapsed = np.flatnonzero(~(spread >= COLLAPSED * wanted)).tolist()
        kept = int(np.where(np.isfinite(bounds), bounds, -np.inf).argmax())
        if collapsed:
            warnings.warn(
                f"{len(collapsed)} of {self.restarts} restarts collapsed to zero; restart {kept} "
                "with the best bound was kept" + (f". {NOTHING}" if kept in collapsed else "."),
                CollapseWarning,
                stacklevel=4,
            )
        return kept, collapsed

    def find_doubts(self, iteration: Iteration, bound: float, collapsed: bool) -> list[str]:
        """Say why the kept restart may not be trusted."""
        found = [NOTHING] if collapsed else []
        if not bound > iteration.likelihood.log_likelihood_of_constant(np.asarray(iteration.y)):
            found.append(
                f"The bound, {bound:.5g}, is below the log-likelihood of a constant: the data "
                "speak against these functions."
            )
        return found

    def params(self, iteration: Iteration, state: State) -> dict[str, np.ndarray]:
        """Return all arrays that predictions need, by name."""
        s = iteration.structure
        values = iteration.values(state.hyper)
        found: dict[str, Any] = {f"hyper.{name}": value for name, value in values.items()} | {
            "sigma": state.sigma
        }
        for k, kernel in enumerate(s.kernels(values)):
            precision, information = state.messages[k]
            parts = {
                "precision": precision,
                "information": information,
                "mean": state.factors[k].mean,
            }
            parts |= {"lengthscale": kernel.lengthscale, "variances": kernel.variances}
            parts |= {} if kernel.constant is None else {"constant": kernel.constant}
            found |= {f"mode{k}.{name}": value for name, value in parts.items()}
        if state.core is not None and state.core_message is not None:
            mean, second = state.core
            found |= {"core.mean": mean, "core.covariance": second - mean[:, None] * mean[None, :]}
            found |= dict(
                zip(("core.precision", "core.information"), state.core_message, strict=True)
            )
        return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}

    def update(self, problem: Problem, before: Predictor, new: int) -> Predictor:
        """Return the result with more entries, the last `new` ones of the problem.

        The messages of the others stay as they are.
        """
        s, y = problem.structure_as(StateSpaceTensor), np.asarray(problem.args[1], float)
        with jax.enable_x64(True):
            params = add_entries(s, y[-new:], before, self.parallel)
        added = before.info.get("added", 0) + new
        since = (
            f"; elbo, seconds and doubts are of the fit before {added} entries were added by update"
        )
        info = before.info | {
            "rank_weights": rank_weights(s, params),
            "added": added,
            "answer": ANSWER + since,
        }
        return self.predictor(problem, params, info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        return numbers_of(result.info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        return hyperparameter_findings(result.info, result.info.get("doubts", ()))

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Predictor:
        return self.predictor(problem, arrays, info)

    def predictor(self, problem: Problem, params: dict, info: dict) -> Predictor:
        """Return the result for these parameters."""
        s = problem.structure_as(StateSpaceTensor)
        info = info | {"hyperparameters": point_estimates(s, params)}
        return Predictor(
            params,
            TensorPredictive(
                s.smoothness,
                s.form,
                s.likelihood,
                tuple(np.asarray(x, np.float64) for x in s.positions),
            ),
            info,
        )
