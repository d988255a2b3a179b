"""The law of c + s Z for a Z with bars: bars stay where they are, and values move, so that nothing is lost to rounding."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from inference.distributions.bars import Bars


class Moved(Distribution):
    """See the module's docstring.

    Args:
        bars: the law of Z.
        center: c, which broadcasts to the law's batch.
        spread: s > 0, likewise.

    Example:
        >>> law = Moved(Bars(jnp.zeros(3), jnp.array([0.0, 1.0]), jnp.ones(2)), jnp.array(3.0), jnp.array(2.0))
        >>> [round(float(v), 4) for v in (law.mean, law.cdf(jnp.array(4.0)), law.icdf(jnp.array(0.5)))]
        [4.0, 0.5, 4.0]
    """

    arg_constraints: ClassVar = {"center": constraints.real, "spread": constraints.positive}
    support: Any = constraints.real
    reparametrized_params: ClassVar = []
    pytree_data_fields: ClassVar = ("bars", "center", "spread")

    def __init__(
        self, bars: Bars, center: Any, spread: Any, *, validate_args: bool | None = None
    ) -> None:
        self.bars = bars
        self.center, self.spread = (
            jnp.broadcast_to(part, bars.batch_shape) for part in (center, spread)
        )
        super().__init__(bars.batch_shape, (), validate_args=validate_args)

    def standard(self, value: Any) -> jax.Array:
        """Z where the law's variable has this value."""
        shape = jnp.broadcast_shapes(jnp.shape(value), self.batch_shape)
        center, spread = (jnp.broadcast_to(part, shape) for part in (self.center, self.spread))
        return (jnp.broadcast_to(value, shape) - center) / spread

    def back(self, z: jax.Array) -> jax.Array:
        """The inverse of `standard`."""
        return jnp.broadcast_to(self.center, z.shape) + jnp.broadcast_to(self.spread, z.shape) * z

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """Log density."""
        log_q = self.bars.log_prob(self.standard(value))
        return log_q - jnp.broadcast_to(jnp.log(self.spread), log_q.shape)

    def cdf(self, value: Any) -> jax.Array:
        """P(Y <= value)."""
        return self.bars.cdf(self.standard(value))

    def icdf(self, q: Any) -> jax.Array:
        """Quantiles."""
        return self.back(self.bars.icdf(q))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        return self.back(self.bars.sample(key, sample_shape))

    def crps(self, value: Any) -> jax.Array:
        """Int (F(t) - [t >= value])^2 dt."""
        return self.spread * self.bars.crps(self.standard(value))

    @property
    def mean(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.back(self.bars.mean)

    @property
    def variance(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.spread**2 * self.bars.variance


def moved(law: Any, units: jax.Array | None) -> Any:
    """Laws of queries, shape (..., queries), in units (center, spread), shape (..., 2); as they are where there are none."""
    return law if units is None else Moved(law, units[..., None, 0], units[..., None, 1])
