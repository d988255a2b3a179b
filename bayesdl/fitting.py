"""The front door: `fit(model, data, engine=..., seed=...)`."""

from __future__ import annotations

import logging
from typing import Any

import jax

from bayesdl.engines import choose, require
from bayesdl.model import as_model
from bayesdl.posterior import Posterior
from bayesdl.precision import precision_of
from inference.engine import AbstractEngine
from inference.progress import AbstractProgress, Bar, Silent

log = logging.getLogger("bayesdl")


def fit(
    model: Any,
    *data: Any,
    engine: Any = "auto",
    seed: int = 0,
    progress: Any = True,
    **named: Any,
) -> Posterior:
    """Fits a model to data: p(z | y), by any engine that can run the model.

    Args:
        model: `BNN`, `GP`, or any NumPyro function.
        *data: for `BNN` and `GP` X, shape (rows, columns) or a DataFrame, and y; for a function its arguments.
        engine: an engine such as `NUTS()`, or "auto", which says what it chose and why.
        seed: of all randomness; the same seed gives the same posterior on the same machine.
        progress: whether to show a progress bar, or an `AbstractProgress` that shows it.
        **named: keyword arguments of a NumPyro function, observations such as y=... included.

    Returns:
        The posterior.

    Raises:
        DataError: where the data cannot be used.
        UnsupportedError: where the engine cannot run the model; it names those that can.

    Example:
        >>> import numpy as np
        >>> import bayesdl as bdl
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> post = bdl.fit(bdl.GP(), X, np.sin(3 * X[:, 0]), engine=bdl.ExactGP(), progress=False)
        >>> post.predict(X).mean.shape
        (20,)
    """
    spec = as_model(model)
    frame = spec.frame(*data, **named)
    problem = spec.problem(frame, *data, **named)
    if isinstance(engine, str):
        if engine != "auto":
            raise ValueError(f"engine={engine!r}: expected an engine such as bdl.NUTS(), or 'auto'.")
        engine, reason = choose(problem)
        tell(f"engine: {type(engine).__name__}, because {reason}")
    if not isinstance(engine, AbstractEngine):
        raise TypeError(f"engine={engine!r}: expected an engine such as bdl.NUTS(), or 'auto'.")
    require(engine, problem)
    if not isinstance(progress, AbstractProgress):
        progress = Bar() if progress else Silent()
    with precision_of(spec):
        result = engine.infer(problem, key=jax.random.key(seed), progress=progress)
    return Posterior(spec, frame, problem, engine, result, seed)


def tell(message: str) -> None:
    """Says one line on stderr, through the logger "bayesdl" so that it can be silenced."""
    if log.level == logging.NOTSET:  # nobody has decided how loud bayesdl is
        log.setLevel(logging.INFO)
        if not logging.getLogger().handlers:
            log.addHandler(logging.StreamHandler())
    log.info(message)
