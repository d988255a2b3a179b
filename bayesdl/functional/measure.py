"""Measurement sets: the inputs at which functions are compared, in the units of the model."""

from __future__ import annotations

import dataclasses

import numpy as np

from bayesdl.data.validation import DataError

NUM_POINTS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class PointSampler:
    """A sampler of points: rows of inputs mixed with draws from a box around them.

    Each set of points is new; with one input it is a fixed grid.

    Attributes:
        rows: the standardised training inputs.
        num_points: the number of points of a set.
        real: the share of points that are rows.
        pad: the margin of the box around the rows' range, on each side, as a share of the range.
    """

    rows: np.ndarray
    num_points: int
    real: float
    pad: float

    @classmethod
    def from_rows(
        cls, rows: np.ndarray, num_points: int | None, real: float, pad: float
    ) -> PointSampler:
        """Make a sampler, by default with as many points as the rows allow, at most 100.

        Raises:
            DataError: where more rows are asked for than there are.
        """
        for name, value in (("real", real), ("pad", pad)):
            if not 0 <= value <= 1:
                raise DataError(f"{name}={value}: expected a share between 0 and 1.")
        has_grid = _has_one_input(rows)
        if num_points is None:
            most = NUM_POINTS if has_grid or real == 0 else int(len(rows) / real)
            num_points = min(NUM_POINTS, most)
        if num_points < 2:
            raise DataError(f"num_points={num_points}: expected at least 2.")
        if not has_grid and round(real * num_points) > len(rows):
            raise DataError(
                f"inputs has {len(rows)} rows and num_points={num_points} with real={real} asks "
                f"for {round(real * num_points)} of them: give more rows, or lower num_points or "
                "real."
            )
        return cls(rows, num_points, real, pad)

    def draw(self, rng: np.random.Generator, num_sets: int) -> np.ndarray:
        """Draw sets of points, shape (sets, points, *row shape)."""
        low, high = self.rows.min(0), self.rows.max(0)
        low, high = low - self.pad * (high - low), high + self.pad * (high - low)
        if _has_one_input(self.rows):
            grid = np.linspace(low, high, self.num_points)
            return np.broadcast_to(grid, (num_sets, *grid.shape))
        num_real = round(self.real * self.num_points)
        orders = rng.permuted(np.tile(np.arange(len(self.rows)), (num_sets, 1)), axis=1)
        box = rng.uniform(low, high, (num_sets, self.num_points - num_real, *self.rows.shape[1:]))
        return np.concatenate([self.rows[orders[:, :num_real]], box], axis=1)


def _has_one_input(rows: np.ndarray) -> bool:
    """Whether rows have a single column."""
    return rows.ndim == 2 and rows.shape[1] == 1
