"""The settings of sparse subspace variational inference, and what follows from them alone."""

from __future__ import annotations

import dataclasses
import math
import re

from inference.core.engine import (
    AbstractEngine,
    check_choice,
    check_positive_integers,
)
from inference.core.typing import (
    Allocation,
    Biases,
    Growth,
    Optimizer,
    SparseEstimator,
    SparseKernel,
)
from inference.settings import check_positive
from inference.sparse.patterns.budget import ALLOCATIONS, Shapes
from inference.sparse.products.kernels import KERNELS
from inference.sparse.products.sparse_product import ESTIMATORS
from inference.sparse.training.scores import REMOVALS, Removal


@dataclasses.dataclass(frozen=True)
class AbstractSparseEngine(AbstractEngine):
    """The settings of `SSVI`, which documents them, for the code that trains."""

    density: float = 0.1
    allocation: Allocation = "uniform"
    structure: str = "unstructured"
    dense_output: bool | None = None
    removal: Removal = "snr"
    growth: Growth = "gradient"
    every: int = 100
    rate: float = 0.3
    stop: float = 0.75
    growth_batches: int = 3
    estimator: SparseEstimator = "local"
    beta: float = 1.0
    biases: Biases = "point"
    kernel: SparseKernel = "auto"
    steps: int = 10_000
    batch_size: int = 128
    optimizer: Optimizer | None = None
    learning_rate: float = 0.01
    initial_scale: float = 0.02
    num_samples: int = 100

    def __post_init__(self) -> None:
        self.check_words()
        self.check_numbers()
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"SSVI(optimizer={self.optimizer!r}): expected an optax optimiser such as "
                "optax.adam(1e-2)."
            )
        if self.allocation == "global" and self.structure != "unstructured":
            raise ValueError(
                f"SSVI(allocation='global', structure={self.structure!r}): a global budget is of "
                "single weights."
            )

    def check_words(self) -> None:
        """Refuse settings that are not one of the allowed words.

        Raises:
            ValueError: listing the allowed words.
        """
        for name, allowed in (
            ("allocation", ALLOCATIONS),
            ("growth", ("gradient", "random")),
            ("estimator", ESTIMATORS),
            ("biases", ("point", "normal")),
            ("kernel", ("auto", *(name for name in KERNELS if name != "dense"))),
        ):
            check_choice(self, name, allowed)
        if not callable(self.removal) and self.removal not in REMOVALS:
            words = ", ".join(map(repr, REMOVALS))
            raise ValueError(
                f"SSVI(removal={self.removal!r}): expected one of {words}, or a function of "
                "(mean, sd)."
            )
        if self.dense_output not in (True, False, None):
            raise ValueError(
                f"SSVI(dense_output={self.dense_output!r}): expected True, False or None."
            )
        if not re.fullmatch(r"unstructured|fan_in|neurons|block:[1-9]\d*", str(self.structure)):
            raise ValueError(
                f"SSVI(structure={self.structure!r}): expected 'unstructured', 'fan_in', 'neurons' "
                "or e.g. 'block:16'."
            )

    def check_numbers(self) -> None:
        """Refuse settings that are not numbers, or out of range.

        Raises:
            ValueError: saying what was got and what is expected.
        """
        for name in ("density", "rate", "stop", "learning_rate", "initial_scale", "beta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"SSVI({name}={value!r}): expected a number.")
        check_positive(self, "learning_rate", "initial_scale", "beta")
        counts = ("steps", "batch_size", "every", "growth_batches", "num_samples")
        check_positive_integers(self, *counts)
        for name, low in (("density", "0 <"), ("rate", "0 <="), ("stop", "0 <=")):
            value = getattr(self, name)
            if not (0 <= value <= 1) or (name == "density" and value == 0):
                raise ValueError(
                    f"SSVI({name}={value!r}): expected a number with {low} {name} <= 1."
                )

    @property
    def objective_name(self) -> str:
        """The name of what is maximised: "elbo", or "tempered_elbo(beta=...)"."""
        return "elbo" if self.beta == 1 else f"tempered_elbo(beta={self.beta:g})"

    def keeps_output_dense(self, shapes: Shapes) -> bool:
        """Whether the last of these layers stays dense."""
        if self.dense_output is not None:
            return self.dense_output
        sizes = [math.prod(shape) for shape in shapes.values()]
        return self.structure == "neurons" or sizes[-1] <= self.density * sum(sizes) / 2

    def exchange_rate(self, step: int) -> float:
        """Return the share of the active tiles to exchange after a step.

        It falls along a cosine from `rate` to 0 at `stop`.
        """
        end = self.stop * self.steps
        if step >= end:
            return 0.0
        return self.rate / 2 * (1 + math.cos(math.pi * step / end))

    def make_optimizer(self) -> Optimizer:
        """Return the optimiser: the one that was given, or Adam with a cosine schedule."""
        import optax

        if self.optimizer is not None:
            return self.optimizer
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))
