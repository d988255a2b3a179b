"""Running an engine on the problem of a model: the one way in which a posterior is computed."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import NamedTuple

import jax

from bayesdl.engines import ENGINES, UnsupportedError, check_supported, resolve_engine
from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.typing import EngineLike, Integer, ProgressLike
from bayesdl.warnings import TrustWarning
from inference.core.checkpoint import Checkpoint
from inference.core.engine import INFER_IT, AbstractEngine, describe_fixed, uninferred_params
from inference.core.problem import Problem
from inference.core.progress import TimeUp, Watched, as_progress
from inference.core.result import AbstractResult
from inference.process.memory import require_memory, size_of

log = logging.getLogger("bayesdl")


class Run(NamedTuple):
    """A run of an engine.

    Attributes:
        engine: the engine that was run.
        problem: the problem as the engine poses it.
        result: what it returned.
    """

    engine: AbstractEngine
    problem: Problem
    result: AbstractResult


def settle_engine(engine: EngineLike, problem: Problem) -> tuple[AbstractEngine, Problem]:
    """Return the engine that was asked for, and the problem as this engine poses it.

    For "auto" it chooses one, and says which and why.

    Raises:
        ValueError: for a name that no engine has.
        TypeError: for anything that is no engine.
        UnsupportedError: where the engine cannot run the problem; it names those that can.
    """
    require_memory(
        size_of(problem.unobserved.values()),
        f"A model with {len(problem.unobserved)} sites without data",
        "fit a smaller model",
    )
    chosen, reason = resolve_engine(engine, problem)
    if reason is not None:
        announce(f"engine: {type(chosen).__name__}, because {reason}")
    # it may have been posed for another engine
    posed = chosen.pose(problem.with_drawn_sites(()))
    check_supported(chosen, posed)
    return chosen, posed


def run_engine(
    model: AbstractModel,
    problem: Problem,
    engine: EngineLike,
    seed: Integer,
    progress: ProgressLike,
    checkpoint: Checkpoint | None = None,
    seconds: float | None = None,
) -> Run:
    """Run an engine on a problem.

    Args:
        model: the model.
        problem: the problem with the data.
        engine: the engine, its name, or "auto".
        seed: the seed of all randomness.
        progress: whether to show a progress bar, or what shows it.
        checkpoint: what keeps the run, for engines that can keep one.
        seconds: the time after which the run ends with what it has.

    Raises:
        TimeoutError: where the engine has nothing yet when its time is over.
        ValueError: for a name that no engine has.
        TypeError: for anything that is no engine.
        UnsupportedError: where the engine cannot run the problem, or cannot keep a checkpoint.
    """
    chosen, posed = settle_engine(engine, problem)
    if checkpoint is not None and not chosen.can_checkpoint:
        able = ", ".join(cls.__name__ for cls in ENGINES if cls.can_checkpoint)
        raise UnsupportedError(
            f"{type(chosen).__name__} cannot keep a checkpoint; leave it out, or use one of: "
            f"{able}."
        )
    for name, value in uninferred_params(posed).items():
        warnings.warn(f"{describe_fixed(name, value)}: {INFER_IT}.", TrustWarning, stacklevel=4)
    kept = {} if checkpoint is None else {"checkpoint": checkpoint}
    key, watched = jax.random.key(seed), Watched(as_progress(progress), seconds)
    try:
        with precision_scope(model):
            result = chosen.infer(posed, key=key, progress=watched, **kept)
    except TimeUp:
        raise TimeoutError(
            f"fit(seconds={seconds:g}): {type(chosen).__name__} has no answer after "
            f"{watched.done} of {watched.total} steps (warm-up gives none). Give it more time, or "
            "take fewer steps of warm-up."
        ) from None
    if watched.interrupted:
        result.info["interrupted"] = watched.interrupted
        warnings.warn(
            f"{type(chosen).__name__} was interrupted after {watched.interrupted}: the posterior "
            "is what it had by then.",
            TrustWarning,
            stacklevel=4,
        )
    return Run(chosen, posed, result)


def announce(message: str) -> None:
    """Say one line on stderr, through the logger "bayesdl" so that it can be silenced."""
    if log.level != logging.NOTSET:
        log.info(message)
        return
    # nobody has decided how loud bayesdl is: the line is said, and no logger is changed
    line = log.makeRecord(log.name, logging.INFO, __file__, 0, message, (), None, "announce")
    if log.hasHandlers() or log.disabled:
        log.handle(line)
    elif log.filter(line):
        print(message, file=sys.stderr)
