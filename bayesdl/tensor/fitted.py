"""Functions of a posterior that only functional tensors have: modes, and new entries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from bayesdl.data.cells import finite_numbers, refuse_dates
from bayesdl.data.validation import DataError, rectangular
from bayesdl.posterior.adjustment import changed
from bayesdl.posterior.pictures import draw
from bayesdl.posterior.posterior import Posterior
from bayesdl.tensor.spec import FunBaT
from bayesdl.typing import AxesLike, ColumnLike, TableLike
from inference.core.engine import require
from inference.core.result import Predictor
from inference.messages.engine import MessagePassing
from inference.messages.predictive import TensorPredictive, params_of_mode, predict_mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LatentFunctions:
    """Functions of one index, in units of the standardised target once they are multiplied.

    Attributes:
        name: the name of the mode.
        x: the indexes, shape (n,).
        mean: the means of the functions, shape (n, rank).
        covariance: the covariance of the functions at each index, shape (n, rank, rank).
    """

    name: str
    x: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """The standard deviations, shape (n, rank)."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance, axis1=1, axis2=2), 0.0))

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Return central intervals of probability `level`, two arrays of shape (n, rank)."""
        if not 0 < level < 1:
            raise ValueError(f"interval(level={level!r}): expected a probability between 0 and 1.")
        width = ndtri(0.5 + level / 2) * self.std
        return self.mean - width, self.mean + width

    def __repr__(self) -> str:
        return (
            f"LatentFunctions(mode={self.name!r}, indexes={len(self.x)}, rank={self.mean.shape[1]})"
        )

    def plot(self, ax: AxesLike = None) -> Axes:
        """Plot the functions with their 90 % bands; see `bayesdl.plots.functions`."""
        return draw("functions", self, ax)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedMode:
    """One mode of a fitted functional tensor.

    Attributes:
        post: the posterior.
        number: the number of the mode.
    """

    post: Posterior
    number: int

    def predict(self, x: ColumnLike | None = None) -> LatentFunctions:
        """Return the functions at indexes x, shape (n,), in any order.

        By default they are the indexes of the training data. Signs and sizes of the functions of
        different modes are not identified; their products are.
        """
        raw = _result(self.post)
        predictive = _tensor_predictive(self.post)
        x = predictive.positions[self.number] if x is None else self.read(x)
        params = params_of_mode(raw.params, self.number)
        with jax.enable_x64(True):
            found = predict_mode(
                predictive.smoothness[self.number],
                {name: jnp.asarray(value) for name, value in params.items()},
                jnp.asarray(predictive.positions[self.number]),
                jnp.asarray(x),
            )
        return LatentFunctions(self.name, np.asarray(x), *map(np.asarray, found))

    def read(self, x: ColumnLike) -> np.ndarray:
        """Return indexes as finite numbers, shape (n,).

        Raises:
            DataError: if x is no such array; the message names the mode.
        """
        refuse_dates(self.name, x)
        x = np.atleast_1d(rectangular(f"x of mode('{self.name}')", x))
        if x.ndim > 1:
            raise DataError(
                f"mode({self.name!r}).predict(x) takes indexes of shape (n,): got shape {x.shape}."
            )
        return finite_numbers(self.name, x)

    @property
    def name(self) -> str:
        """The name of the mode."""
        return _functional_tensor(self.post).modes[self.number].name

    def __repr__(self) -> str:
        predictive = _tensor_predictive(self.post)
        rank = _functional_tensor(self.post).modes[self.number].rank
        indexes = len(predictive.positions[self.number])
        return f"FittedMode(mode={self.name!r}, indexes={indexes}, rank={rank})"


def _result(post: Posterior) -> Predictor:
    """Return the result of a fit with message passing.

    Raises:
        UnsupportedError: for other models and engines.
    """
    raw = require(post.raw, Predictor, _another(post))
    require(raw.predict, TensorPredictive, _another(post))
    return raw


def _tensor_predictive(post: Posterior) -> TensorPredictive:
    """Return the predictive distribution of a fit with message passing."""
    return require(_result(post).predict, TensorPredictive, _another(post))


def _functional_tensor(post: Posterior) -> FunBaT:
    """Return the model of the posterior."""
    return require(post.model, FunBaT, _another(post))


def _another(post: Posterior) -> str:
    """Return the error for what is no fit of a functional tensor with message passing."""
    return (
        f"{type(post.model).__name__} with {type(post.engine).__name__} has no functions of modes: "
        "fit bdl.FunBaT with engine=bdl.MessagePassing()."
    )


def mode(post: Posterior, name: str) -> FittedMode:
    """Return the functions of one index of a fit with message passing.

    Args:
        post: the posterior, of `bdl.FunBaT` with `bdl.MessagePassing()`.
        name: the name of the index.

    Raises:
        UnsupportedError: for other models and engines.
        DataError: for a name that is no index of the model.
    """
    _result(post)
    names = [mode.name for mode in _functional_tensor(post).modes]
    if name not in names:
        raise DataError(f"mode({name!r}): expected one of {', '.join(map(repr, names))}.")
    return FittedMode(post, names.index(name))


def modes(post: Posterior) -> dict[str, FittedMode]:
    """Return the functions of every index by name; see `mode`."""
    _result(post)
    names = [mode.name for mode in _functional_tensor(post).modes]
    return {name: FittedMode(post, number) for number, name in enumerate(names)}


def update(post: Posterior, X: TableLike, y: ColumnLike) -> Posterior:
    """Return the posterior with more entries, without going through the old ones again.

    What the old entries said of each function stays, what the new ones say is added: new days
    continue the filter. Hyperparameters and noise stay as they are, so fit again when much has
    come in.

    Args:
        post: the posterior, of `bdl.FunBaT` with `bdl.MessagePassing()`.
        X: the indexes of the new entries, as in `fit`; they may be new.
        y: the targets.

    Raises:
        UnsupportedError: for other models and engines.
    """
    raw, model = _result(post), _functional_tensor(post)
    engine = require(post.engine, MessagePassing, _another(post))
    X, y = model.known_entries(X, y)
    new = post.schema.columns.read(X), post.schema.target.read(y)
    args = tuple(
        np.concatenate([np.asarray(old), part])
        for old, part in zip(post.problem.args, new, strict=True)
    )
    problem = model.build_problem(post.schema, args, {})
    return changed(post, problem=problem, raw=engine.update(problem, raw, len(new[1])))
