"""How the functions of a prior differ from those of a target: numbers per point and over all points.

sd ratio           sd of the network's values over the target's, at each point
marginal W1        the 1-Wasserstein distance of the values, at each point
correlation error  the root mean square difference of the two correlation matrices
kurtosis           excess kurtosis of the values, mean over points
sliced W1          the mean over directions u, |u| = 1, of the 1-Wasserstein distance of u . f and u . g; its floor is that
                   between two sets of functions of the target
W1 bound           |E|f| - E|g|| less three standard errors: no more than the 1-Wasserstein distance of f and g
p                  of a permutation test of equal distributions by the energy distance (Szekely and Rizzo 2013), at least 0.005

Norms are Euclidean over all values. Floors fall with the root of the number of functions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from bayesdl.functional.draws import draw_functions
from bayesdl.functional.losses import pairwise_distances
from bayesdl.priors.base import AbstractPrior, count_layers

if TYPE_CHECKING:
    from bayesdl.functional.match import MatchingProblem

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
DIRECTIONS, PERMUTATIONS, TESTED = 500, 199, 500
NEAR, USUAL = 2.0, 500  # as many floors of sliced W1 with as many functions are near
HEAVY = 1.0  # excess kurtosis of a target with heavy tails, of which a quarter is to be met


TAILS = " Normal weights cannot have such tails: take family=bdl.priors.LayerHierarchical() or ScaleFlow()."


class PriorMismatch(ValueError):
    """The functions of a prior are not as they were required to be.

    Example:
        >>> issubclass(PriorMismatch, ValueError)
        True
    """


@dataclasses.dataclass(frozen=True, eq=False)
class PriorReport:
    """What `bdl.prior_report` found.

    Attributes:
        points: at which functions were compared, in the user's units, shape (points, ...).
        network: functions of the network, shape (functions, values); values are points, then outputs.
        target: the same of the target.
        quantiles: of network and target at 5, 25, 50, 75 and 95 %, shape (2, 5, values).
        sd_ratio: sd of the network's values over the target's, for each value.
        marginal_w1: 1-Wasserstein distance of the network's and the target's, for each value.
        correlation_error: root mean square difference of the correlations of all pairs of values.
        kurtosis: excess kurtosis of network and target, mean over values.
        sliced_w1: over all values.
        floor: what sliced_w1 is between two sets of the target's functions.
        w1_bound: a lower bound of the 1-Wasserstein distance.
        p_value: of equal distributions.
        jitter: that the target's Cholesky factors needed, relative to the mean variance.
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
        """Whether sliced W1 is below twice its floor with 500 functions, the median sd within 30 %, and heavy tails are met."""
        usual = self.floor * np.sqrt(
            len(self.target) / USUAL
        )  # the floor falls with the root of their number
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
        """The report in a line."""
        return (
            f"sd ratio {np.median(self.sd_ratio):.2f}, correlation error {self.correlation_error:.2f}, sliced W1 "
            f"{self.sliced_w1:.2f} (two sets of the target's functions: {self.floor:.2f}), excess kurtosis "
            f"{self.kurtosis[0]:.1f} (target {self.kurtosis[1]:.1f})."
        ) + (TAILS if self.lacks_tails else "")

    def require(
        self,
        *,
        sd_ratio: Any = None,
        marginal_w1: float | None = None,
        correlation_error: float | None = None,
        sliced_w1: float | None = None,
        sliced_w1_over_floor: float | None = None,
    ) -> PriorReport:
        """Raises where a number is not within its limit; those of points must hold at each of them.

        Args:
            sd_ratio: (least, most) at each point.
            marginal_w1: the most at each point.
            correlation_error: the most.
            sliced_w1: the most.
            sliced_w1_over_floor: the most, in floors; a floor is smaller the more functions were drawn.

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
                "require(): nothing is required; give limits, e.g. require(sd_ratio=(0.8, 1.25), sliced_w1_over_floor=2)."
            )
        if sd_ratio is not None and np.shape(sd_ratio) != (2,):
            raise ValueError(
                f"require(sd_ratio={sd_ratio!r}): expected (least, most), e.g. (0.8, 1.25)."
            )
        if sd_ratio is not None:
            outside = np.maximum(sd_ratio[0] / self.sd_ratio, self.sd_ratio / sd_ratio[1])
            self.check_points(
                "sd ratio", self.sd_ratio, outside, f"between {sd_ratio[0]:g} and {sd_ratio[1]:g}"
            )
        if marginal_w1 is not None:
            self.check_points(
                "marginal W1",
                self.marginal_w1,
                self.marginal_w1 / marginal_w1,
                f"at most {marginal_w1:g}",
            )
        limits = {
            "correlation error": (self.correlation_error, correlation_error),
            "sliced W1": (self.sliced_w1, sliced_w1),
            "sliced W1 over its floor": (self.sliced_w1 / self.floor, sliced_w1_over_floor),
        }
        for name, (value, limit) in limits.items():
            if limit is not None and not value <= limit:  # not a number is a mismatch too
                raise PriorMismatch(
                    f"{name} is {value:.3g}, required at most {limit:g}. {self.line} Match longer, or try another family."
                )
        return self

    def check_points(self, name: str, values: np.ndarray, outside: np.ndarray, wanted: str) -> None:
        """Raises where a number of points is outside its limits.

        Raises:
            PriorMismatch: naming the worst points.
        """
        bad = np.flatnonzero(~(outside <= 1))
        if not bad.size:
            return
        worst = bad[np.argsort(-outside[bad])][:3]
        outputs = len(values) // len(self.points)
        where = "; ".join(
            f"{values[i]:.3g} at {describe_point(self.points[i // outputs])}" for i in worst
        )
        raise PriorMismatch(
            f"{name} is not {wanted} at {bad.size} of {len(values)} points, worst: {where}. {self.line}"
        )

    def plot(self, before: PriorReport | None = None, axes: Any = None) -> Any:
        """Functions of the network and of the target, and before matching where that report is given.

        Args:
            before: the report of the model with its earlier prior, with the same inputs.
            axes: matplotlib axes, one per panel.

        Returns:
            The axes.
        """
        from bayesdl.plots.functional import plot_report

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
            ("p of equal laws", f"{self.p_value:.3f}"),
            ("jitter", f"{self.jitter:.0e}"),
        ]
        head = (
            "The functions are near the target's."
            if self.close
            else "The functions are NOT near the target's."
        )
        return "\n".join([head, *(f"{name:<18} {value}" for name, value in rows)])


def describe_point(point: np.ndarray) -> str:
    """A point in a few characters."""
    flat = np.ravel(point)
    cells = ", ".join(f"{value:.3g}" for value in flat[:4])
    return f"x = ({cells}{', ...' if flat.size > 4 else ''})"


def compare_functions(
    setting: MatchingProblem, prior: AbstractPrior, points: np.ndarray, num: int, seed: int
) -> PriorReport:
    """The report of a prior at points that the network sees."""
    from scipy import stats

    prior.check(count_layers(setting.arrays), setting.net.activation)
    f = draw_functions(setting.net, setting.arrays, prior, points, num, seed)
    g, other = setting.target.draw(jax.random.key(seed), points[None], 2 * num)[0].reshape(
        2, num, -1
    )
    rng = np.random.default_rng(seed)
    shift, scale = np.array(setting.columns.shift), np.array(setting.columns.scale)
    return PriorReport(
        points=points * scale + shift,
        network=f,
        target=g,
        quantiles=np.stack([np.quantile(values, LEVELS, axis=0) for values in (f, g)]),
        sd_ratio=f.std(0) / g.std(0),
        marginal_w1=np.abs(np.sort(f, 0) - np.sort(g, 0)).mean(0),
        correlation_error=correlation_error(f, g),
        kurtosis=(float(stats.kurtosis(f).mean()), float(stats.kurtosis(g).mean())),
        sliced_w1=sliced_w1(f, g, rng),
        floor=sliced_w1(other, g, rng),
        w1_bound=w1_bound(f, g),
        p_value=permutation_p_value(f[:TESTED], g[:TESTED], rng),
        jitter=setting.target.jitter,
    )


def correlation_error(f: np.ndarray, g: np.ndarray) -> float:
    """See above; values that do not vary have no correlation and are left out."""
    varies = (f.std(0) > 0) & (g.std(0) > 0)
    if not varies.any():
        return float("nan")
    one, other = (np.atleast_2d(np.corrcoef(part[:, varies].T)) for part in (f, g))
    return float(np.sqrt(np.mean((one - other) ** 2)))


def w1_bound(f: np.ndarray, g: np.ndarray) -> float:
    """See above: the norm is a function with slope at most one."""
    ours, theirs = np.linalg.norm(f, axis=1), np.linalg.norm(g, axis=1)
    error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
    return float(max(0.0, abs(ours.mean() - theirs.mean()) - 3 * error))


def sliced_w1(f: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> float:
    """The sliced 1-Wasserstein distance of two sets of as many functions."""
    directions = rng.normal(size=(f.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.abs(np.sort(f @ directions, 0) - np.sort(g @ directions, 0)).mean())


def permutation_p_value(f: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> float:
    """The p-value of the energy test: how often shuffled labels give a distance as large."""
    pooled = np.concatenate([f, g])
    D = np.asarray(pairwise_distances(jax.numpy.asarray(pooled), jax.numpy.asarray(pooled)), float)
    labels = np.repeat([1.0, -1.0], len(f)) / len(f)
    shuffled = np.stack([labels, *(rng.permutation(labels) for _ in range(PERMUTATIONS))])
    energies = -np.einsum("pi,ij,pj->p", shuffled, D, shuffled, optimize=True)
    return float(np.mean(energies >= energies[0] - 1e-12))
