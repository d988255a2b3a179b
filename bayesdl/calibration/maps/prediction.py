"""Recalibrated predictions: one map of levels, or of probabilities, behind every number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from bayesdl.calibration.maps.levels import AbstractLevelMap
from bayesdl.calibration.maps.probabilities import AbstractClassMap
from bayesdl.posterior.interface import AbstractClasses, AbstractNumbers, check_count
from bayesdl.posterior.means import quantile_levels
from bayesdl.typing import ColumnLike, Integer
from inference.chunks import joined
from inference.process.cached import cached

# simulated targets behind moments and scores
SAMPLES = 2000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RecalibratedPrediction(AbstractNumbers):
    """A prediction of numbers whose levels are mapped: F* = R(F(y)).

    `cdf`, `quantile`, `interval` and `log_prob` are exact. Moments, samples and CRPS are those of
    simulated targets, each weighed by what R says of its place among the others.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target.
        rows: the labels of the rows, where there are any.
        base: the prediction of the model.
        levels: the map R.
    """

    base: AbstractNumbers = dataclasses.field(kw_only=True)
    levels: AbstractLevelMap = dataclasses.field(kw_only=True)

    @cached
    def _weights(self) -> np.ndarray:
        """The weight of each simulated target in ascending order, shape (samples,)."""
        edges = self.levels.cdf(np.linspace(0, 1, SAMPLES + 1))
        return np.asarray(np.diff(edges) / (edges[-1] - edges[0]))

    def _by_rows(self, statistic: Callable[[np.ndarray, Any], Any]) -> list[Any]:
        """Return a statistic of (targets in ascending order, rows) for some rows after the other.

        Targets have shape (samples, some rows, ...).
        """
        return [
            statistic(np.sort(drawn, axis=0), rows)
            for rows, drawn in self.base._simulated_rows(SAMPLES)
        ]

    @cached
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance: those of the model, and what the map adds to them."""
        weights = self._weights

        def added(drawn: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
            # differences of the same simulated targets, so that their noise nearly cancels
            shift = np.tensordot(weights, drawn, 1) - drawn.mean(0)
            centred = drawn - drawn.mean(0)
            second = np.tensordot(weights, centred**2, 1) - shift**2
            return shift, second / np.maximum(np.mean(centred**2, 0), np.finfo(float).tiny)

        shift, ratio = map(joined, zip(*self._by_rows(added), strict=True))
        return self.base.mean + shift, self.base.std**2 * ratio

    @property
    def mean(self) -> np.ndarray:
        """E[y | x, data] of the mapped distribution."""
        return self._moments[0]

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of the mapped distribution."""
        return np.sqrt(self._moments[1])

    @property
    def aleatoric(self) -> np.ndarray:
        """NaN: a map does not know the parts of doubt."""
        return np.full(self.base.mean.shape, np.nan)

    @property
    def epistemic(self) -> np.ndarray:
        """NaN: a map does not know the parts of doubt."""
        return np.full(self.base.mean.shape, np.nan)

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles F^-1(R^-1(q)).

        Args:
            q: one level, or a list of levels, between 0 and 1.
        """
        levels = quantile_levels(q)
        inner = np.clip(self.levels.quantile(levels), 1e-9, 1 - 1e-9)
        return self.base.quantile(inner if levels.ndim else float(inner))

    def cdf(self, y: ColumnLike) -> np.ndarray:
        """Compute P(Y <= y) = R(F(y))."""
        return self.levels.cdf(self.base.cdf(y))

    @property
    def has_density(self) -> bool:
        """Whether the map has a density."""
        return self.levels.has_density

    def log_prob(self, y: ColumnLike) -> np.ndarray:
        """Compute log p(y) + log r(F(y)); of counts log (R(F(y)) - R(F(y - 1)))."""
        upper = self.base.cdf(y)
        if self.target.kind != "count":
            return self.base.log_prob(y) + self.levels.log_density(upper)
        values = self._values(y)
        lower = np.where(values > 0, self.base.cdf(np.maximum(values - 1, 0)), 0.0)
        mass = self.levels.cdf(upper) - self.levels.cdf(lower)
        own = self.base.log_prob(y)
        # a step below rounding has the density in its middle
        exact = mass > 1e-6
        smooth = own + self.levels.log_density((upper + lower) / 2)
        return np.where(exact, np.log(np.where(exact, mass, 1.0)), smooth)

    def crps(self, y: ColumnLike) -> np.ndarray:
        """Compute the continuous ranked probability score, from weighed simulated targets."""
        weights = self._weights
        values = self._values(y)
        before = np.cumsum(weights) - weights
        # E|Y - Y'| = 2 sum of w_j y_j (2 W_j - 1), W_j the weight up to the middle of j
        rank = (2 * (before + weights / 2) - 1) * weights

        def score(drawn: np.ndarray, rows: Any) -> np.ndarray:
            spread = 2 * np.tensordot(rank, drawn, 1)
            return np.tensordot(weights, np.abs(drawn - values[rows]), 1) - spread / 2

        return joined(self._by_rows(score))

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets, shape (num_samples, rows), row by row."""
        check_count(num_samples)
        rng = np.random.default_rng(self.seed)
        rows = self.stream.num_rows
        shape = self.base.mean.shape if rows is None else (rows,)
        found = rng.uniform(size=(num_samples, *shape))
        upto = np.cumsum(self._weights)

        def chosen(drawn: np.ndarray, rows: Any) -> None:
            levels = found[:, rows]
            places = np.minimum(np.searchsorted(upto, levels), SAMPLES - 1)
            found[:, rows] = np.take_along_axis(drawn, places, axis=0)

        self._by_rows(chosen)
        return found

    def marginal_samples(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets row by row; the same as `sample`."""
        return self.sample(num_samples)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RecalibratedClasses(AbstractClasses):
    """A prediction of class labels whose probabilities are mapped.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, with its labels.
        seed: the seed of simulated labels.
        title: what pictures call the target.
        rows: the labels of the rows, where there are any.
        base: the prediction of the model.
        map: the map.
    """

    base: AbstractClasses = dataclasses.field(kw_only=True)
    map: AbstractClassMap = dataclasses.field(kw_only=True)

    @cached
    def _mapped(self) -> np.ndarray:
        return self.map(self.base.probs)

    @property
    def probs(self) -> np.ndarray:
        """P(y = class | x, data) after the map, shape (rows, classes)."""
        return self._mapped

    @property
    def aleatoric(self) -> np.ndarray:
        """NaN: a map does not know the parts of doubt."""
        return np.full(len(self.probs), np.nan)

    @property
    def epistemic(self) -> np.ndarray:
        """NaN: a map does not know the parts of doubt."""
        return np.full(len(self.probs), np.nan)

    def log_prob(self, y: ColumnLike) -> np.ndarray:
        """Compute log P(label), in nats; -inf where a map says that a label cannot be."""
        index = self._read(y).astype(int)
        own = np.take_along_axis(self.probs, index[:, None], axis=1)[:, 0]
        with np.errstate(divide="ignore"):
            return np.log(own)

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate labels, shape (num_samples, rows)."""
        check_count(num_samples)
        levels = np.random.default_rng(self.seed).uniform(size=(num_samples, len(self.probs)))
        index = np.zeros(levels.shape, int)
        # the last class is what is left
        for upto in np.cumsum(self.probs, axis=1).T[:-1]:
            index += levels > upto
        return self.classes[index]
