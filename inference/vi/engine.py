"""Variational inference: the guide q(z; phi) that maximises the expectation of an objective.

By default the objective is the ELBO,

    E_q[log p(y, z) - log q(z)] = log p(y) - KL(q || p(. | y)) <= log p(y).

Objectives are functions, guides are NumPyro programs, and gradient estimators belong to sample
sites; see `expectation.py`.

References: Kucukelbir et al. (2017), arXiv:1603.00788; Becker et al. (2024), PLDI.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from inference.core.engine import (
    ANYTHING,
    AbstractEngine,
    Preference,
    check_choice,
    check_positive_integers,
    free_params,
    mutable_state,
    needs_gradients,
    problem_size,
)
from inference.core.enumeration.check import why_not_summed
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError
from inference.core.program import WholePlates, WithParameters
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, with_prefix
from inference.core.typing import Info, Key, SiteArrays, StoredArrays
from inference.settings import check_positive
from inference.supports import moving_support
from inference.vi.constructs import Marginal
from inference.vi.distributions import (
    AbstractProgramDistribution,
    ProgramDistribution,
    as_distribution,
)
from inference.vi.expectation import Expectation
from inference.vi.findings import objective_findings, rise_finding
from inference.vi.guides import (
    GUIDES,
    best_prior_draw,
    guide_sites,
    laplace_parameters,
    make_autoguide,
)
from inference.vi.objectives import OBJECTIVES, Objective, elbo, temperature_of
from inference.vi.optimise import make_optimizer, maximise, warn_of_fall, wrap_programs
from inference.vi.parameters import (
    Space,
    as_program_params,
    flatten_params,
    model_params,
    unconstrained_names,
)
from inference.vi.result import VariationalApproximation
from inference.vi.validation import refuse_classes, refuse_other_arguments, refuse_other_supports

# draws for the ELBO before the first step, against which that of other objectives' fits is held
START_DRAWS = 100

# objectives that are linear in the log likelihood of the data, so that batches leave their mean
# alone
LINEAR = ("elbo", "tempered_elbo")

# objectives whose smaller value at the end means divergence
BOUNDS = ("elbo", "iwelbo", "dreg", "renyi", "thermodynamic")


@dataclasses.dataclass(frozen=True)
class VI(AbstractEngine):
    """Variational inference (Kucukelbir et al. 2017, arXiv:1603.00788; Becker et al. 2024).

    Attributes:
        guide: the approximating family. It is "mean-field", "low-rank", "full-rank", "flow" or
            "laplace"; or a NumPyro program, called with the data, that draws the latent sites; or
            a `bayesdl.vi.marginal` of one. "mean-field" costs least, but underestimates variances
            of correlated posteriors.
        objective: the objective to be maximised: the name of one in `bayesdl.vi`, or a function
            of (p, q).
        steps: the number of optimiser steps; noisy gradients need some thousands.
        optimizer: an optax optimiser, or None for Adam.
        learning_rate: Adam's learning rate at the start; it decays to zero along a cosine, so
            that the last steps average the noise out. Not used if an optimizer is given.
        num_particles: the number of independent estimates of the objective per step; more make
            gradients less noisy.
        batch_size: the number of rows per step, or None for all of them. The program needs a
            plate over its data, and the objective must be linear in their log likelihood.
        estimators: gradient estimators by site name; see `bayesdl.vi`. None for the default of
            each site.
        patience: stops when the objective, averaged over a fiftieth of the steps, has had no new
            best for this number of steps; None never stops early.
        rank: the rank of the low-rank guide, or None for the square root of the dimension.
        initial_scale: the standard deviation of q at the start, of normal guides. It is small, so
            that the first draws stay near where q begins, the most probable of 16 draws from the
            prior.

    Example:
        >>> VI(guide="full-rank").steps
        10000
    """

    guide: Any = "mean-field"
    objective: Any = "elbo"
    steps: int = 10_000
    optimizer: Any = None
    learning_rate: float = 0.03
    num_particles: int = 1
    batch_size: int | None = None
    estimators: Any = None
    patience: int | None = None
    rank: int | None = None
    initial_scale: float = 0.05

    def __post_init__(self) -> None:
        is_distribution = isinstance(self.guide, AbstractProgramDistribution)
        if is_distribution and not isinstance(self.guide, ProgramDistribution | Marginal):
            raise ValueError(
                f"VI(guide={type(self.guide).__name__}): expected a program, or a marginal of one."
            )
        if not callable(self.guide) and not is_distribution:
            check_choice(self, "guide", tuple(GUIDES))
        if not callable(self.objective):
            check_choice(self, "objective", tuple(OBJECTIVES))
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"VI(optimizer={self.optimizer!r}): expected an optax optimiser such as "
                "optax.adam(1e-2)."
            )
        estimators = {} if self.estimators is None else self.estimators
        if not isinstance(estimators, Mapping):
            raise ValueError(
                f"VI(estimators={self.estimators!r}): expected estimators by site name, e.g. "
                "{'z': vi.MVD()}."
            )
        refuse_classes(estimators)
        check_positive(self, "learning_rate", "initial_scale")
        check_positive_integers(self, "steps", "num_particles")
        check_positive_integers(self, "batch_size", "rank", "patience", optional=True)
        self.refuse_settings_together()

    @classmethod
    def preference(cls, problem: Problem) -> Preference:
        rows, size = problem_size(problem)
        reason = f"{rows} rows and {size} latent dimensions are many for MCMC"
        return Preference(cls(), reason, ANYTHING)

    @classmethod
    def example(cls) -> VI:
        return cls(steps=400)

    def refuse_settings_together(self) -> None:
        """Refuse objectives that early stopping or minibatches would turn into others.

        Raises:
            ValueError: naming both settings.
        """
        scheduled = any(
            callable(value) for value in getattr(self.function, "keywords", {}).values()
        )
        if self.patience is not None and scheduled:
            raise ValueError(
                "VI(patience=...): an objective with a schedule changes by itself; leave patience "
                "out."
            )
        name = _describe_objective(self.function).partition("(")[0]
        if self.batch_size is not None and name not in OBJECTIVES:
            warnings.warn(
                f"VI(batch_size={self.batch_size}) is right only if the objective '{name}' is "
                "linear in the log likelihood, as the ELBO is.",
                stacklevel=4,
            )
        if self.batch_size is not None and name in OBJECTIVES and name not in LINEAR:
            raise ValueError(
                f"VI(objective={name}, batch_size={self.batch_size}): its mean over batches is "
                "another objective; use all rows, or elbo."
            )

    def pose(self, problem: Problem) -> Problem:
        problem = free_params(problem)
        if isinstance(self.guide, str) or not problem.discrete_latents:
            return problem
        names = guide_sites(self.guide, problem)
        return problem.with_drawn_sites(set(problem.discrete_latents) & names)

    def supports(self, problem: Problem) -> str | None:
        if not isinstance(self.guide, str):
            if not problem.unobserved:
                return "the program has no latent site to infer"
            return mutable_state(problem) or why_not_summed(self.pose(problem))
        size = sum(int(np.prod(shape)) for shape in problem.latents.values())
        if self.guide == "flow" and size == 1:
            return "an autoregressive flow needs two latent dimensions; use guide='full-rank'"
        moving = moving_support(problem)
        if moving is not None:
            return f"named guides keep bounds, and those of site '{moving}' depend on other sites"
        return needs_gradients(problem)

    @property
    def function(self) -> Objective:
        """The objective as a function of (p, q)."""
        return OBJECTIVES[self.objective] if isinstance(self.objective, str) else self.objective

    def infer(
        self, problem: Problem, *, key: Key, progress: AbstractProgress = Silent()
    ) -> VariationalApproximation:
        started, problem = time.perf_counter(), self.pose(problem)
        if not isinstance(self.guide, str):
            program = getattr(self.guide, "program", self.guide)
            refuse_other_arguments("guide", program, problem.args, problem.kwargs)
        start_key = named_key(key, "start")
        at = best_prior_draw(problem, start_key) if isinstance(self.guide, str) else None
        expectation = self.expectation(problem, start_key, at)
        sites = expectation.sites(named_key(key, "parameters"), *problem.args, **problem.kwargs)
        values = {name: site["value"] for name, site in sites.items()}
        if self.guide == "laplace":
            values |= laplace_parameters(problem, named_key(key, "laplace"))
        if not values:
            raise ProblemError(
                "The guide has no numpyro.param statement, so there is nothing to optimise."
            )
        if not isinstance(self.guide, str):
            refuse_other_supports(problem, expectation, values, named_key(key, "supports"))
        info: Info = {"objective": _describe_objective(self.function)}
        if (temperature := temperature_of(self.function, self.steps - 1)) != 1:
            info["temperature"] = temperature
        if self.function not in OBJECTIVES.values():
            flat = flatten_params(values)
            start = self.approximation(problem, expectation, flat, np.zeros(0), {})
            log_weights = start.log_weights(named_key(key, "elbo"), START_DRAWS)
            info["elbo_at_start"] = float(np.mean(log_weights))
        params, history, stopped = maximise(
            expectation,
            problem,
            Space(sites),
            values,
            key,
            progress,
            optimizer=make_optimizer(self.optimizer, self.learning_rate, self.steps, values),
            steps=self.steps,
            batch_size=self.batch_size,
            patience=self.patience,
        )
        self.refuse_divergence(history, unconstrained_names(sites))
        still = rise_finding(history, self.steps, problem_size(problem)[1])
        if still is not None:
            warnings.warn(f"VI is not done. {still}", stacklevel=2)
        info |= {"seconds": time.perf_counter() - started, "stopped": stopped}
        return self.approximation(problem, expectation, params, -history, info)

    def restore(
        self, problem: Problem, arrays: StoredArrays, info: Info
    ) -> VariationalApproximation:
        problem = self.pose(problem)
        expectation = self.expectation(problem, jax.random.key(0))
        params = with_prefix(arrays, "params/")
        init = expectation.init(jax.random.key(0), *problem.args, **problem.kwargs)
        shapes = {name: np.shape(value) for name, value in flatten_params(init).items()}
        stored = {name: np.shape(value) for name, value in params.items()}
        if shapes != stored:
            raise ProblemError(
                f"The fit has parameters {stored}, and this guide has {shapes}: give the guide "
                "that was fitted."
            )
        return self.approximation(problem, expectation, params, arrays["losses"], info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        losses = result.arrays()["losses"]
        still = rise_finding(-losses, self.steps, problem_size(problem)[1])
        return (*objective_findings(result.info, facts), *([] if still is None else [still]))

    def cure_of_width(self) -> str:
        return "look at the sign of the objective and at post.raw.losses, or fit with bdl.NUTS()"

    def expectation(
        self, problem: Problem, key: Key, start: SiteArrays | None = None
    ) -> Expectation:
        """Return the expectation of the objective for this problem and guide.

        Args:
            problem: the problem.
            key: the random key for where an autoguide starts, if no start is given.
            start: the values of the latent sites at which an autoguide starts.
        """
        if isinstance(self.guide, str):
            guide = ProgramDistribution(
                make_autoguide(self.guide, problem, key, self.rank, self.initial_scale, start)
            )
        else:
            guide = wrap_programs(as_distribution(self.guide), WholePlates)
        return Expectation(
            self.function,
            ProgramDistribution(problem.density_program),
            guide,
            dict(self.estimators or {}),
            self.num_particles,
        )

    def refuse_divergence(self, history: np.ndarray, free: list[str]) -> None:
        """Refuse an objective that is not finite at the end, or a bound that became worse.

        Args:
            history: the objective at each step.
            free: the names of the guide's parameters that may have any value.

        Raises:
            ProblemError: with the cure.
        """
        ends = max(2, len(history) // 20)
        first, last = history[:ends].mean(), history[-ends:].mean()
        noise = np.hypot(history[:ends].std(), history[-ends:].std()) / np.sqrt(ends)
        bound = _describe_objective(self.function).partition("(")[0] in BOUNDS
        if not np.isfinite(last) or (bound and last < first - 4 * noise):
            what = "ELBO" if self.function is OBJECTIVES["elbo"] else "objective"
            rate = f" (now {self.learning_rate})" if self.optimizer is None else ""
            scales = (
                f" If one of {free} is a scale or a probability, give its numpyro.param a "
                "constraint=."
            )
            raise ProblemError(
                f"VI diverged: the {what} went from {first:.4g} to {last:.4g} in {len(history)} "
                f"steps. Lower learning_rate{rate}, raise num_particles (now "
                f"{self.num_particles}), or use guide='mean-field'.{scales if free else ''}"
            )
        if bound:
            warn_of_fall(history, ends)

    def approximation(
        self,
        problem: Problem,
        expectation: Expectation,
        params: StoredArrays,
        losses: np.ndarray,
        info: Info,
    ) -> VariationalApproximation:
        """Return the result.

        Args:
            problem: the problem whose posterior is approximated.
            expectation: the expectation with the guide.
            params: the flat parameters of guide and model.
            losses: minus the objective at each step.
            info: facts about the run.
        """
        return VariationalApproximation(
            params,
            draw=functools.partial(_draw, problem, expectation),
            log_weight=functools.partial(_log_weight, problem, expectation),
            losses=losses,
            learned=model_params(problem, as_program_params(expectation, problem, params)),
            info=info,
        )


def _draw(problem: Problem, expectation: Expectation, key: Key, params: dict) -> SiteArrays:
    """Draw the program's latent and deterministic sites once from the guide."""
    once = dataclasses.replace(expectation, objective=lambda p, q: q.sim()[0])
    values = as_program_params(expectation, problem, params)
    z = once.run_once(key, values, problem.args, dict(problem.kwargs))
    seeded = handlers.seed(problem.density_program, key)
    program = handlers.substitute(WithParameters(seeded, model_params(problem, values)), data=z)
    trace = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
    return {
        name: jnp.asarray(site["value"])
        for name, site in trace.items()
        if site["type"] == "deterministic" or (site["type"] == "sample" and not site["is_observed"])
    }


def _log_weight(problem: Problem, expectation: Expectation, key: Key, params: dict) -> jax.Array:
    """Return log p(y, z) - log q(z) at one draw z ~ q."""
    once = dataclasses.replace(expectation, objective=elbo)
    values = as_program_params(expectation, problem, params)
    return once.run_once(key, values, problem.args, dict(problem.kwargs))


def _describe_objective(function: Callable) -> str:
    """Return an objective in words: its name and settings."""
    settings = ", ".join(f"{k}={v}" for k, v in getattr(function, "keywords", {}).items())
    name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)
    return f"{name}({settings})" if settings else name
