"""The front door: `fit(model, data, engine=..., seed=...)`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from bayesdl.model.names import learn_names
from bayesdl.model.precision import precision_scope
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from bayesdl.posterior.running import announce, run_engine
from bayesdl.typing import EngineLike, Integer, ProgressLike
from bayesdl.warnings import DataWarning
from inference.core.checkpoint import Checkpoint
from inference.settings import as_seed, is_positive


def fit(
    model: object,
    *data: object,
    engine: EngineLike = "auto",
    seed: Integer = 0,
    progress: ProgressLike = True,
    checkpoint: str | Path | None = None,
    every: Integer = 1000,
    double: bool = False,
    coords: object = None,
    dims: object = None,
    seconds: Any = None,
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
        coords: labels of the entries along dimensions, `{"subject": ["Ann", "Finn"]}`, by which
            `summary`, DataTrees and pictures name them. A plate is the dimension of its name.
        dims: names of the dimensions of sites that are not plates, `{"w": ["column"]}`. A
            function that has a parameter `coords`, `dims` or `seconds` is given these arguments
            instead.
        seconds: the time for the computation: after it, at the end of a block of steps, the
            posterior is what the engine has by then, with a warning, as it is on Ctrl-C.
        **named: keyword arguments of a NumPyro function, observations such as y=... included. A
            model of a table takes instead how the table is read:

            - `drop`: the names of columns to leave out, such as ids and free text.
            - `missing`: "indicator" (the default) reads a missing cell as the training median, or
              as none of the categories, with a column beside it that says where cells were
              missing; a cell missing later where no training row lacked one is the median or the
              most frequent category, with a warning. "median" reads every missing cell so, without
              that column or warning; "error" refuses missing cells.
            - `missing_target`: "error" (the default) refuses rows without a target; "drop" leaves
              them out.
            - `unseen`: "error" (the default) refuses categories that the training rows did not
              have; "other" reads them as none of the known ones.
            - `periods`: the periods of dates, of "year", "week" and "day"; dates are read as days
              since the first training date, and each period adds a sine and a cosine.
            - `weights`: how much each row counts, shape (rows,); a row whose weight is a whole
              number counts as so many rows.

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
    words: dict[str, Any] = {"coords": coords, "dims": dims, "seconds": seconds}
    # what a program has as arguments of its own is data
    own = {word: words.pop(word) for word in list(words) if spec.takes(word)}
    named |= {word: value for word, value in own.items() if value is not None}
    seconds = words.pop("seconds", None)
    if seconds is not None and not is_positive(seconds):
        raise ValueError(f"fit(seconds={seconds!r}): expected a positive number.")
    with precision_scope(spec):
        schema, problem = spec.learn(*data, **named)
        names = learn_names(problem, **words, by_model=spec.names(schema))
    for line in spec.remarks(problem):
        announce(line)
    notes = spec.notes(schema)
    if notes:
        announce(f"data: {'; '.join(notes)}")
    for concern in spec.concerns(schema):
        warnings.warn(concern, DataWarning, stacklevel=2)
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), every)
    run = run_engine(spec, problem, engine, seed, progress, kept, seconds and float(seconds))
    return Posterior(spec, schema, run.problem, run.engine, run.result, seed, names)
