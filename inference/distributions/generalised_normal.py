"""The generalised normal distribution: from heavy tails (Laplace at 1) over normal (2) to uniform.

    log p(y) = log beta - log(2 alpha) - log Gamma(1 / beta) - (|y - m| / alpha)^beta
    F(y) = Q(1 / beta, (|y - m| / alpha)^beta) / 2 below m, and one minus that above
    sd^2 = alpha^2 Gamma(3 / beta) / Gamma(1 / beta)

with the regularised upper incomplete gamma function Q (Nadarajah 2005, "A generalized normal
distribution", Journal of Applied Statistics 32).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import gammaincc, gammaln
from jax.typing import ArrayLike
from numpyro.distributions.util import promote_shapes


class GeneralisedNormal(dist.Distribution):
    """The generalised normal distribution.

    Args:
        loc: the mean m.
        scale: alpha.
        power: beta.

    Example:
        >>> import numpyro.distributions as dist
        >>> y = jnp.array(0.3)
        >>> ours = GeneralisedNormal(0.0, 2**0.5, 2.0).log_prob(y)
        >>> bool(jnp.allclose(ours, dist.Normal(0, 1).log_prob(y), atol=1e-6))
        True
    """

    arg_constraints = {  # noqa: RUF012
        "loc": dist.constraints.real,
        "scale": dist.constraints.positive,
        "power": dist.constraints.positive,
    }
    support: Any = dist.constraints.real
    reparametrized_params = ["loc", "scale"]  # noqa: RUF012

    def __init__(
        self,
        loc: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
        power: ArrayLike = 2.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc: Any
        self.scale: Any
        self.power: Any
        promoted: Any = promote_shapes(loc, scale, power)
        self.loc, self.scale, self.power = promoted
        batch = jax.lax.broadcast_shapes(*(jnp.shape(x) for x in (loc, scale, power)))
        super().__init__(batch_shape=batch, validate_args=validate_args)

    def log_prob(self, value: ArrayLike) -> Array:
        """Compute the log density."""
        z = jnp.abs(value - self.loc) / self.scale
        # the slope of 0^beta is not a number
        safe = jnp.where(z > 0, z, 1.0)
        raised = jnp.where(z > 0, safe**self.power, 0.0)
        constant = jnp.log(self.power) - jnp.log(2 * self.scale) - gammaln(1 / self.power)
        return constant - raised

    def cdf(self, value: ArrayLike) -> Array:
        """Compute P(Y <= value)."""
        z = (value - self.loc) / self.scale
        safe = jnp.where(z == 0, 1.0, jnp.abs(z))
        # the tail beyond |z| on one side, which keeps its digits where it is small
        tail = 0.5 * jnp.where(z == 0, 1.0, gammaincc(1 / self.power, safe**self.power))
        return jnp.where(z < 0, tail, 1 - tail)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw targets, by |z|^beta ~ Gamma(1 / beta)."""
        shape = sample_shape + self.batch_shape
        size, side = jax.random.split(key)
        inverse = 1 / jnp.broadcast_to(self.power, shape)
        z = jax.random.gamma(size, inverse, shape) ** inverse
        sign = jax.random.rademacher(side, shape, z.dtype)
        return self.loc + self.scale * sign * z

    @property
    def mean(self) -> Array:
        """The mean."""
        return jnp.broadcast_to(self.loc, self.batch_shape)

    @property
    def variance(self) -> Array:
        """The variance."""
        ratio = jnp.exp(gammaln(3 / self.power) - gammaln(1 / self.power))
        return jnp.broadcast_to(self.scale**2 * ratio, self.batch_shape)
