"""The front door: `fit(model, data, engine=..., seed=...)`."""

from __future__ import annotations

from pathlib import Path

from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.posterior.running import run_engine
from bayesdl.typing import EngineLike, Integer, ProgressLike
from inference.core.checkpoint import Checkpoint
from inference.settings import as_seed


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
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), every)
    run = run_engine(spec, problem, engine, seed, progress, kept)
    return Posterior(spec, schema, run.problem, run.engine, run.result, seed)
