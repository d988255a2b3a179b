"""Variational inference: the guide q(z; phi) that maximises the expectation of an objective, by default the ELBO

    E_q[log p(y, z) - log q(z)] = log p(y) - KL(q || p(. | y)) <= log p(y).

Objectives are functions, guides are NumPyro programs, gradient estimators belong to sample sites; see `expectation.py`.
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
import numpyro.distributions as dist
from numpyro import handlers

from inference.core.engine import (
    ANYTHING,
    AbstractEngine,
    Preference,
    check_choice,
    check_positive,
    check_positive_integers,
    needs_gradients,
    problem_size,
)
from inference.core.keys import named_key
from inference.core.problem import Problem, ProblemError
from inference.core.program import Program, Subsampled, WholePlates, WithParameters
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import Approximation
from inference.vi.constructs import Marginal
from inference.vi.distributions import (
    AbstractProgramDistribution,
    ProgramDistribution,
    as_distribution,
)
from inference.vi.gradients.expectation import Expectation
from inference.vi.guides import GUIDES, laplace_parameters, make_autoguide
from inference.vi.objectives import OBJECTIVES, elbo
from inference.vi.space import Space
from inference.vi.validation import refuse_classes, refuse_other_arguments, refuse_other_supports

BLOCKS = 50
STARTS = 100  # draws for the ELBO before the first step, against which that of other objectives' fits is held
AVERAGE_RATE = 0.1  # of the moving averages that are baselines
LINEAR = (
    "elbo",
    "tempered_elbo",
)  # in the log likelihood of the data, so that batches leave their mean alone
BOUNDS = (
    "elbo",
    "iwelbo",
    "dreg",
    "renyi",
    "thermodynamic",
)  # a smaller value at the end means divergence


@dataclasses.dataclass(frozen=True)
class VI(AbstractEngine):
    """Variational inference (Kucukelbir et al. 2017, arXiv:1603.00788; Becker et al. 2024).

    Attributes:
        guide: "mean-field", "low-rank", "full-rank", "flow" or "laplace"; or a NumPyro program, called with the data, that
            draws the latent sites; or a `bayesdl.vi.marginal` of one.
        objective: to be maximised: the name of one in `bayesdl.vi`, or a function of (p, q).
        steps: optimiser steps.
        optimizer: an optax optimiser, or None for Adam.
        learning_rate: Adam's at the start; it decays to zero along a cosine. Not used where an optimizer is given.
        num_particles: independent estimates of the objective per step.
        batch_size: rows per step, or None for all of them; the program needs a plate over its data, and the objective must be
            linear in their log likelihood.
        estimators: gradient estimators by site name; see `bayesdl.vi`.
        patience: stops when the objective, averaged over a fiftieth of the steps, has had no new best for so many steps;
            None never stops early.
        rank: of the low-rank guide, or None for the square root of the dimension.
        initial_scale: standard deviation of q at the start, of normal guides.

    Example:
        >>> VI(guide="full-rank").steps
        10000
    """

    guide: Any = "mean-field"
    objective: Any = "elbo"
    steps: int = 10_000
    optimizer: Any = None
    learning_rate: float = 0.01
    num_particles: int = 1
    batch_size: int | None = None
    estimators: Any = None
    patience: int | None = None
    rank: int | None = None
    initial_scale: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.guide, AbstractProgramDistribution) and not isinstance(
            self.guide, ProgramDistribution | Marginal
        ):
            raise ValueError(
                f"VI(guide={type(self.guide).__name__}): expected a program, or a marginal of one."
            )
        if not callable(self.guide) and not isinstance(self.guide, AbstractProgramDistribution):
            check_choice(self, "guide", tuple(GUIDES))
        if not callable(self.objective):
            check_choice(self, "objective", tuple(OBJECTIVES))
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"VI(optimizer={self.optimizer!r}): expected an optax optimiser such as optax.adam(1e-2)."
            )
        estimators = {} if self.estimators is None else self.estimators
        if not isinstance(estimators, Mapping):
            raise ValueError(
                f"VI(estimators={self.estimators!r}): expected estimators by site name, e.g. {{'z': vi.MVD()}}."
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
        """Refuses objectives that early stopping or minibatches would make another thing of.

        Raises:
            ValueError: naming both settings.
        """
        scheduled = any(
            callable(value) for value in getattr(self.function, "keywords", {}).values()
        )
        if self.patience is not None and scheduled:
            raise ValueError(
                "VI(patience=...): an objective with a schedule changes by itself; leave patience out."
            )
        name = named_objective(self.function).partition("(")[0]
        if self.batch_size is not None and name not in OBJECTIVES:
            warnings.warn(
                f"VI(batch_size={self.batch_size}) is right only if the objective '{name}' is linear in the log likelihood, as "
                "the ELBO is.",
                stacklevel=4,
            )
        if self.batch_size is not None and name in OBJECTIVES and name not in LINEAR:
            raise ValueError(
                f"VI(objective={name}, batch_size={self.batch_size}): its mean over batches is another objective; use all "
                "rows, or elbo."
            )

    def supports(self, problem: Problem) -> str | None:
        if not isinstance(self.guide, str):
            return None if problem.latents else "the program has no latent site to infer"
        size = sum(int(np.prod(shape)) for shape in problem.latents.values())
        if self.guide == "flow" and size == 1:
            return "an autoregressive flow needs two latent dimensions; use guide='full-rank'"
        return needs_gradients(problem)

    @property
    def function(self) -> Callable:
        """The objective as a function of (p, q)."""
        return OBJECTIVES[self.objective] if isinstance(self.objective, str) else self.objective

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> Approximation:
        started = time.perf_counter()
        if isinstance(self.guide, ProgramDistribution | Marginal) or not isinstance(
            self.guide, str
        ):
            refuse_other_arguments(
                "guide", getattr(self.guide, "program", self.guide), problem.args, problem.kwargs
            )
        expectation = self.expectation(problem, named_key(key, "start"))
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
        info: dict[str, Any] = {"objective": named_objective(self.function)}
        if self.function not in OBJECTIVES.values():
            start = self.approximation(problem, expectation, flattened(values), np.zeros(0), {})
            info["elbo_at_start"] = float(
                np.mean(start.log_weights(named_key(key, "elbo"), STARTS))
            )
        params, history, stopped = self.optimise(
            problem, expectation, Space(sites), values, key, progress
        )
        self.refuse_divergence(history, unconstrained_names(sites))
        info |= {"seconds": time.perf_counter() - started, "stopped": stopped}
        return self.approximation(problem, expectation, params, -history, info)

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Approximation:
        expectation = self.expectation(problem, jax.random.key(0))
        params = {
            k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")
        }
        init = expectation.init(jax.random.key(0), *problem.args, **problem.kwargs)
        shapes = {name: np.shape(value) for name, value in flattened(init).items()}
        stored = {name: np.shape(value) for name, value in params.items()}
        if shapes != stored:
            raise ProblemError(
                f"The fit has parameters {stored}, and this guide has {shapes}: give the guide that was fitted."
            )
        return self.approximation(problem, expectation, params, arrays["losses"], info)

    def expectation(self, problem: Problem, key: jax.Array) -> Expectation:
        """Of the objective, for this problem and guide."""
        if isinstance(self.guide, str):
            guide = ProgramDistribution(
                make_autoguide(self.guide, problem, key, self.rank, self.initial_scale)
            )
        else:
            guide = wrapped(as_distribution(self.guide), WholePlates)
        return Expectation(
            self.function,
            ProgramDistribution(problem.program),
            guide,
            dict(self.estimators or {}),
            self.num_particles,
        )

    def optimise(
        self,
        problem: Problem,
        expectation: Expectation,
        space: Space,
        values: dict,
        key: jax.Array,
        progress: AbstractProgress,
    ) -> tuple[dict, np.ndarray, int]:
        """The optimiser in compiled blocks of steps; gives parameters, the objective along the way, and the steps made."""
        import optax

        optimizer = optimizer_of(self, values)
        data = (problem.args, dict(problem.kwargs))
        rows = batches(problem, self.batch_size)
        size = -(-self.steps // BLOCKS)

        def loss(u: Any, i: jax.Array, key: jax.Array) -> jax.Array:
            seen = rows(expectation, named_key(key, "rows"))
            return -seen.at_step(i, named_key(key, "draws"), space.constrain(u), *data)

        def step(j: jax.Array, carry: tuple) -> tuple:
            u, state, first, values = carry
            i = first + j
            value, gradient = jax.value_and_grad(loss)(
                u, i, jax.random.fold_in(named_key(key, "steps"), i)
            )
            updates, state = optimizer.update(gradient, state, u)
            return optax.apply_updates(u, updates), state, first, values.at[j].set(-value)

        @jax.jit
        def block(u: Any, state: Any, first: jax.Array, count: jax.Array) -> tuple:
            return jax.lax.fori_loop(0, count, step, (u, state, first, jnp.zeros(size)))

        u = space.unconstrain(values)
        state, history, best, made = optimizer.init(u), [], (-np.inf, 0), 0
        progress.start(self.steps, "VI")
        try:
            for done in range(0, self.steps, size):
                count = min(size, self.steps - done)
                u, state, _, found = block(u, state, jnp.asarray(done), jnp.asarray(count))
                history.append(np.asarray(found)[:count])
                mean, made = float(history[-1].mean()), done + count
                progress.advance(count, objective=f"{mean:.4g}")
                best = max(best, (mean, made))
                if self.patience is not None and made - best[1] >= self.patience:
                    break
        finally:
            progress.close()
        return flattened(space.constrain(u)), np.concatenate(history), made

    def refuse_divergence(self, history: np.ndarray, free: list[str]) -> None:
        """Refuses an objective that is not finite at the end, or a bound that became worse.

        Args:
            history: the objective at each step.
            free: names of the guide's parameters that may have any value.

        Raises:
            ProblemError: with the cure.
        """
        ends = max(2, len(history) // 20)
        first, last = history[:ends].mean(), history[-ends:].mean()
        noise = np.hypot(history[:ends].std(), history[-ends:].std()) / np.sqrt(ends)
        bound = named_objective(self.function).partition("(")[0] in BOUNDS
        if not np.isfinite(last) or (bound and last < first - 4 * noise):
            what = "ELBO" if self.function is OBJECTIVES["elbo"] else "objective"
            rate = f" (now {self.learning_rate})" if self.optimizer is None else ""
            scales = (
                f" If one of {free} is a scale or a probability, give its numpyro.param a constraint=."
                if free
                else ""
            )
            raise ProblemError(
                f"VI diverged: the {what} went from {first:.4g} to {last:.4g} in {len(history)} steps. Lower learning_rate"
                f"{rate}, raise num_particles (now {self.num_particles}), or use guide='mean-field'.{scales}"
            )
        if bound:
            warn_of_fall(history, ends)

    def approximation(
        self,
        problem: Problem,
        expectation: Expectation,
        params: dict,
        losses: np.ndarray,
        info: dict,
    ) -> Approximation:
        return Approximation(
            params,
            draw=functools.partial(draw, problem, expectation),
            log_weight=functools.partial(log_weight, problem, expectation),
            losses=losses,
            learned=learned(problem, structured(expectation, problem, params)),
            info=info,
        )


def warn_of_fall(history: np.ndarray, length: int) -> None:
    """Warns of a bound that was better than it is at the end, by means over so many steps."""
    windows = history[: len(history) // length * length].reshape(-1, length)
    best, last = windows[windows.mean(1).argmax()], history[-length:]
    if best.mean() - last.mean() > 4 * np.hypot(best.std(), last.std()) / np.sqrt(length):
        warnings.warn(
            f"VI: the objective fell from {best.mean():.4g} to {last.mean():.4g} at the end: lower learning_rate, or stop "
            "early with patience.",
            stacklevel=4,
        )


def unconstrained_names(sites: Mapping[str, dict]) -> list[str]:
    """The parameters of programs of one's own that may have any value."""
    real = dist.constraints.real
    names = [name for name, site in sites.items() if site["kwargs"].get("constraint", real) is real]
    return [name for name in names if not name.startswith(("auto_", "baseline/"))]


