"""The settings of Langevin dynamics with minibatches, as its sampler reads them."""

from __future__ import annotations

import abc
import dataclasses
from typing import TypeAlias

import jax

from inference.core.engine import check_choice, check_positive_integers
from inference.core.typing import ChainStart, Info
from inference.mcmc.engine import AbstractMCMC
from inference.mcmc.runner.sampler import Number, evenly_spaced_steps
from inference.mcmc.starts import STARTS
from inference.settings import check_positive

Scalar: TypeAlias = int | float | jax.Array
"""A number, which may be traced."""


@dataclasses.dataclass(frozen=True)
class AbstractLangevinSettings(AbstractMCMC):
    """Settings shared by the samplers with minibatches, besides those of `AbstractMCMC`.

    `SGHMC` says what each is for. The defaults of inherited settings are for steps that are cheap
    and move little.

    Attributes:
        batch_size: the number of rows per step, an even number, or None for all rows.
        step_size: the step size h, in units of the posterior's standard deviation.
        control_variates: whether gradients are differences to the gradient at an anchor.
        renew_every: the number of steps after which the anchor is renewed.
        temperature: the temperature T of the posterior, p(z | y)^(1 / T).
        start: where chains start.
    """

    num_warmup: int = 5000
    thinning: int = 50
    batch_size: int | None = 32
    step_size: float = 0.03
    control_variates: bool = False
    renew_every: int = 100
    temperature: float = 1.0
    start: ChainStart = "mode"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "step_size", "temperature")
        check_positive_integers(self, "renew_every")
        check_positive_integers(self, "batch_size", optional=True)
        check_choice(self, "start", tuple(STARTS))
        name = type(self).__name__
        if self.batch_size is not None and self.batch_size % 2:
            raise ValueError(
                f"{name}(batch_size={self.batch_size}): expected an even number, as noise is "
                "measured by halves."
            )
        if self.control_variates and self.batch_size is None:
            raise ValueError(
                f"{name}(control_variates=True, batch_size=None): all rows have no noise; give a "
                "batch_size."
            )

    def diagnosis_settings(self) -> Info:
        return {"temperature": self.temperature, "stochastic": self.batch_size is not None}

    def steps_before(self, j: Number) -> jax.Array:
        """Return the number of steps before draw j; see `AbstractSampler.steps_before`."""
        return evenly_spaced_steps(j, self.num_warmup, self.thinning)

    @abc.abstractmethod
    def damping(self, h: jax.Array) -> jax.Array:
        """Return the factor a that the momentum keeps in a step of size h."""

    def schedule(self, i: jax.Array) -> tuple[Scalar, Scalar]:
        """Return step size and temperature of step i."""
        return self.step_size, self.temperature
