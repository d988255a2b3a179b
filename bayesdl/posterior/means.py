"""Distributions over posterior draws: of E[y | x, z] at new rows, without noise, and of effects."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from bayesdl.posterior import streaming
from bayesdl.posterior.pictures import draw
from bayesdl.posterior.streaming import Stream
from bayesdl.typing import AxesLike, ColumnLike, DataFrame
from inference.arguments import call, join_static
from inference.core.result import AbstractPredictive, Conditional

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class MeanPrediction:
    """The distribution of the mean of y at new rows, in the units of y.

    Of classes it is the distribution of their probabilities, and of `linear_predictor` that of the
    predictor on the scale of the link.

    Attributes:
        draws: the values for each draw, shape (draws, rows), or (draws, rows, columns).
        names: the names of the last axis: targets, classes, or linear predictors.
        rows: the labels of the rows, where there are any.

    Example:
        >>> MeanPrediction(np.array([[1.0, 2.0], [3.0, 4.0]])).mean
        array([2., 3.])
    """

    draws: np.ndarray
    names: tuple = ()
    rows: tuple = ()

    @property
    def mean(self) -> np.ndarray:
        """The mean over draws: the mean of y itself."""
        return self.draws.mean(0)

    @property
    def std(self) -> np.ndarray:
        """The standard deviation over draws: what more data would remove."""
        return self.draws.std(0)

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles over draws.

        Args:
            q: one level, or a list of levels, between 0 and 1.

        Raises:
            ValueError: for levels outside (0, 1).
        """
        return np.quantile(self.draws, quantile_levels(q), axis=0)

    def interval(self, level: float = 0.9) -> np.ndarray:
        """Compute the central interval with probability `level`, shape (2, rows, ...)."""
        return self.quantile(central(level))

    def sample(self, num_samples: int = 1000) -> np.ndarray:
        """Return functions at all rows, shape (num_samples, rows, ...): draws, in their order."""
        if num_samples < 1:
            raise ValueError(f"sample(num_samples={num_samples!r}): expected at least 1.")
        return self.draws[np.arange(num_samples) % len(self.draws)]

    def to_pandas(self, level: float = 0.9) -> pd.DataFrame:
        """Return a DataFrame with a row per new row: mean, standard deviation and interval."""
        import pandas as pd

        low, high = self.interval(level)
        tail = f"{50 * (1 - level):.4g}%", f"{50 * (1 + level):.4g}%"
        parts = dict(zip(("mean", "std", *tail), (self.mean, self.std, low, high), strict=True))
        index = list(self.rows) if len(self.rows) == self.draws.shape[1] else None
        if self.draws.ndim == 2:
            return pd.DataFrame(parts, index=index)
        columns = {
            f"{name}.{part}": values[:, j]
            for j, name in enumerate(self.names or range(self.draws.shape[2]))
            for part, values in parts.items()
        }
        return pd.DataFrame(columns, index=index)

    def plot(self, x: ColumnLike | None = None, ax: AxesLike = None) -> Any:
        """Draw the mean with its 90 % band against x, or the row number; return the axes."""
        return draw("band", self, x, ax)

    def __repr__(self) -> str:
        return f"MeanPrediction(draws={len(self.draws)}, rows={self.draws.shape[1]})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.to_pandas().head(10).to_html()


def quantile_levels(q: ArrayLike | Sequence[float]) -> np.ndarray:
    """Return the levels of quantiles as an array without dimensions, or with one.

    Raises:
        ValueError: for levels outside (0, 1).
    """
    levels = np.asarray(q, np.float64)
    if levels.ndim > 1 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(
            f"quantile(q={q!r}): expected a level, or a list of levels, between 0 and 1."
        )
    return levels


def central(level: float) -> list[float]:
    """Return the levels of the bounds of a central interval.

    Raises:
        ValueError: for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(
            f"interval(level={level!r}): expected a probability between 0 and 1, e.g. 0.9."
        )
    return [(1 - level) / 2, (1 + level) / 2]


def mean_draws(stream: Stream, is_class: bool, what: str) -> np.ndarray:
    """Compute E[y | x, z], or class probabilities, for each draw, in the model's units.

    Args:
        stream: what computes statistics of the predictive.
        is_class: whether targets are classes.
        what: what asks for it, for errors.

    Raises:
        ValueError: where draws do not fix the function.
    """
    statistic = _class_values if is_class else _values
    # one row tells whether draws fix the function, where all rows together take long
    some = _first_row(stream) if stream.rows_correlated else stream
    try:
        values, unknown = some.map(statistic, axis=1)
    except NotImplementedError:
        raise ValueError(f"{what}: the likelihood has no mean in closed form.") from None
    if not np.all(unknown == 0):
        raise ValueError(
            f"{what} needs draws that fix the function, and those of this fit leave it open, as of "
            "a Gaussian process whose function is integrated out, or of a PFN: see "
            "predict(...).epistemic."
        )
    if stream.rows_correlated:
        values, _ = _together(stream, statistic, what)
    return values.astype(np.float64)


def _first_row(stream: Stream) -> Stream:
    """Return the stream of the first of its rows."""
    args = tuple(np.asarray(arg)[:1] for arg in stream.args)
    return dataclasses.replace(stream, args=args, num_rows=1)


def _together(stream: Stream, statistic: Callable, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute a statistic at all rows of one function for each draw.

    Raises:
        ValueError: for more rows than a dense covariance can hold.
    """
    if (stream.num_rows or 0) > streaming.LARGEST:
        raise ValueError(
            f"{what} needs a covariance of all rows: got {stream.num_rows} rows, at most "
            f"{streaming.LARGEST} are possible."
        )
    with jax.enable_x64(stream.double):
        keys = jax.random.split(jax.random.key(stream.seed), len(jax.tree.leaves(stream.draws)[0]))
        found = call(
            lambda arrays, static: _at_draws_together(
                statistic, static, stream.predictive, (stream.draws, keys), arrays
            ),
            (stream.args, stream.kwargs),
            jax.tree.structure(stream.predictive),
        )
        return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _at_draws_together(
    statistic: Callable,
    static: Hashable,
    predictive: AbstractPredictive,
    draws: tuple[dict, jax.Array],
    arrays: list,
) -> tuple:
    """Compute a statistic of the conditionals of all rows, draw by draw, compiled."""
    args, kwargs = join_static(arrays, static)

    def one(given: tuple[dict, jax.Array]) -> tuple:
        conditional = predictive(*given, *args, joint=True, **kwargs)
        alone = jax.tree.map(lambda leaf: leaf[None], conditional)
        return jax.tree.map(lambda leaf: leaf[0], statistic(alone, None))

    return jax.lax.map(one, draws)


