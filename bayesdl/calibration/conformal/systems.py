"""Conformal predictive systems: a whole distribution from the residuals of held-out rows.

    y = m(x) + s(x) E,    P(E <= e) = (#{i: e_i < e} + tau (1 + #{i: e_i = e})) / (n + 1)

with residuals e_i = (y_i - m(x_i)) / s(x_i), s = 1 or the model's standard deviation, and tau
uniform. So a level q is right for exchangeable rows whatever the model, up to 1 / (n + 1) (Vovk et
al. 2019, "Nonparametric predictive distributions based on conformal prediction"). It has steps and
no density; beyond the outermost residuals, 1 / (n + 1) of probability may lie anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from bayesdl.calibration.ranks import rank_of
from bayesdl.posterior.interface import AbstractNumbers, check_count
from bayesdl.posterior.means import quantile_levels
from bayesdl.typing import ColumnLike, Integer


def system_cdf(
    residuals: Real[np.ndarray, "rows"], e: Real[np.ndarray, "*new"], tau: float | np.ndarray = 0.5
) -> Real[np.ndarray, "*new"]:
    """Compute P(E <= e) of a predictive system.

    Args:
        residuals: the residuals e_i of held-out rows.
        e: where to compute it.
        tau: the number in [0, 1] that breaks ties.

    Example:
        >>> system_cdf(np.arange(9.0), np.array([-1.0, 3.5]), tau=0.0).tolist()
        [0.0, 0.4]
    """
    ordered = np.sort(residuals)
    below = np.searchsorted(ordered, e, side="left")
    ties = np.searchsorted(ordered, e, side="right") - below
    return (below + tau * (1 + ties)) / (len(ordered) + 1)


def system_quantile(residuals: Real[np.ndarray, "rows"], q: float) -> tuple[float, float]:
    """Return the lower and the upper quantile of a predictive system at q.

    They are the floor(q (n + 1))-th and the ceil(q (n + 1))-th smallest residual, infinite where
    there is none, of which an interval takes the outer ones: the lower for its lower end, the upper
    for its upper end.
    """
    ordered, rows = np.sort(residuals), len(residuals)
    rank = rank_of(q, rows)
    exact = rank_of(1 - q, rows)
    # floor(q (n + 1)) = n + 1 - ceil((1 - q)(n + 1))
    below = rows + 1 - exact
    lower = -np.inf if below < 1 else float(ordered[below - 1])
    upper = np.inf if rank > rows else float(ordered[rank - 1])
    return lower, upper


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SystemPrediction(AbstractNumbers):
    """The distribution of a conformal predictive system.

    Attributes:
        stream: what computes statistics of the mixture over draws.
        target: what is predicted, and in which units.
        seed: the seed of simulated targets.
        title: what pictures call the target.
        rows: the labels of the rows, where there are any.
        base: the prediction of the model.
        scores: the residuals of the held-out rows, shape (rows,).
        members: the held-out rows of each group.
        groups: the group of each new row; None for one group.
        scaled: whether residuals are divided by the standard deviation.
    """

    base: AbstractNumbers = dataclasses.field(kw_only=True)
    scores: np.ndarray = dataclasses.field(kw_only=True)
    members: list[np.ndarray] = dataclasses.field(kw_only=True)
    groups: np.ndarray | None = dataclasses.field(kw_only=True)
    scaled: bool = dataclasses.field(kw_only=True)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the system: that of the model, shifted by the mean residual."""
        return self._of_rows(lambda residuals: float(residuals.mean()))

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of the system."""
        spreads = np.array([self.scores[members].std() for members in self.members])
        return np.asarray(
            self._spread * (spreads[0] if self.groups is None else spreads[self.groups])
        )

    @property
    def aleatoric(self) -> np.ndarray:
        """NaN: the system does not know the parts of its doubt."""
        return np.full(self.base.mean.shape, np.nan)

    @property
    def epistemic(self) -> np.ndarray:
        """NaN: the system does not know the parts of its doubt."""
        return np.full(self.base.mean.shape, np.nan)

    def quantile(self, q: ArrayLike | Sequence[float]) -> np.ndarray:
        """Compute quantiles: below 1/2 the lower, above the upper ones of `system_quantile`.

        They are infinite where the held-out rows are too few for the level.

        Args:
            q: one level, or a list of levels, between 0 and 1.
        """
        levels = np.atleast_1d(quantile_levels(q))

        def one(level: float) -> np.ndarray:
            def of(residuals: np.ndarray) -> float:
                lower, upper = system_quantile(residuals, level)
                if level == 0.5:
                    return float(np.median(residuals))
                return lower if level < 0.5 else upper

            return self._of_rows(of)

        values = np.stack([one(float(level)) for level in levels])
        return values if np.ndim(q) else values[0]

    def cdf(self, y: ColumnLike) -> np.ndarray:
        """Compute P(Y <= y), ties and the step broken in the middle."""
        values = self._values(y)
        e = (values - self.base.mean) / self._spread
        found = np.empty(e.shape)
        for g, members in enumerate(self.members):
            rows = slice(None) if self.groups is None else self.groups == g
            found[rows] = system_cdf(self.scores[members], e[rows])
        return found

    @property
    def has_density(self) -> bool:
        """False: the system has steps."""
        return False

    def log_prob(self, y: ColumnLike) -> NoReturn:
        """Refuse densities: the system has steps."""
        raise AttributeError(
            "A conformal predictive system has steps and no density: use cdf, quantile, interval "
            "and crps, or post.recalibrate(X, y) for a density."
        )

    def crps(self, y: ColumnLike) -> np.ndarray:
        """Compute the continuous ranked probability score of the residuals' distribution."""
        values = self._values(y)
        scaled = (values - self.base.mean) / self._spread
        found = np.empty(scaled.shape)
        for g, members in enumerate(self.members):
            rows = (
                np.arange(len(scaled)) if self.groups is None else np.flatnonzero(self.groups == g)
            )
            residuals = np.sort(self.scores[members])
            n = len(residuals)
            spread = np.sum((2 * np.arange(1, n + 1) - n - 1) * residuals) / n**2
            for row in rows:
                found[row] = np.mean(np.abs(residuals - scaled[row])) - spread
        return np.asarray(found * self._spread)

    def sample(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets, shape (num_samples, rows), from the residuals; row by row."""
        check_count(num_samples)
        rng = np.random.default_rng(self.seed)
        found = np.empty((num_samples, *self.base.mean.shape))
        for g, members in enumerate(self.members):
            rows = slice(None) if self.groups is None else self.groups == g
            shape = found[:, rows].shape
            found[:, rows] = rng.choice(self.scores[members], shape)
        return self.base.mean + self._spread * found

    def marginal_samples(self, num_samples: Integer = 1000) -> np.ndarray:
        """Simulate targets row by row; the same as `sample`."""
        return self.sample(num_samples)

    @property
    def _spread(self) -> Any:
        return self.base.std if self.scaled else np.ones(self.base.mean.shape)

    def _of_rows(self, statistic: Callable[[np.ndarray], float]) -> np.ndarray:
        """Return m(x) + s(x) times a statistic of the residuals of each row's group."""
        found = np.array([statistic(self.scores[members]) for members in self.members])
        chosen = found[0] if self.groups is None else found[self.groups]
        with np.errstate(invalid="ignore"):
            return self.base.mean + self._spread * chosen
