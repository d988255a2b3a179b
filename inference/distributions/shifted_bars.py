"""The distribution of c + s Z for a Z with bars.

The bars stay where they are and values are mapped to them, so that nothing is lost to rounding.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import CategoricalLogits, Distribution, constraints

from inference.distributions.bars import Bars


class ShiftedBars(Distribution):
    """The distribution of center + spread * Z, where Z has bars.

    Args:
        bars: the distribution of Z.
        center: the shift c, which broadcasts to the batch of the bars.
        spread: the scale s > 0, which broadcasts likewise.

    Example:
        >>> bars = Bars(jnp.zeros(3), jnp.array([0.0, 1.0]), jnp.ones(2))
        >>> y = ShiftedBars(bars, jnp.array(3.0), jnp.array(2.0))
        >>> [round(float(v), 4) for v in (y.mean, y.cdf(jnp.array(4.0)), y.icdf(jnp.array(0.5)))]
        [4.0, 0.5, 4.0]
    """

    arg_constraints: ClassVar = {"center": constraints.real, "spread": constraints.positive}
    support: Any = constraints.real
    reparametrized_params: ClassVar = []
    pytree_data_fields: ClassVar = ("bars", "center", "spread")

    def __init__(
        self,
        bars: Bars,
        center: ArrayLike,
        spread: ArrayLike,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.bars = bars
        self.center, self.spread = (
            jnp.broadcast_to(part, bars.batch_shape) for part in (center, spread)
        )
        super().__init__(bars.batch_shape, (), validate_args=validate_args)

    def standardize(self, value: ArrayLike) -> jax.Array:
        """Return the Z that belongs to a value: (value - center) / spread."""
        shape = jnp.broadcast_shapes(jnp.shape(value), self.batch_shape)
        center, spread = (jnp.broadcast_to(part, shape) for part in (self.center, self.spread))
        return (jnp.broadcast_to(value, shape) - center) / spread

    def unstandardize(self, z: jax.Array) -> jax.Array:
        """Return center + spread * z, the inverse of `standardize`."""
        return jnp.broadcast_to(self.center, z.shape) + jnp.broadcast_to(self.spread, z.shape) * z

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> jax.Array:
        """Return the log density."""
        log_q = self.bars.log_prob(self.standardize(value))
        return log_q - jnp.broadcast_to(jnp.log(self.spread), log_q.shape)

    def cdf(self, value: ArrayLike) -> jax.Array:
        """Return P(Y <= value)."""
        return self.bars.cdf(self.standardize(value))

    def icdf(self, q: ArrayLike) -> jax.Array:
        """Return quantiles."""
        return self.unstandardize(self.bars.icdf(q))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values."""
        return self.unstandardize(self.bars.sample(key, sample_shape))

    def crps(self, value: ArrayLike) -> jax.Array:
        """Return the continuous ranked probability score, as `Bars.crps` defines it."""
        return self.spread * self.bars.crps(self.standardize(value))

    @property
    def mean(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean, shape of the batch."""
        return self.unstandardize(self.bars.mean)

    @property
    def variance(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The variance, shape of the batch."""
        return self.spread**2 * self.bars.variance


def shift_bars(
    distribution: Bars | CategoricalLogits, units: jax.Array | None
) -> Bars | ShiftedBars | CategoricalLogits:
    """Return distributions of queries in units (center, spread).

    Args:
        distribution: the distributions, batch shape (..., queries).
        units: centers and spreads, shape (..., 2); None leaves the distributions as they are.
    """
    if units is None:
        return distribution
    assert isinstance(distribution, Bars), "classes have no units"
    return ShiftedBars(distribution, units[..., None, 0], units[..., None, 1])
