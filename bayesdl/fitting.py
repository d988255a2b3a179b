"""The front door: `fit(model, data, engine=..., seed=...)`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

from bayesdl.engines import ENGINES, UnsupportedError, check_supported, resolve_engine
from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.typing import EngineLike, Integer, ProgressLike, Schema
from inference.core.checkpoint import Checkpoint
from inference.core.engine import AbstractEngine
from inference.core.problem import Problem
from inference.core.progress import as_progress
from inference.settings import as_seed

log = logging.getLogger("bayesdl")


def fit(
    model: object,
    *data: object,
    engine: EngineLike = "auto",
    seed: Integer = 0,
    progress: ProgressLike = True,
    checkpoint: str | Path | None = None,
    every: Integer = 1000,
    double: bool = False,
    **named: object,
) -> Posterior:
    """Fit a model to data: p(z | y), with any engine that can run the model.

    Args:
        model: `BNN`, `GP`, or any NumPyro function.
        *data: X, shape (rows, columns) or a DataFrame, and y for models of tables; for a function
            its arguments.
        engine: an engine such as `NUTS()`, its name such as "nuts", or "auto", which says what it
            chose and why.
        seed: the seed of all randomness; the same seed gives the same posterior on the same
            machine.
        progress: whether to show a progress bar, or an `AbstractProgress` that shows it.
        checkpoint: a folder that keeps the run, for engines that draw samples and `SSVI`. Killed at
            any moment, the same call goes on where it was and ends with the same draws. A finished
            run is read from there, and its draws stay on disk.
        every: the number of draws (or steps) between two saved states of a checkpoint.
        double: whether a NumPyro function is computed in double precision, in the fit and in all
            that follows; needed for numbers that single precision would change, such as seconds
            since 1970.
        **named: keyword arguments of a NumPyro function, observations such as y=... included.

    Returns:
        The posterior.

    Raises:
        DataError: where the data cannot be used.
        UnsupportedError: where the engine cannot run the model; it names those that can.
        CheckpointError: where the checkpoint is of another run or cannot be written.

    Example:
        >>> import numpy as np
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> post = bdl.fit(bdl.GP(), X, np.sin(3 * X[:, 0]), engine=bdl.ExactGP(), progress=False)
        >>> post.predict(X).mean.shape
        (20,)
    """
    seed = as_seed(seed)
    spec = as_model(model).in_double() if double else as_model(model)
    with precision_scope(spec):
        schema = spec.learn_schema(*data, **named)
        problem = spec.problem(schema, *data, **named)
    chosen, reason = resolve_engine(engine, problem)
    if reason is not None:
        _announce(f"engine: {type(chosen).__name__}, because {reason}")
    problem = chosen.pose(problem)
    check_supported(chosen, problem)
    kept = {} if checkpoint is None else {"checkpoint": Checkpoint(Path(checkpoint), every)}
    if kept and not chosen.can_checkpoint:
        able = ", ".join(cls.__name__ for cls in ENGINES if cls.can_checkpoint)
        raise UnsupportedError(
            f"{type(chosen).__name__} cannot keep a checkpoint; leave it out, or use one of: "
            f"{able}."
        )
    return infer(spec, schema, problem, chosen, seed, progress, **kept)


def infer(
    model: AbstractModel,
    schema: Schema,
    problem: Problem,
    engine: AbstractEngine,
    seed: Integer,
    progress: ProgressLike,
    **kept: Any,
) -> Posterior:
    """Return the posterior of a problem, fitted with an engine that can run it.

    Args:
        model: the model.
        schema: what the model learned about the data.
        problem: the problem with the data.
        engine: the engine.
        seed: the seed of all randomness.
        progress: whether to show a progress bar, or what shows it.
        **kept: `checkpoint=` for engines that can keep one.
    """
    with precision_scope(model):
        result = engine.infer(
            problem, key=jax.random.key(seed), progress=as_progress(progress), **kept
        )
    return Posterior(model, schema, problem, engine, result, seed)


def _announce(message: str) -> None:
    """Say one line on stderr, through the logger "bayesdl" so that it can be silenced."""
    # where nobody has decided how loud bayesdl is
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
        if not logging.getLogger().handlers:
            log.addHandler(logging.StreamHandler())
    log.info(message)
