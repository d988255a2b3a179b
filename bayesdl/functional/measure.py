"""Measurement sets: the inputs at which functions are compared, in the units that the model sees."""

from __future__ import annotations

import dataclasses

import numpy as np

from bayesdl.data.validation import DataError

NUM_POINTS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class PointSampler:
    """Real rows mixed with draws from a box around them, new ones at each step; a fixed grid where there is one input.

    Attributes:
        rows: standardised training inputs.
        num_points: of a set.
        real: share of real rows.
        pad: by which the box is larger than the rows' range, on each side, as a share of it.
    """

    rows: np.ndarray
    num_points: int
    real: float
    pad: float

    @classmethod
    def from_rows(
        cls, rows: np.ndarray, num_points: int | None, real: float, pad: float
    ) -> PointSampler:
        """Checked, with as many points as there are rows for by default.

        Raises:
            DataError: where more real rows are asked for than there are.
        """
        for name, value in (("real", real), ("pad", pad)):
            if not 0 <= value <= 1:
                raise DataError(f"{name}={value}: expected a share between 0 and 1.")
        has_grid = has_one_input(rows)
        if num_points is None:
            most = NUM_POINTS if has_grid or real == 0 else int(len(rows) / real)
            num_points = min(NUM_POINTS, most)
        if num_points < 2:
            raise DataError(f"num_points={num_points}: expected at least 2.")
        if not has_grid and round(real * num_points) > len(rows):
            raise DataError(
                f"inputs has {len(rows)} rows and num_points={num_points} with real={real} asks for "
                f"{round(real * num_points)} of them: give more rows, or lower num_points or real."
            )
        return cls(rows, num_points, real, pad)

    def draw(self, rng: np.random.Generator, num_sets: int) -> np.ndarray:
        """Sets of points, shape (sets, points, *row shape)."""
        low, high = self.rows.min(0), self.rows.max(0)
        low, high = low - self.pad * (high - low), high + self.pad * (high - low)
        if has_one_input(self.rows):
            grid = np.linspace(low, high, self.num_points)
            return np.broadcast_to(grid, (num_sets, *grid.shape))
        num_real = round(self.real * self.num_points)
        chosen = rng.permuted(np.tile(np.arange(len(self.rows)), (num_sets, 1)), axis=1)[
            :, :num_real
        ]
        box = rng.uniform(low, high, (num_sets, self.num_points - num_real, *self.rows.shape[1:]))
        return np.concatenate([self.rows[chosen], box], axis=1)


def has_one_input(rows: np.ndarray) -> bool:
    """Whether there is one input."""
    return rows.ndim == 2 and rows.shape[1] == 1
