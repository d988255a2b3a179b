"""The data of a problem as a network reads them, and what of them lies outside its training."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from bayesdl.amortized.trained_network import TrainedNetwork
from bayesdl.data.validation import DataError
from inference.amortized.answer import Context
from inference.amortized.tasks import TARGET
from inference.core.problem import Problem
from inference.core.program import signature_of


def program_arguments(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a problem's program by name."""
    signature = signature_of(problem.program)
    return dict(signature.bind(*problem.args, **problem.kwargs).arguments)


def inputs_and_targets(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return X and y of a problem.

    Raises:
        DataError: if they are not a table and one target a row, or have values that are not finite.
    """
    given = program_arguments(problem)
    X, y = np.asarray(next(iter(given.values()))), np.asarray(given.get(TARGET))
    if X.ndim != 2 or y.shape != (len(X),):
        raise DataError(
            f"X and y have shapes {X.shape} and {y.shape}: PFN expects (rows, columns) and (rows,)."
        )
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise DataError(
            "X or y has values that are not finite: PFN expects numbers only; leave such rows out."
        )
    return X, y


def pad_data(X: np.ndarray, y: np.ndarray, sizes: tuple[int, int], classes: bool) -> Context:
    """Return data padded to the numbers of rows and columns that a network asks for.

    Args:
        X: the inputs, shape (rows, columns).
        y: the targets, shape (rows,).
        sizes: the numbers of rows and columns, see `AbstractNetwork.padded`.
        classes: whether the targets are classes.
    """
    wide = np.zeros(sizes, np.float32)
    wide[: len(X), : X.shape[1]] = X
    long = np.zeros(sizes[0], np.int32 if classes else np.float32)
    long[: len(X)] = y
    return Context(jnp.asarray(wide), jnp.asarray(long), jnp.asarray(len(X)))


@dataclasses.dataclass(frozen=True)
class TrainingRange:
    """The range of the data that a network was trained on.

    Attributes:
        max_rows: the largest number of rows.
        max_columns: the largest number of columns.
        inputs: the least and the greatest input.
        targets: the least and the greatest target; None for classes.
    """

    max_rows: int
    max_columns: int
    inputs: tuple[float, float]
    targets: tuple[float, float] | None

    @classmethod
    def of_network(cls, trained: TrainedNetwork) -> TrainingRange:
        """Return the range that a trained network's certificate and bars give."""
        low, high = trained.certificate["inputs"]
        grid, targets = trained.grids.target, None
        if grid is not None and trained.network.shape.unit is not None:
            least, greatest = trained.certificate["targets"]
            targets = least, greatest
        elif grid is not None:
            # Four scales beyond the last edges there are next to no targets of the prior.
            edges, scales = np.asarray(grid.edges), np.asarray(grid.scales)
            targets = float(edges[0] - 4 * scales[0]), float(edges[-1] + 4 * scales[1])
        return cls(trained.tasks.max_rows, trained.tasks.num_inputs[1], (low, high), targets)

    def concerns(self, X: np.ndarray, y: np.ndarray) -> list[str]:
        """Return in words what of these data lies outside the range."""
        found = []
        if len(X) > self.max_rows:
            found.append(f"{len(X)} rows, trained for at most {self.max_rows}")
        if X.shape[1] > self.max_columns:
            found.append(f"{X.shape[1]} columns, trained for at most {self.max_columns}")
        found += self.input_concerns(X)
        if self.targets is not None and len(y):
            low, high = self.targets
            if y.min() < low or y.max() > high:
                found.append(
                    f"targets from {y.min():.3g} to {y.max():.3g}, "
                    f"trained for {low:.3g} to {high:.3g}"
                )
        return found

    def input_concerns(self, X: np.ndarray) -> list[str]:
        """Return in words what of these inputs lies outside the range."""
        low, high = self.inputs
        if not len(X) or (X.min() >= low and X.max() <= high):
            return []
        return [f"inputs from {X.min():.3g} to {X.max():.3g}, trained for {low:.3g} to {high:.3g}"]

    def new_input_concerns(
        self, num_columns: int, *args: ArrayLike, **named: ArrayLike
    ) -> list[str]:
        """Return in words what of the arguments of a prediction lies outside the range.

        Args:
            num_columns: the number of columns of the data fitted.
            *args: the new inputs.
            **named: the new inputs, if they are given by name.

        Raises:
            DataError: if they are no table of finite numbers with that many columns.
        """
        X = np.asarray((*args, *named.values())[0])
        if X.ndim != 2 or X.shape[1] != num_columns:
            raise DataError(
                f"New X has shape {X.shape}, expected (rows, {num_columns}) as in the data fitted."
            )
        if not np.isfinite(X).all():
            raise DataError(
                "New X has values that are not finite: PFN expects numbers only; leave such rows "
                "out."
            )
        return self.input_concerns(X)