def learned(problem: Problem, params: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own parameters, which its predictions need."""
    return {name: params[name] for name, site in problem.trace.items() if site["type"] == "param"}


def optimizer_of(engine: VI, values: Mapping[str, Any]) -> Any:
    """Of the parameters; moving averages that are baselines have their own."""
    import optax

    main = engine.optimizer
    if main is None:
        main = optax.adam(optax.cosine_decay_schedule(engine.learning_rate, engine.steps))
    labels = {name: "average" if name.startswith("baseline/") else "main" for name in values}
    if "average" not in labels.values():
        return main
    return optax.partition({"main": main, "average": optax.sgd(AVERAGE_RATE)}, labels)


def batches(
    problem: Problem, batch_size: int | None
) -> Callable[[Expectation, jax.Array], Expectation]:
    """Maps an expectation and a key to the expectation on random rows, the same ones for model and guide.

    Raises:
        ProblemError: where the program has not one plate over its data, or does not take its rows by it.
    """
    if batch_size is None:
        return lambda expectation, key: expectation
    problem.minibatch(batch_size)
    name, total = problem.data_plate

    def seen(expectation: Expectation, key: jax.Array) -> Expectation:
        rows = jax.random.randint(key, (batch_size,), 0, total)

        def on_rows(program: Program) -> Program:
            return Subsampled(program, name, batch_size, rows)

        return dataclasses.replace(
            expectation, p=wrapped(expectation.p, on_rows), q=wrapped(expectation.q, on_rows)
        )

    return seen if batch_size < total else lambda expectation, key: expectation


def wrapped(handle: Any, wrap: Callable[[Program], Program]) -> Any:
    """A handle with its programs wrapped."""
    if isinstance(handle, Marginal) and handle.reverse is not None:
        return dataclasses.replace(
            handle, program=wrap(handle.program), reverse=wrap(handle.reverse)
        )
    return dataclasses.replace(handle, program=wrap(handle.program))


def flattened(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parameters as arrays by name; the leaves of nested ones have numbered names."""
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        leaves = jax.tree.leaves(value)
        single = len(leaves) == 1 and leaves[0] is value
        flat |= {
            name if single else f"{name}#{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)
        }
    return flat


def nested(flat: Mapping[str, Any], sites: Mapping[str, dict]) -> dict[str, Any]:
    """The inverse of `flattened`, given the sites that tell the structure."""
    params: dict[str, Any] = {}
    for name, site in sites.items():
        if name in flat:
            params[name] = flat[name]
        else:
            structure = jax.tree.structure(site["value"])
            params[name] = jax.tree.unflatten(
                structure, [flat[f"{name}#{i}"] for i in range(structure.num_leaves)]
            )
    return params


def structured(
    expectation: Expectation, problem: Problem, flat: Mapping[str, Any]
) -> dict[str, Any]:
    """Parameters as the programs take them."""
    if not any("#" in name for name in flat):
        return dict(flat)
    return nested(flat, expectation.sites(jax.random.key(0), *problem.args, **problem.kwargs))


def draw(
    problem: Problem, expectation: Expectation, key: jax.Array, params: dict
) -> dict[str, jax.Array]:
    """One draw of the program's latent and deterministic sites from the guide."""
    once = dataclasses.replace(expectation, objective=lambda p, q: q.sim()[0])
    values = structured(expectation, problem, params)
    z = once.run_once(key, values, problem.args, dict(problem.kwargs))
    program = handlers.substitute(
        WithParameters(handlers.seed(problem.program, key), learned(problem, values)), data=z
    )
    trace = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
    return {
        name: jnp.asarray(site["value"])
        for name, site in trace.items()
        if site["type"] == "deterministic" or (site["type"] == "sample" and not site["is_observed"])
    }


def log_weight(
    problem: Problem, expectation: Expectation, key: jax.Array, params: dict
) -> jax.Array:
    """Log p(y, z) - log q(z) at one draw z ~ q."""
    once = dataclasses.replace(expectation, objective=elbo)
    return once.run_once(
        key, structured(expectation, problem, params), problem.args, dict(problem.kwargs)
    )


def named_objective(function: Any) -> str:
    """An objective in words: its name and settings."""
    settings = ", ".join(f"{k}={v}" for k, v in getattr(function, "keywords", {}).items())
    name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)
    return f"{name}({settings})" if settings else name
