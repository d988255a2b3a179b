"""What every engine is: frozen settings and one method, `infer`."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.infer.initialization import init_to_sample

from inference.core.enumeration.check import why_not_listed, why_not_summed
from inference.core.findings import Finding
from inference.core.problem import Problem
from inference.core.program import WithParameters, unwrap
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractResult, Draws
from inference.core.typing import StoredArrays
from inference.settings import AbstractSettings, is_whole

K = TypeVar("K")


class UnsupportedError(ValueError):
    """An engine was asked to run a problem that it cannot run."""


def require(value: object, kind: type[K], message: str) -> K:
    """Return a value that must be of a kind, with its type known.

    Args:
        value: what a user or the shared code gave.
        kind: the class that is needed.
        message: the error otherwise: what was got, what is needed, and the cure.

    Raises:
        UnsupportedError: with the message.
    """
    if not isinstance(value, kind):
        raise UnsupportedError(message)
    return value


def require_draws(result: AbstractResult) -> Draws:
    """Return a result that must be draws, as those of samplers are.

    Raises:
        UnsupportedError: for another result.
    """
    got = type(result).__name__
    return require(result, Draws, f"A sampler is asked about a result of kind {got}: give Draws.")


# Ranks of what engines offer themselves for; "auto" takes the smallest.
CLOSED_FORM, MADE_FOR_IT, SAMPLING, ANYTHING = 0, 10, 20, 30


@dataclasses.dataclass(frozen=True)
class Preference:
    """What an engine offers for a problem when no engine was named.

    Attributes:
        engine: the engine with the settings that suit the problem.
        reason: why it suits, as the end of a sentence that begins with "because".
        rank: the smallest rank wins, and between equal ones the engine that was registered first.
            `CLOSED_FORM`, `MADE_FOR_IT`, `SAMPLING` and `ANYTHING` are the usual ranks.
    """

    engine: AbstractEngine
    reason: str
    rank: int


@dataclasses.dataclass(frozen=True)
class AbstractEngine(AbstractSettings, abc.ABC):
    """An algorithm with its settings: a frozen dataclass of plain data, ready for JSON.

    Attributes:
        can_checkpoint: whether `infer` also takes `checkpoint=`, a `Checkpoint` that lets an
            interrupted run go on. False by default.
        cli_name: the engine's name on the command line; by default that of the class in lower case.
    """

    can_checkpoint: ClassVar[bool] = False
    cli_name: ClassVar[str] = ""

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        """Return what this engine offers for a problem when no engine is named, or None."""
        return None

    @classmethod
    def example(cls) -> AbstractEngine:
        """Return the engine with settings that run in a second or two, for trials and tests."""
        return cls()

    @abc.abstractmethod
    def supports(self, problem: Problem) -> str | None:
        """Return None if this engine can run the problem, otherwise the reason as a sentence."""

    @abc.abstractmethod
    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> AbstractResult:
        """Run the algorithm; the same key gives the same result.

        Args:
            problem: the problem, which the engine supports.
            key: the key of all randomness.
            progress: what shows how far the run is.
        """

    @abc.abstractmethod
    def restore(self, problem: Problem, arrays: dict, info: dict) -> AbstractResult:
        """Rebuild a result of this engine.

        Args:
            problem: the problem that was posed.
            arrays: what the result's `arrays()` gave.
            info: what its `info` was.
        """

    def pose(self, problem: Problem) -> Problem:
        """Return the problem as this engine solves it: with the discrete sites that it draws.

        By default there are none, and all discrete latent sites are summed out. Parameters
        (`numpyro.param`) stay at their initial values.
        """
        return fix_params(problem)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        """Return the numbers behind a diagnosis of a result of this engine, by name."""
        return {}

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        """Say what users should know about a result of this engine, with cures in its settings.

        Args:
            problem: the problem that was posed.
            result: the result, whose statistics and `info` this engine wrote.
            facts: the numbers of `diagnostics`, and those that the check computed (R-hat, the ELBO,
                ...).
        """
        return ()

    def left_out(self, problem: Problem, result: AbstractResult) -> np.ndarray | None:
        """Return log p(y_i | y_-i) of each row in closed form, shape (rows,).

        The parameters that the engine searched for stay what they are. None where the engine has
        no such formula for this result.

        Args:
            problem: the problem that was posed.
            result: the result.
        """
        return None

    def cure_of_width(self) -> str:
        """Say what to do about an approximation that is much wider than the posterior."""
        return "fit with bdl.NUTS()"

    def extend(
        self,
        problem: Problem,
        result: AbstractResult,
        num_samples: int,
        progress: AbstractProgress = Silent(),
    ) -> AbstractResult:
        """Return a result with more draws: its chains go on where they were.

        Args:
            problem: the problem that was posed.
            result: the result, which this engine made.
            num_samples: the number of further draws of each chain.
            progress: what shows how far the run is.

        Raises:
            UnsupportedError: for an engine without chains, or draws that hold no state.
        """
        raise UnsupportedError(
            f"{type(self).__name__} has no chains to continue; fit again with other settings."
        )

    def for_many(self) -> AbstractEngine:
        """Return the engine as `infer_many` runs it, whose `supports` says whether it can.

        Raises:
            UnsupportedError: for an engine without chains.
        """
        raise UnsupportedError(
            "sbc, which has many data sets side by side, needs an engine of Markov chains such as "
            f"bdl.NUTS(), got {type(self).__name__}."
        )

    def infer_many(
        self,
        problem: Problem,
        observed: Mapping[str, ArrayLike],
        *,
        key: jax.Array,
        progress: AbstractProgress = Silent(),
    ) -> tuple[StoredArrays, np.ndarray]:
        """Draw from the posterior given each of many data sets, one chain for each.

        Args:
            problem: the program and everything but the observed values.
            observed: the values of the observed sites, with a leading axis over data sets.
            key: the random key for all chains.
            progress: what shows how far the run is.

        Returns:
            The draws of all sites, shape (data set, draw, *site shape), and whether each draw
            diverged, shape (data set, draw).

        Raises:
            UnsupportedError: for an engine without chains.
        """
        self.for_many()
        raise NotImplementedError(f"{type(self).__name__} gives `for_many` and no `infer_many`.")

    def step_size_of(self, result: AbstractResult) -> float:
        """Return the step size that biases the answer, as the run used it.

        Raises:
            UnsupportedError: for an engine whose step size has no bias or is not its own to set.
        """
        raise UnsupportedError(
            f"{type(self).__name__} has no step size to halve that biases its answer; step halving "
            "is for SGLD, SGHMC and the like."
        )

    def with_half_step(self, result: AbstractResult) -> AbstractEngine:
        """Return the engine with half of `step_size_of`, and twice the steps per draw.

        Raises:
            UnsupportedError: as `step_size_of` does.
        """
        self.step_size_of(result)
        return self

    def as_data(self) -> dict[str, Any]:
        """Return name and settings as JSON data."""
        return {"name": type(self).__name__, **dataclasses.asdict(self)}


def problem_size(problem: Problem) -> tuple[int, int]:
    """Return the number of observed rows, and that of latent dimensions."""
    rows = max((shape[0] for shape in problem.data_shapes if shape), default=0)
    return rows, sum(math.prod(shape) for shape in problem.latents.values())


def fix_params(problem: Problem) -> Problem:
    """Return the problem with its `numpyro.param` sites at their initial values."""
    names = [name for name, site in problem.trace.items() if site["type"] == "param"]
    if not names or fixed_params(problem) or mutable_state(problem):
        return problem
    seeded = handlers.seed(problem.program, jax.random.key(0))
    program = handlers.substitute(seeded, substitute_fn=init_to_sample)
    sites = handlers.trace(program).get_trace(*problem.args, **problem.kwargs)
    values = {name: sites[name]["value"] for name in names}
    fixed = WithParameters(unwrap(problem.program), values)
    return dataclasses.replace(problem, program=fixed)


def free_params(problem: Problem) -> Problem:
    """Return the problem as it was before `fix_params`."""
    if not fixed_params(problem):
        return problem
    return dataclasses.replace(problem, program=unwrap(problem.program).fn)


def fixed_params(problem: Problem) -> dict[str, Any]:
    """Return the `numpyro.param` sites that are not inferred, with their values."""
    program = unwrap(problem.program)
    return dict(program.params) if isinstance(program, WithParameters) else {}


INFER_IT = "give it a prior (numpyro.sample), or fit with bdl.VI(), which learns it"


def describe_fixed(name: str, value: object) -> str:
    """Say that a parameter is not inferred."""
    leaves = jax.tree.leaves(value)
    alone = len(leaves) == 1 and np.size(leaves[0]) == 1
    number = f"{np.asarray(leaves[0]).item():.4g}" if alone else "its start"
    return f"Parameter '{name}' is not inferred by this engine and stays at {number}"


def uninferred_params(problem: Problem) -> dict[str, Any]:
    """Return `fixed_params` without the networks whose weights are latent sites.

    NumPyro's `random_flax_module("net", ...)` makes the sites "net/..." of the parameter
    "net$params".
    """
    return {
        name: value
        for name, value in fixed_params(problem).items()
        if not any(site.startswith(f"{name.removesuffix('$params')}/") for site in problem.latents)
    }


def mutable_state(problem: Problem) -> str | None:
    """The reason why a program with state that changes as it runs cannot be fitted, or None."""
    for name, site in problem.trace.items():
        if site["type"] == "mutable":
            return (
                f"site '{name}' is mutable state, as of batch normalisation, which is not "
                "supported; use a module without (layer normalisation, mutable=None)"
            )
    return None


def needs_gradients(problem: Problem) -> str | None:
    """Return the reason why an engine that needs gradients cannot run this problem, or None."""
    if problem.drawn:
        return f"it cannot draw the discrete latent site '{min(problem.drawn)}'"
    if not problem.unobserved:
        return "the program has no latent site to infer"
    if not problem.latents:
        return why_not_listed(problem) or (
            "the program has no latent site but discrete ones: draw them with bdl.Gibbs()"
        )
    return mutable_state(problem) or why_not_summed(problem)


def check_positive_integers(engine: AbstractEngine, *names: str, optional: bool = False) -> None:
    """Refuse settings that are not positive whole numbers (None too, where optional).

    Raises:
        ValueError: naming the engine, the setting and what was got.
    """
    for name in names:
        value = getattr(engine, name)
        if value is None and optional:
            continue
        if not is_whole(value):
            raise ValueError(
                f"{type(engine).__name__}({name}={value!r}): expected a whole number of at least 1."
            )


def check_choice(engine: AbstractEngine, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a setting that is not one of the allowed words.

    Raises:
        ValueError: listing the allowed words.
    """
    value = getattr(engine, name)
    if value not in allowed:
        raise ValueError(
            f"{type(engine).__name__}({name}={value!r}): expected one of "
            f"{', '.join(map(repr, allowed))}."
        )