def predictor_draws(response: Any, known: AbstractPredictive, names: tuple) -> MeanPrediction:
    """Return the distribution of the linear predictors at the rows of a prediction."""
    at = dataclasses.replace(response.stream, predictive=known)
    return MeanPrediction(mean_draws(at, False, "linear_predictor"), names, response.rows)


def _values(conditionals: Conditional, given: None) -> tuple:
    means = streaming.means(conditionals, given)
    return means, _open(conditionals, means)


def _class_values(conditionals: Conditional, given: None) -> tuple:
    values = streaming.probabilities(conditionals, given)
    return values, _open(conditionals, values[..., 0])


def _open(conditionals: Conditional, like: jax.Array) -> Any:
    """Return the variance of the function given a draw, shape (draws, rows)."""
    epistemic = conditionals.epistemic
    return (
        epistemic.reshape(epistemic.shape[0], -1)[:, : like.shape[1]]
        + 0.0 * like.reshape(like.shape[0], like.shape[1], -1)[..., 0]
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Effects:
    """Effects with their posterior draws.

    Attributes:
        kind: "predictions", "comparisons" or "slopes".
        keys: a table with a row per estimate: what is changed, at which rows.
        draws: the draws of each estimate, shape (draws, estimates).
        along: the columns of `keys` along which the estimates vary, for pictures.
        outcome: what is predicted.
        fixed: the columns of `keys` that say which effect it is, such as "contrast": no mean is
            taken over them.
    """

    kind: str
    keys: DataFrame
    draws: np.ndarray
    along: tuple[str, ...]
    outcome: str
    fixed: tuple[str, ...] = ()

    @property
    def mean(self) -> np.ndarray:
        """The posterior mean of each estimate."""
        return self.draws.mean(0)

    def to_pandas(self, level: float = 0.9) -> DataFrame:
        """Return a row per estimate: its keys, mean, standard deviation and central interval.

        Args:
            level: the probability of the interval.

        Raises:
            ValueError: for a level outside (0, 1).
        """
        tails = central(level)
        low, high = np.quantile(self.draws, tails, axis=0)
        table = self.keys.copy()
        table["estimate"], table["std"] = self.mean, self.draws.std(0)
        for tail, values in zip(tails, (low, high), strict=True):
            table[f"{100 * tail:.4g}%"] = values
        return table

    def probability(self, above: float = 0.0) -> np.ndarray:
        """Compute the posterior probability that each estimate is above a number."""
        return (self.draws > above).mean(0)

    def plot(self, ax: AxesLike = None) -> Any:
        """Draw the estimates with their 90 % intervals, and return the axes."""
        return draw("effects", self, ax)

    def __len__(self) -> int:
        return self.draws.shape[1]

    def __repr__(self) -> str:
        return f"Effects({self.kind} of {self.outcome!r})\n{self.to_pandas()}"

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)


def averaged(effects: Effects, by: Sequence[str]) -> Effects:
    """Return the mean of estimates over rows that agree in some columns, for each draw.

    Args:
        effects: the estimates for each row.
        by: the columns; none for one mean of all rows.
    """
    import pandas as pd

    names = [*effects.fixed, *(name for name in by if name not in effects.fixed)]
    if not names:
        keys = pd.DataFrame(index=range(1))
        return dataclasses.replace(effects, keys=keys, draws=effects.draws.mean(1, keepdims=True))
    grouped = effects.keys.groupby(names, sort=True, observed=True, dropna=False)
    positions = list(grouped.indices.values())
    keys = pd.DataFrame([effects.keys[names].iloc[rows[0]] for rows in positions])
    means = np.stack([effects.draws[:, rows].mean(1) for rows in positions], axis=1)
    return dataclasses.replace(
        effects, keys=keys.reset_index(drop=True), draws=means, along=tuple(by)
    )
