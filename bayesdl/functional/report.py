"""The report on how the functions of a prior differ from those of a target.

sd ratio           the standard deviation of the network's values over the target's, at each point
marginal W1        the 1-Wasserstein distance of the values, at each point
correlation error  the root mean square difference of the two correlation matrices
kurtosis           the excess kurtosis of the values, mean over points
sliced W1          the mean over directions u, |u| = 1, of the 1-Wasserstein distance of u . f and
                   u . g; its floor is the distance between two sets of functions of the target
W1 bound           |E|f| - E|g|| less three standard errors: no more than the 1-Wasserstein
                   distance of f and g
p                  the p-value of a permutation test of equal distributions by the energy distance
                   (Szekely and Rizzo 2013), at least 0.005

Norms are Euclidean over all values. Floors fall with the root of the number of functions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float

from bayesdl.plots.functional import plot_report
from bayesdl.typing import AxesLike

if TYPE_CHECKING:
    Limits: TypeAlias = tuple[float, float] | None
    """The least and the most, or None for no limits."""
else:
    # validated here, with an error that says the cure
    Limits = object

# sliced W1 is near below this many of its floors with the usual number of functions
NEAR, USUAL = 2.0, 500
# the excess kurtosis of a target with heavy tails, of which the network must have a quarter
HEAVY = 1.0

TAILS = (
    " Normal weights cannot have such tails: take family=bdl.priors.LayerHierarchical() or "
    "ScaleFlow()."
)


class PriorMismatch(ValueError):
    """The functions of a prior are not as they were required to be.

    Example:
        >>> issubclass(PriorMismatch, ValueError)
        True
    """


@dataclasses.dataclass(frozen=True, eq=False)
class PriorReport:
    """The findings of `bdl.prior_report`.

    Attributes:
        points: the points at which functions were compared, in the user's units, shape
            (points, ...).
        network: functions of the network, shape (functions, values); values are points, then
            outputs.
        target: functions of the target, shape (functions, values).
        quantiles: quantiles of network and target at 5, 25, 50, 75 and 95 %, shape (2, 5, values).
        sd_ratio: the standard deviation of the network's values over the target's, for each value.
        marginal_w1: the 1-Wasserstein distance of the network's and the target's values, for each
            value.
        correlation_error: the root mean square difference of the correlations of all pairs of
            values.
        kurtosis: the excess kurtosis of network and target, mean over values.
        sliced_w1: the sliced 1-Wasserstein distance over all values.
        floor: the sliced distance between two sets of the target's functions.
        w1_bound: a lower bound of the 1-Wasserstein distance.
        p_value: the p-value of a test of equal distributions.
        jitter: the jitter that the target's Cholesky factors needed, relative to the mean variance.
    """

    points: np.ndarray
    network: Float[np.ndarray, "functions values"]
    target: Float[np.ndarray, "functions values"]
    quantiles: Float[np.ndarray, "2 5 values"]
    sd_ratio: Float[np.ndarray, "values"]
    marginal_w1: Float[np.ndarray, "values"]
    correlation_error: float
    kurtosis: tuple[float, float]
    sliced_w1: float
    floor: float
    w1_bound: float
    p_value: float
    jitter: float

    @property
    def close(self) -> bool:
        """Whether the functions are near the target's.

        Sliced W1 must be below twice its floor with 500 functions, the median standard deviation
        within 30 %, and heavy tails must be met.
        """
        # the floor falls with the root of the number of functions
        usual = self.floor * np.sqrt(len(self.target) / USUAL)
        return bool(
            self.sliced_w1 < NEAR * usual
            and 1 / 1.3 < np.median(self.sd_ratio) < 1.3
            and not self.lacks_tails
        )

    @property
    def lacks_tails(self) -> bool:
        """Whether the target has heavy tails and the network does not."""
        return self.kurtosis[1] > HEAVY and self.kurtosis[0] < self.kurtosis[1] / 4

    @property
    def line(self) -> str:
        """Summary of the report in one line."""
        return (
            f"sd ratio {np.median(self.sd_ratio):.2f}, correlation error "
            f"{self.correlation_error:.2f}, sliced W1 {self.sliced_w1:.2f} (two sets of the "
            f"target's functions: {self.floor:.2f}), excess kurtosis {self.kurtosis[0]:.1f} "
            f"(target {self.kurtosis[1]:.1f})."
        ) + (TAILS if self.lacks_tails else "")

    def require(
        self,
        *,
        sd_ratio: Limits = None,
        marginal_w1: float | None = None,
        correlation_error: float | None = None,
        sliced_w1: float | None = None,
        sliced_w1_over_floor: float | None = None,
    ) -> PriorReport:
        """Raise an error where a measure is not within its limits.

        Args:
            sd_ratio: the limits (least, most) of the sd ratio at each point.
            marginal_w1: the largest marginal W1 allowed at each point.
            correlation_error: the largest correlation error allowed.
            sliced_w1: the largest sliced W1 allowed.
            sliced_w1_over_floor: the largest sliced W1 allowed, in floors; a floor is smaller the
                more functions were drawn.

        Returns:
            The report itself.

        Raises:
            PriorMismatch: naming the worst points.
            ValueError: where nothing is required, or sd_ratio is not a pair.
        """
        if all(
            limit is None
            for limit in (sd_ratio, marginal_w1, correlation_error, sliced_w1, sliced_w1_over_floor)
        ):
            raise ValueError(
                "require(): nothing is required; give limits, "
                "e.g. require(sd_ratio=(0.8, 1.25), sliced_w1_over_floor=2)."
            )
        if sd_ratio is not None:
            if np.shape(sd_ratio) != (2,):
                raise ValueError(
                    f"require(sd_ratio={sd_ratio!r}): expected (least, most), e.g. (0.8, 1.25)."
                )
            least, most = np.asarray(sd_ratio)
            outside = np.maximum(least / self.sd_ratio, self.sd_ratio / most)
            limits = f"between {least:g} and {most:g}"
            self.check_points("sd ratio", self.sd_ratio, outside, limits)
        if marginal_w1 is not None:
            outside = self.marginal_w1 / marginal_w1
            self.check_points("marginal W1", self.marginal_w1, outside, f"at most {marginal_w1:g}")
        totals = {
            "correlation error": (self.correlation_error, correlation_error),
            "sliced W1": (self.sliced_w1, sliced_w1),
            "sliced W1 over its floor": (self.sliced_w1 / self.floor, sliced_w1_over_floor),
        }
        for name, (value, limit) in totals.items():
            # not a number is a mismatch too
            if limit is not None and not value <= limit:
                raise PriorMismatch(
                    f"{name} is {value:.3g}, required at most {limit:g}. {self.line} Match longer, "
                    "or try another family."
                )
        return self

    def check_points(self, name: str, values: np.ndarray, outside: np.ndarray, wanted: str) -> None:
        """Refuse values outside their limits.

        Args:
            name: the name of the measure.
            values: the measure for each value of the functions.
            outside: a number above 1 where the measure is outside its limits.
            wanted: the limits in words.

        Raises:
            PriorMismatch: naming the worst points.
        """
        bad = np.flatnonzero(~(outside <= 1))
        if not bad.size:
            return
        worst = bad[np.argsort(-outside[bad])][:3]
        outputs = len(values) // len(self.points)
        where = "; ".join(
            f"{values[i]:.3g} at {_describe_point(self.points[i // outputs])}" for i in worst
        )
        raise PriorMismatch(
            f"{name} is not {wanted} at {bad.size} of {len(values)} points, worst: {where}. "
            f"{self.line}"
        )

    def plot(self, before: PriorReport | None = None, axes: AxesLike = None) -> np.ndarray:
        """Plot functions of the network and of the target, and those before matching.

        Args:
            before: the report of the model with its earlier prior, with the same inputs, or None.
            axes: matplotlib axes, one per panel.

        Returns:
            The axes.
        """
        return plot_report(self, before, axes)

    def __repr__(self) -> str:
        low, middle, high = np.quantile(self.sd_ratio, [0, 0.5, 1])
        rows = [
            ("points, functions", f"{len(self.points)}, {len(self.network)}"),
            ("sd ratio", f"{middle:.3f} (from {low:.3f} to {high:.3f})"),
            (
                "marginal W1",
                f"{self.marginal_w1.mean():.3f} (at most {self.marginal_w1.max():.3f})",
            ),
            ("correlation error", f"{self.correlation_error:.3f}"),
            ("excess kurtosis", f"{self.kurtosis[0]:.2f} (target {self.kurtosis[1]:.2f})"),
            ("sliced W1", f"{self.sliced_w1:.3f} (floor {self.floor:.3f})"),
            ("W1 at least", f"{self.w1_bound:.3f}"),
            ("p-value", f"{self.p_value:.3f}"),
            ("jitter", f"{self.jitter:.0e}"),
        ]
        head = (
            "The functions are near the target's."
            if self.close
            else "The functions are NOT near the target's."
        )
        return "\n".join([head, *(f"{name:<18} {value}" for name, value in rows)])


def _describe_point(point: np.ndarray) -> str:
    """Describe a point in a few characters."""
    flat = np.ravel(point)
    cells = ", ".join(f"{value:.3g}" for value in flat[:4])
    return f"x = ({cells}{', ...' if flat.size > 4 else ''})"
