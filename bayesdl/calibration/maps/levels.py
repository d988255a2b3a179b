"""Maps of levels: F*(y) = R(F(y)), with R a distribution function on [0, 1] that has a density.

    cdf R(F(y)),   quantile F^-1(R^-1(q)),   log density log p(y) + log r(F(y)),   r = R'

"beta" is the distribution Beta(a, b), with log a and log b ~ N(0, 0.5^2). "spline" is a mixture of
normalised quadratic B-splines whose weights have a Dirichlet prior (M-splines; Ramsay 1988), so
that R is a monotone spline; both stay near the identity where little is known. "isotonic" is
the isotonic regression of the empirical levels on the stated ones (Kuleshov, Fenner and Ermon 2018,
arXiv:1807.00263): it has no density.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from inference.core.typing import Info
from inference.process.cached import cached

Levels = Float[np.ndarray, "*rows"]

# levels nearer to 0 and 1 are rounding
NEAR = 1e-7
# how far log a and log b are from 0, before data
PRIOR_SCALE = 0.5
# knots inside (0, 1), and how many rows the prior of the weights is worth
KNOTS, DEGREE, PRIOR_ROWS = 7, 2, 10.0


def _inside(u: np.ndarray) -> np.ndarray:
    """Return levels within rounding of [0, 1]."""
    return np.asarray(np.clip(u, NEAR, 1 - NEAR))


class AbstractLevelMap(abc.ABC):
    """A monotone map R of [0, 1] onto itself.

    Attributes:
        name: what files call it.
        has_density: whether it has a density.
    """

    name: ClassVar[str]
    has_density: ClassVar[bool] = True

    @abc.abstractmethod
    def cdf(self, u: np.ndarray) -> np.ndarray:
        """Compute R(u)."""

    @abc.abstractmethod
    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Compute R^-1(q)."""

    @abc.abstractmethod
    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Compute log r(u)."""

    @abc.abstractmethod
    def stored(self) -> Info:
        """Return its numbers by name."""


@dataclasses.dataclass(frozen=True)
class NoMap(AbstractLevelMap):
    """The identity: predictions that need no change."""

    name: ClassVar[str] = "none"

    def cdf(self, u: np.ndarray) -> np.ndarray:
        return u

    def quantile(self, q: np.ndarray) -> np.ndarray:
        return q

    def log_density(self, u: np.ndarray) -> np.ndarray:
        return np.zeros(np.shape(u))

    def stored(self) -> Info:
        return {}


@dataclasses.dataclass(frozen=True)
class BetaMap(AbstractLevelMap):
    """R is the distribution function of Beta(a, b).

    Attributes:
        a: its first parameter.
        b: its second parameter.
    """

    a: float
    b: float
    name: ClassVar[str] = "beta"

    def cdf(self, u: np.ndarray) -> np.ndarray:
        from scipy.special import betainc

        return np.asarray(betainc(self.a, self.b, u))

    def quantile(self, q: np.ndarray) -> np.ndarray:
        from scipy.special import betaincinv

        return np.asarray(betaincinv(self.a, self.b, q))

    def log_density(self, u: np.ndarray) -> np.ndarray:
        from scipy.special import betaln

        u = _inside(u)
        kernel = (self.a - 1) * np.log(u) + (self.b - 1) * np.log1p(-u)
        return np.asarray(kernel - betaln(self.a, self.b))

    def stored(self) -> Info:
        return {"a": self.a, "b": self.b}


@dataclasses.dataclass(frozen=True, eq=False)
class SplineMap(AbstractLevelMap):
    """R is a mixture of integrated B-splines.

    Attributes:
        weights: the weights of the mixture.
    """

    weights: np.ndarray
    name: ClassVar[str] = "spline"

    def cdf(self, u: np.ndarray) -> np.ndarray:
        values = self._integral(np.clip(u, 0.0, 1.0))
        return np.asarray(np.clip(values, 0.0, 1.0))

    def quantile(self, q: np.ndarray) -> np.ndarray:
        low, high = np.zeros(np.shape(q)), np.ones(np.shape(q))
        for _ in range(50):
            middle = (low + high) / 2
            below = self.cdf(middle) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(self._spline(_inside(u)), NEAR)))

    def stored(self) -> Info:
        return {"weights": self.weights}

    @cached
    def _integral(self) -> Any:
        return self._spline.antiderivative()

    @cached
    def _spline(self) -> Any:
        from scipy.interpolate import BSpline

        knots, areas = _knots()
        return BSpline(knots, self.weights / areas, DEGREE)


@dataclasses.dataclass(frozen=True, eq=False)
class IsotonicMap(AbstractLevelMap):
    """R is the isotonic regression of empirical levels on stated ones.

    Attributes:
        stated: the stated levels, ascending from 0 to 1.
        reached: the shares of rows at or below them.
    """

    stated: np.ndarray
    reached: np.ndarray
    name: ClassVar[str] = "isotonic"
    has_density: ClassVar[bool] = False

    def cdf(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(u, self.stated, self.reached))

    def quantile(self, q: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(q, self.reached, self.stated))

    def log_density(self, u: np.ndarray) -> np.ndarray:
        raise AttributeError(
            "An isotonic map has no density: use cdf, quantile and interval, or "
            "post.recalibrate(map='spline')."
        )

    def stored(self) -> Info:
        return {"stated": self.stated, "reached": self.reached}


def _knots() -> tuple[np.ndarray, np.ndarray]:
    """Return the knots of the splines, and the area under each."""
    middle = np.linspace(0, 1, KNOTS + 2)
    knots = np.concatenate([np.zeros(DEGREE), middle, np.ones(DEGREE)])
    return knots, (knots[DEGREE + 1 :] - knots[: -DEGREE - 1]) / (DEGREE + 1)


def fit_beta(u: Float[np.ndarray, "rows"]) -> BetaMap:
    """Fit a Beta distribution to levels, at the mode of its posterior.

    Example:
        >>> made = fit_beta(np.linspace(0.001, 0.999, 999))
        >>> abs(made.a - 1) < 0.01 and abs(made.b - 1) < 0.01
        True
    """
    from scipy.optimize import minimize
    from scipy.special import betaln

    u = _inside(u)
    rows, logs, others = len(u), np.log(u).sum(), np.log1p(-u).sum()

    def loss(logarithms: np.ndarray) -> float:
        a, b = np.exp(logarithms)
        fit = (a - 1) * logs + (b - 1) * others - rows * betaln(a, b)
        return float(-fit + np.sum(logarithms**2) / (2 * PRIOR_SCALE**2))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6})
    a, b = np.exp(found.x)
    return BetaMap(float(a), float(b))


def fit_spline(u: Float[np.ndarray, "rows"]) -> SplineMap:
    """Fit the weights of a spline to levels, at the mode of their posterior, by EM."""
    from scipy.interpolate import BSpline

    knots, areas = _knots()
    basis = BSpline.design_matrix(_inside(u), knots, DEGREE).toarray() / areas
    # of the uniform distribution: each spline has its area
    prior = areas / areas.sum()
    weights = prior.copy()
    for _ in range(300):
        share = basis * weights
        share /= share.sum(1, keepdims=True)
        renewed = share.sum(0) + PRIOR_ROWS * prior
        renewed /= renewed.sum()
        if np.max(np.abs(renewed - weights)) < 1e-9:
            break
        weights = renewed
    return SplineMap(weights)


def fit_isotonic(u: Float[np.ndarray, "rows"]) -> IsotonicMap:
    """Fit the isotonic regression of empirical levels on stated ones."""
    from sklearn.isotonic import IsotonicRegression

    stated = np.sort(u)
    shares = np.searchsorted(stated, stated, side="right") / (len(u) + 1)
    model = IsotonicRegression(y_min=0, y_max=1).fit(stated, shares)
    points = np.concatenate([[0.0], np.asarray(model.X_thresholds_), [1.0]])
    return IsotonicMap(points, np.concatenate([[0.0], np.asarray(model.y_thresholds_), [1.0]]))


FITTERS = {"beta": fit_beta, "spline": fit_spline, "isotonic": fit_isotonic}
MAPS = {cls.name: cls for cls in (NoMap, BetaMap, SplineMap, IsotonicMap)}
