"""Predictive distributions p(y | x, data): the mixture over posterior draws, in the user's units.

If the model saw (y - m) / s, means are m + s times the model's, and log densities lose log s.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from bayesdl.posterior import streaming as stream
from bayesdl.posterior.interface import AbstractClasses, AbstractNumbers, check_count
from bayesdl.posterior.means import central, quantile_levels
from bayesdl.typing import ColumnLike, Integer
from bayesdl.warnings import TrustWarning
from inference.chunks import joined
from inference.process.cached import cached

# simulated targets behind quantiles that have no closed form
QUANTILE_SAMPLES = 4000
# those for each draw behind moments that have none
MOMENT_SAMPLES = 100


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction(AbstractNumbers):
    """A predictive distribution of numbers: real targets or counts.

    All arrays have shape (rows,), or (rows, targets) for several targets, in the units of y.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target, where not by the name of its site.
        rows: the labels of the rows, where there are any.
    """

    @cached
    def _moments(self) -> tuple[np.ndarray, ...]:
        """Mean, variance, its aleatoric and its epistemic part, in the model's units."""
        try:
            parts = self.stream.map(stream.moments)
        except NotImplementedError:
            seeds = np.array([[self.seed, 0]] * (self.stream.num_rows or 1), np.int32)
            parts = self.stream.map(stream.sampled_moments(MOMENT_SAMPLES), seeds)
        mean, variance, aleatoric, epistemic = (part.astype(np.float64) for part in parts)
        if np.isnan(mean).any():
            warnings.warn(
                f"The distribution of {self.target.names[0]!r} has no mean at "
                f"{int(np.isnan(mean).sum())} of {mean.size} predicted values, as Cauchy's has "
                "none: use quantile(0.5) and interval.",
                TrustWarning,
                stacklevel=4,
            )
        concern = self.stream.predictive.mean_concern(mean, epistemic)
        if concern:
            warnings.warn(f"Means that cannot be trusted: {concern}.", TrustWarning, stacklevel=4)
        return mean, variance, aleatoric, epistemic

    @property
    def mean(self) -> np.ndarray:
        """E[y | x, data]."""
        return self._in_units(self._moments[0])

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of y: the root of aleatoric^2 + epistemic^2."""
        return np.asarray(np.sqrt(self._moments[1]) * self._unit)

    @property
    def aleatoric(self) -> np.ndarray:
        """The part of the standard deviation that stays when the function is known.

        It is sqrt(E[Var(y | x, z)]); NaN for a `PFN`.
        """
        return np.asarray(np.sqrt(self._moments[2]) * self._unit)

    @property
    def epistemic(self) -> np.ndarray:
        """The part of the standard deviation that more data would remove.

        It is sqrt(Var(E[y | x, z])); NaN for a `PFN`, which does not know it.
        """
        return np.asarray(np.sqrt(self._moments[3]) * self._unit)

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles of the mixture.

        They are exact up to bisection where the likelihood has a cdf, otherwise those of simulated
        targets.

        Args:
            q: one level, or a list of levels, between 0 and 1.

        Returns:
            Quantiles of shape (rows, ...) for one level, otherwise (len(q), rows, ...).

        Raises:
            ValueError: for levels outside (0, 1).
        """
        levels = np.atleast_1d(quantile_levels(q))
        try:
            values = self.stream.map(stream.quantiles, levels, rowwise=False, axis=1)
        except NotImplementedError:
            simulated = self._simulated(QUANTILE_SAMPLES)
            values = joined((np.quantile(one, levels, axis=0) for one in simulated), axis=1)
        values = self._in_units(values.astype(np.float64))
        # the quantile of a latent site is one number
        return values if np.ndim(q) else np.asarray(values[0])

    def cdf(self, y: ColumnLike) -> np.ndarray:
        """Compute P(Y <= y | x, data) per row and target, by simulation where it has no formula."""
        try:
            return self.stream.map(stream.mixture_cdf, self._read(y)).astype(np.float64)
        except NotImplementedError:
            given = self._values(y)
            simulated = self._simulated_rows()
            return joined(np.mean(one <= given[rows], axis=0) for rows, one in simulated)

    def crps(self, y: ColumnLike) -> np.ndarray:
        """Compute the continuous ranked probability score, in the units of y.

        It is E|Y - y| - E|Y - Y'| / 2 per row and target: exact for a `PFN`, otherwise the fair
        estimate from simulated targets (Gneiting and Raftery 2007).
        """
        try:
            values = self.stream.map(stream.crps, self._read(y)).astype(np.float64)
        except NotImplementedError:
            targets = self._values(y)
            return joined(crps(one, targets[rows]) for rows, one in self._simulated_rows())
        return np.asarray(values * self._unit)

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets, shape (num_samples, rows, ...).

        Each sample is one draw of the function at all rows, and noise. (GPyTorch's processes are
        the exception: their rows are drawn one by one.)
        """
        return self._in_units(self._sample(num_samples).astype(np.float64))

    def marginal_samples(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets that are right row by row, which is cheaper where rows vary together."""
        check_count(num_samples)
        return self._in_units(self._simulate(num_samples).astype(np.float64))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassPrediction(AbstractClasses):
    """A predictive distribution of class labels.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, with its labels.
        seed: the seed of simulated labels.
        title: what pictures call the target, where not by the name of its site.
        rows: the labels of the rows, where there are any.
    """

    @cached
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities, expected entropy, and mutual information."""
        probs, aleatoric, epistemic = (
            part.astype(np.float64) for part in self.stream.map(stream.label_distribution)
        )
        return probs / probs.sum(-1, keepdims=True), aleatoric, epistemic

    @property
    def probs(self) -> np.ndarray:
        """P(y = class | x, data), shape (rows, classes); of a program (*shape of y, classes)."""
        return self._parts[0]

    @property
    def aleatoric(self) -> np.ndarray:
        """Expected entropy E[H(y | x, z)], in nats: doubt that stays when the function is known."""
        return self._parts[1]

    @property
    def epistemic(self) -> np.ndarray:
        """Mutual information of label and draw, in nats: doubt that more data would remove.

        See Houlsby et al. (2011).
        """
        return self._parts[2]

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Return quantiles of classes that have an order: the first class with P(y <= class) >= q.

        Args:
            q: one level, or a list of levels, between 0 and 1.

        Returns:
            Labels of shape (rows,) for one level, otherwise (len(q), rows).

        Raises:
            AttributeError: for classes without an order.
        """
        if not self.target.ordered:
            self._refuse("quantile")
        below = np.cumsum(self.probs, axis=-1)[..., :-1]
        levels = np.atleast_1d(quantile_levels(q))
        values = np.stack([self.classes[(below < level).sum(-1)] for level in levels])
        return values if np.ndim(q) else np.asarray(values[0])

    def interval(self, level: float = 0.9) -> np.ndarray:
        """Return the central interval of classes that have an order, shape (2, rows).

        Raises:
            AttributeError: for classes without an order.
        """
        if not self.target.ordered:
            self._refuse("interval")
        return self.quantile(central(level))

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate labels, shape (num_samples, rows)."""
        return self.classes[self._sample(num_samples).astype(int)]


def crps(
    samples: Real[np.ndarray, "samples *y"], y: Real[np.ndarray, "*y"]
) -> Real[np.ndarray, "*y"]:
    """Compute the fair (unbiased) estimate of the CRPS from samples."""
    n = len(samples)
    ordered = np.sort(samples, axis=0)
    weights = (2 * np.arange(1, n + 1) - n - 1).reshape((-1,) + (1,) * y.ndim)
    # E|Y - Y'| without the diagonal
    spread = 2 * np.sum(weights * ordered, axis=0) / (n * (n - 1))
    return np.mean(np.abs(samples - y), axis=0) - spread / 2
