"""Predictions with conformal sets: unions of intervals of numbers, or sets of labels."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from jax.typing import ArrayLike

from bayesdl.calibration.ranks import as_level
from bayesdl.checks.scores import GROUPS, SMALLEST_GROUP
from bayesdl.posterior.interface import AbstractClasses, AbstractNumbers, AbstractPrediction
from bayesdl.typing import ColumnLike, Integer

if TYPE_CHECKING:
    import pandas as pd


class AbstractSets(abc.ABC):
    """What makes the sets of some rows, at any level.

    Attributes:
        base: the prediction that the sets are made of.
    """

    base: AbstractPrediction

    @abc.abstractmethod
    def at(self, level: float) -> np.ndarray:
        """Return the sets at a level.

        Of numbers the ends of intervals in ascending order, shape (ends, rows, ...), in the units
        of y, NaN where there are fewer; of labels which classes belong, shape (rows, classes).
        """

    def ess(self, level: float) -> np.ndarray | None:
        """Return the effective number of draws behind each set; None where sets need no draws."""
        return None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ConformalPrediction(AbstractNumbers):
    """A prediction of numbers with conformal sets.

    `interval`, `pieces` and `contains` are conformal. All else is the distribution of the model,
    whose central intervals need not hold what they say.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target.
        rows: the labels of the rows, where there are any.
        base: the prediction of the model.
        sets: what makes the sets.
        level: the level of the sets where none is given.
    """

    base: AbstractNumbers = dataclasses.field(kw_only=True)
    sets: AbstractSets = dataclasses.field(kw_only=True)
    level: float = dataclasses.field(kw_only=True)

    @property
    def mean(self) -> np.ndarray:
        """E[y | x, data] by the model."""
        return self.base.mean

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of y by the model."""
        return self.base.std

    @property
    def aleatoric(self) -> np.ndarray:
        """The part of the standard deviation that stays when the function is known."""
        return self.base.aleatoric

    @property
    def epistemic(self) -> np.ndarray:
        """The part of the standard deviation that more data would remove."""
        return self.base.epistemic

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles of the model's distribution."""
        return self.base.quantile(q)

    def cdf(self, y: ColumnLike) -> np.ndarray:
        """Compute P(Y <= y) by the model."""
        return self.base.cdf(y)

    def crps(self, y: ColumnLike) -> np.ndarray:
        """Compute the continuous ranked probability score of the model's distribution."""
        return self.base.crps(y)

    def log_prob(self, y: ColumnLike) -> np.ndarray:
        """Compute log p(y | x, data) by the model."""
        return self.base.log_prob(y)

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets from the model's distribution."""
        return self.base.sample(num_samples)

    def marginal_samples(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets that are right row by row, from the model's distribution."""
        return self.base.marginal_samples(num_samples)

    def interval(self, level: float | None = None) -> np.ndarray:
        """Return the hull of each set: its lowest and its highest point, shape (2, rows, ...).

        Args:
            level: the level; by default the one that was asked for.
        """
        ends = self._ends(level)
        return np.stack([np.nanmin(ends, axis=0), np.nanmax(ends, axis=0)])

    def pieces(self, level: float | None = None) -> list[np.ndarray]:
        """Return the intervals whose union is the set, an array (pieces, 2) for each row.

        Of counts they are whole numbers, both ends included. Where there are several targets there
        is one array for each entry, rows first.

        Args:
            level: the level; by default the one that was asked for.
        """
        ends = self._ends(level)
        flat = ends.reshape(len(ends), -1).T
        return [row[~np.isnan(row)].reshape(-1, 2) for row in flat]

    def contains(self, y: ColumnLike, level: float | None = None) -> np.ndarray:
        """Return whether each target lies in its set, shape (rows, ...).

        Args:
            y: the targets.
            level: the level; by default the one that was asked for.
        """
        values, ends = self._values(y), self._ends(level)
        # comparisons with NaN are false
        inside = (ends[0::2] <= values) & (values <= ends[1::2])
        return np.asarray(inside.any(0))

    def size(self, level: float | None = None) -> np.ndarray:
        """Return the length of each set, or how many counts it holds, shape (rows, ...)."""
        ends = self._ends(level)
        more = 1.0 if self.target.kind == "count" else 0.0
        return np.nansum(ends[1::2] - ends[0::2] + more, axis=0)

    def ess(self, level: float | None = None) -> np.ndarray | None:
        """Return the effective draws behind each set; None where it does not rest on draws."""
        return self.sets.ess(self._level(level))

    def set_scores(self, y: ColumnLike) -> dict[str, float]:
        """Return share, mean size and worst share of the sets that hold their target."""
        hits, size = self.contains(y), self.size()
        return _set_scores(hits.ravel(), size.ravel(), size.ravel())

    def intervals(self, levels: Sequence[float]) -> np.ndarray:
        """Return intervals at several levels, shape (levels, 2, rows, ...)."""
        return np.stack([self.interval(level) for level in levels])

    def to_pandas(self, level: float | None = None) -> pd.DataFrame:
        """Return a DataFrame with a row per new row: mean, ends of the hull, number of pieces."""
        import pandas as pd

        (low, high), ends = self.interval(level), self._ends(level)
        pieces = np.sum(~np.isnan(ends), axis=0) // 2
        parts = {"mean": self.mean, "low": low, "high": high, "pieces": pieces}
        if self.mean.ndim == 2 and self.stream.num_rows is not None:
            return pd.DataFrame(
                {
                    f"{name}.{part}": values[:, j]
                    for j, name in enumerate(self.target.names)
                    for part, values in parts.items()
                }
            )
        table = {part: np.ravel(values) for part, values in parts.items()}
        return pd.DataFrame(table, index=self._labels() if self.mean.ndim == 1 else None)

    def _level(self, level: float | None) -> float:
        return self.level if level is None else as_level(level, "interval")

    def _ends(self, level: float | None) -> np.ndarray:
        return self.sets.at(self._level(level))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ConformalClasses(AbstractClasses):
    """A prediction of class labels with conformal sets of labels.

    `sets` and `contains` are conformal. All else is the distribution of the model.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, with its labels.
        seed: the seed of simulated labels.
        title: what pictures call the target.
        rows: the labels of the rows, where there are any.
        base: the prediction of the model.
        maker: what makes the sets.
        level: the level of the sets where none is given.
    """

    base: AbstractClasses = dataclasses.field(kw_only=True)
    maker: AbstractSets = dataclasses.field(kw_only=True)
    level: float = dataclasses.field(kw_only=True)

    @property
    def probs(self) -> np.ndarray:
        """P(y = class | x, data) by the model, shape (rows, classes)."""
        return self.base.probs

    @property
    def aleatoric(self) -> np.ndarray:
        """Expected entropy, in nats: doubt that stays when the function is known."""
        return self.base.aleatoric

    @property
    def epistemic(self) -> np.ndarray:
        """Mutual information of label and draw, in nats: doubt that more data would remove."""
        return self.base.epistemic

    def log_prob(self, y: ColumnLike) -> np.ndarray:
        """Compute log p(y | x, data) by the model."""
        return self.base.log_prob(y)

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate labels from the model's distribution."""
        return self.base.sample(num_samples)

    def members(self, level: float | None = None) -> np.ndarray:
        """Return which classes belong to each set, shape (rows, classes)."""
        level = self.level if level is None else as_level(level, "sets")
        return self.maker.at(level)

    def sets(self, level: float | None = None) -> list[np.ndarray]:
        """Return the labels in each set, an array for each row.

        Args:
            level: the level; by default the one that was asked for.
        """
        return [self.classes[row] for row in self.members(level).reshape(-1, len(self.classes))]

    def contains(self, y: ColumnLike, level: float | None = None) -> np.ndarray:
        """Return whether each label lies in its set, shape (rows,).

        Args:
            y: the labels.
            level: the level; by default the one that was asked for.
        """
        index = self._read(y).astype(int)
        return np.take_along_axis(self.members(level), index[..., None], axis=-1)[..., 0]

    def size(self, level: float | None = None) -> np.ndarray:
        """Return how many labels each set holds, shape (rows,)."""
        return self.members(level).sum(-1)

    def set_scores(self, y: ColumnLike) -> dict[str, float]:
        """Return share, mean size and worst share, by predicted class, of sets that hold theirs."""
        return _set_scores(self.contains(y), self.size(), self.probs.argmax(-1))

    def ess(self, level: float | None = None) -> np.ndarray | None:
        """Return the effective draws behind each set; None where it does not rest on draws."""
        return self.maker.ess(self.level if level is None else as_level(level, "ess"))

    def interval(self, level: float | None = None) -> NoReturn:
        """Refuse intervals of labels."""
        raise AttributeError("Class labels have no interval: use sets, contains, size or probs.")

    def to_pandas(self, level: float | None = None) -> pd.DataFrame:
        """Return a DataFrame with a row per new row: class, set, and probabilities."""
        table = self.base.to_pandas()
        labels = [", ".join(map(str, one)) for one in self.sets(level)]
        table.insert(1, "set", labels)
        return table


def _set_scores(hits: np.ndarray, size: np.ndarray, by: np.ndarray) -> dict[str, float]:
    """Return the scores of sets.

    Args:
        hits: whether each set holds its target.
        size: the size of each set.
        by: what makes groups of rows: classes as whole numbers, or numbers that are cut in five.
    """
    found = {"set_coverage": float(hits.mean()), "set_size": float(size.mean())}
    if by.dtype.kind == "i":
        groups = [hits[by == k] for k in np.unique(by)]
    else:
        groups = np.array_split(hits[np.argsort(by, kind="stable")], GROUPS)
    shares = [float(group.mean()) for group in groups if len(group) >= SMALLEST_GROUP]
    return found | ({"set_coverage_worst": min(shares)} if shares else {})
