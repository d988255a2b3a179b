"""How a user's posterior is found from the encoder's answer, as users ask for it."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Refinement:
    """How a user's posterior is found from the encoder's answer.

    Attributes:
        steps: the number of optimisation steps of each user's mean and variance; zero takes those
            of the encoder.
        likelihood_power: the power of the likelihood in the posterior; None for that of training.
    """

    steps: int = 0
    likelihood_power: float | int | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.steps, int | np.integer) and not isinstance(self.steps, bool)
        if not whole or self.steps < 0:
            raise ValueError(f"refine_steps={self.steps!r}: expected a whole number of at least 0.")
        if self.likelihood_power is not None and not self.likelihood_power > 0:
            raise ValueError(
                f"likelihood_power={self.likelihood_power!r}: expected a number above zero."
            )
        if self.likelihood_power is not None and not self.steps:
            raise ValueError(
                "likelihood_power: the encoder knows that of training; give refine_steps too, "
                "such as 100."
            )
