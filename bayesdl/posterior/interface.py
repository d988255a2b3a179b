"""What predictions of numbers and of classes share, and the interface of both."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from jax.typing import ArrayLike

from bayesdl.data.target import Target
from bayesdl.posterior import streaming as stream
from bayesdl.posterior.means import MeanPrediction, central, mean_draws
from bayesdl.posterior.pictures import draw
from bayesdl.typing import AxesLike, ColumnLike, Integer
from inference.chunks import joined
from inference.process.memory import require_memory, size_of
from inference.settings import is_whole

if TYPE_CHECKING:
    import pandas as pd

# rows simulated at once
CHUNK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractPrediction(abc.ABC):
    """A predictive distribution at new rows; nothing is computed before it is asked for.

    It declares all that predictions of numbers and of classes offer. What does not apply raises an
    AttributeError that says what to use: classes have no mean, numbers have no class
    probabilities.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target, where not by the name of its site.
        rows: the labels of the rows, where there are any.
    """

    stream: stream.Stream
    target: Target
    seed: int
    title: str = ""
    rows: tuple = ()

    @abc.abstractmethod
    def _refuse(self, name: str) -> NoReturn:
        """Refuse what does not apply.

        Raises:
            AttributeError: naming what to use instead.
        """
        raise NotImplementedError

    def _labels(self) -> list | None:
        """Return the labels of the rows, or None for row numbers."""
        rows = self.stream.num_rows
        fits = rows is None or len(self.rows) == rows
        return (list(self.rows) or None) if fits else None

    @property
    def mean(self) -> np.ndarray:
        """E[y | x, data]; of numbers only."""
        self._refuse("mean")

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of y; of numbers only."""
        self._refuse("std")

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles of the mixture; of numbers only.

        Args:
            q: one level, or a list of levels, between 0 and 1.
        """
        self._refuse("quantile")

    def interval(self, level: float = 0.9) -> np.ndarray:
        """Compute the central interval with probability `level`; of numbers only."""
        self._refuse("interval")

    def intervals(self, levels: Sequence[float]) -> np.ndarray:
        """Compute intervals at several levels, shape (levels, 2, rows, ...); of numbers only."""
        self._refuse("intervals")

    def cdf(self, y: ColumnLike) -> np.ndarray:
        """Compute P(Y <= y | x, data); of numbers only."""
        self._refuse("cdf")

    def crps(self, y: ColumnLike) -> np.ndarray:
        """Compute the continuous ranked probability score; of numbers only."""
        self._refuse("crps")

    def marginal_samples(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets that are right row by row; of numbers only."""
        self._refuse("marginal_samples")

    @property
    def classes(self) -> np.ndarray:
        """The labels, in the order of the columns of `probs`; of classes only."""
        self._refuse("classes")

    @property
    def probs(self) -> np.ndarray:
        """P(y = class | x, data), shape (rows, classes); of classes only."""
        self._refuse("probs")

    @property
    def label(self) -> np.ndarray:
        """The most probable class per row; of classes only."""
        self._refuse("label")

    @property
    @abc.abstractmethod
    def aleatoric(self) -> np.ndarray:
        """The doubt that stays when the function is known."""

    @property
    @abc.abstractmethod
    def epistemic(self) -> np.ndarray:
        """The doubt that more data would remove."""

    @abc.abstractmethod
    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets, shape (num_samples, rows, ...)."""

    @abc.abstractmethod
    def to_pandas(self, level: float = 0.9) -> pd.DataFrame:
        """Return a DataFrame with a row per new row."""

    @abc.abstractmethod
    def plot(self, x: ColumnLike | None = None, ax: AxesLike = None) -> Any:
        """Draw the prediction against x, or against the row number, and return the axes."""

    def log_prob(self, y: ColumnLike) -> np.ndarray:
        """Compute log p(y | x, data) per row, shape (rows,).

        It is the natural logarithm, of a density in the units of y.
        """
        values = self.stream.map(stream.log_density, self._read(y))
        return np.asarray(values.astype(np.float64) - np.log(self.target.scale).sum())

    @property
    def has_density(self) -> bool:
        """Whether `log_prob` can be computed."""
        return True

    def set_scores(self, y: ColumnLike) -> dict[str, float]:
        """Return scores of sets that the prediction has beside its distribution: none here."""
        return {}

    def check_rows(self, y: Any) -> None:
        """Refuse targets that are not one per predicted row.

        Raises:
            ValueError: with both numbers.
        """
        rows = self.stream.num_rows
        if rows is not None and np.ndim(y) == 0:
            raise ValueError(f"y={y!r}: expected a target for each of the {rows} predicted rows.")
        if rows is not None and len(y) != rows:
            raise ValueError(f"y has {len(y)} targets for {rows} predicted rows.")

    def means(self) -> MeanPrediction:
        """Return the distribution of E[y | x] over draws, of classes that of probabilities.

        Raises:
            ValueError: where draws do not fix the function.
        """
        is_class = self.target.kind == "class"
        values = mean_draws(self.stream, is_class, "kind='mean'")
        if is_class:
            return MeanPrediction(values, tuple(self.target.classes or ()), self.rows)
        names = self.target.names if values.ndim == 3 else ()
        return MeanPrediction(self.target.in_units(values), names, self.rows)

    def replicates(self) -> np.ndarray:
        """Simulate one data set for each posterior draw, in their order.

        They are in the units of y, classes as their indices.
        """
        num_draws = len(next(iter(self.stream.draws.values())))
        simulate = self.stream.functions if self.stream.rows_correlated else self._simulate
        return self.target.in_units(simulate(num_draws, shuffle=False))

    def _sample(self, num_samples: Integer) -> np.ndarray:
        """Simulate targets in the model's units; each sample follows one draw of the function."""
        check_count(num_samples, self.stream.num_rows or 1)
        if self.stream.rows_correlated:
            return self.stream.functions(num_samples)
        return self._simulate(num_samples)

    def _simulate(self, num_samples: Integer, shuffle: bool = True) -> np.ndarray:
        """Simulate targets in the model's units, each row from its own distribution.

        Rows share the draw behind them.
        """
        return joined(self._simulated(num_samples, shuffle), axis=1)

    def _simulated(self, num_samples: Integer, shuffle: bool = True) -> Iterator[np.ndarray]:
        """Simulate targets as `_simulate` does, `CHUNK` rows after the other."""
        rows = np.arange(self.stream.num_rows or 1)
        seeds = np.stack([np.full(len(rows), self.seed), rows], axis=1).astype(np.int32)
        # samples shall not depend on the batch size that was asked for
        fixed = dataclasses.replace(self.stream, batch_size=CHUNK)
        return fixed.chunks(stream.simulator(num_samples, shuffle), seeds, axis=1)

    def _read(self, y: Any) -> np.ndarray:
        """Return targets as the model sees them; those of a program as they are."""
        self.check_rows(y)
        return np.asarray(y) if self.stream.num_rows is None else self.target.read(y)

    def __repr__(self) -> str:
        names, rows = ", ".join(self.target.names), self.stream.num_rows or "all at once"
        return f"{type(self).__name__}(target={names!r}, rows={rows})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.to_pandas().head(10).to_html()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AbstractNumbers(AbstractPrediction):
    """What predictions of numbers share: real targets or counts.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target, where not by the name of its site.
        rows: the labels of the rows, where there are any.
    """

    def _refuse(self, name: str) -> NoReturn:
        raise AttributeError(
            f"Numbers have no {name}: use mean, std, quantile, interval, sample or log_prob."
        )

    def interval(self, level: float = 0.9) -> np.ndarray:
        """Compute the central interval with probability `level`.

        Returns:
            Lower and upper bounds, shape (2, rows, ...).
        """
        return self.quantile(central(level))

    def intervals(self, levels: Sequence[float]) -> np.ndarray:
        """Return intervals at several levels, shape (levels, 2, rows, ...)."""
        tails = [(1 + sign * level) / 2 for level in levels for sign in (-1, 1)]
        bounds = self.quantile(tails)
        return np.asarray(bounds).reshape(len(levels), 2, *bounds.shape[1:])

    def to_pandas(self, level: float = 0.9) -> pd.DataFrame:
        """Return a DataFrame with a row per new row.

        Its columns are mean, standard deviation, both bounds of the interval, and the aleatoric
        and the epistemic part.
        """
        import pandas as pd

        low, high = self.interval(level)
        tail = f"{50 * (1 - level):.4g}%", f"{50 * (1 + level):.4g}%"
        names = ("mean", "std", *tail, "aleatoric", "epistemic")
        arrays = (self.mean, self.std, low, high, self.aleatoric, self.epistemic)
        parts = dict(zip(names, arrays, strict=True))
        if self.mean.ndim == 2 and self.stream.num_rows is not None:
            return pd.DataFrame(
                {
                    f"{name}.{part}": values[:, j]
                    for j, name in enumerate(self.target.names)
                    for part, values in parts.items()
                },
                index=self._labels(),
            )
        entries = list(np.ndindex(self.mean.shape))
        index = pd.MultiIndex.from_tuples(entries) if self.mean.ndim > 1 else self._labels()
        return pd.DataFrame({part: np.ravel(values) for part, values in parts.items()}, index=index)

    def _simulated_rows(
        self, num_samples: Integer = 1000
    ) -> Iterator[tuple[slice | EllipsisType, np.ndarray]]:
        """Simulate targets row by row, some rows after the other, so that memory stays flat.

        Args:
            num_samples: the number of targets of each row.

        Yields:
            Which rows, and their targets in the units of y, shape (num_samples, some rows, ...);
            all entries at once where rows cannot be told apart.
        """
        start = 0
        for part in self._simulated(num_samples):
            values = self._in_units(part.astype(np.float64))
            if self.stream.num_rows is None:
                yield ..., values
            else:
                yield slice(start, start + part.shape[1]), values
                start += part.shape[1]

    def plot(self, x: ColumnLike | None = None, ax: AxesLike = None) -> Any:
        """Draw the mean with 50 and 90 % bands against x, or the row number; return the axes."""
        return draw("prediction", self, x, ax)

    @property
    def _unit(self) -> float | np.ndarray:
        """What one unit of the model is in units of y, per target."""
        return self.target.scale[0] if len(self.target.scale) == 1 else np.array(self.target.scale)

    def _in_units(self, values: np.ndarray) -> np.ndarray:
        return self.target.in_units(values)

    def _values(self, y: ColumnLike) -> np.ndarray:
        """Return targets in their own units as doubles, after the checks of `_read`."""
        shape = self._read(y).shape
        return np.asarray(y, np.float64).reshape(shape)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AbstractClasses(AbstractPrediction):
    """What predictions of class labels share.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, with its labels.
        seed: the seed of simulated labels.
        title: what pictures call the target, where not by the name of its site.
        rows: the labels of the rows, where there are any.
    """

    def _refuse(self, name: str) -> NoReturn:
        raise AttributeError(
            f"Class labels have no {name}: use probs, label, aleatoric, epistemic, sample or "
            "log_prob."
        )

    @property
    def classes(self) -> np.ndarray:
        """The labels, in the order of the columns of `probs`."""
        return np.array(self.target.classes)

    @property
    def label(self) -> np.ndarray:
        """The most probable class per row."""
        return self.classes[self.probs.argmax(-1)]

    def to_pandas(self, level: float = 0.9) -> pd.DataFrame:
        """Return a DataFrame with a row per new row.

        Its columns are the most probable class, the probability of each class, and the aleatoric
        and the epistemic entropy in nats.
        """
        import pandas as pd

        probs = {f"P({label})": self.probs[..., k] for k, label in enumerate(self.classes)}
        doubts = {"aleatoric": self.aleatoric, "epistemic": self.epistemic}
        parts = {"class": self.label, **probs, **doubts}
        index = self._labels()
        if self.label.ndim > 1:
            index = pd.MultiIndex.from_tuples(list(np.ndindex(self.label.shape)))
        return pd.DataFrame({name: np.ravel(part) for name, part in parts.items()}, index=index)

    def plot(self, x: ColumnLike | None = None, ax: AxesLike = None) -> Any:
        """Draw class probabilities against x, or the row number; return the axes."""
        return draw("class_prediction", self, x, ax)


def check_count(num_samples: object, entries: int = 1) -> None:
    """Refuse anything but a positive whole number of samples that fit into memory."""
    if not is_whole(num_samples):
        raise ValueError(
            f"sample(num_samples={num_samples!r}): expected a whole number of at least 1."
        )
    what = f"sample(num_samples={num_samples}) of {entries} numbers each"
    require_memory(size_of([(num_samples, entries)]), what, "draw fewer, or for fewer rows at once")
