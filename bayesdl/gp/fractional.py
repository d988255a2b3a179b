"""The kernel of fractional Brownian motion.

    k(s, t) = variance (|s - o|^2H + |t - o|^2H - |s - t|^2H) / 2

(Mandelbrot and Van Ness 1968). H is the Hurst index and o the origin, where f is zero. Increments
are stationary, E (f(s) - f(t))^2 = variance |s - t|^2H; H = 1/2 is Brownian motion, smaller H are
rougher, and larger H have a memory. With several inputs |.| is the Euclidean norm.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from bayesdl.gp.hyperparameters import Draw, as_array, check_hyperparameter, scale_prior
from bayesdl.gp.kernels import AbstractKernel, Kernel
from bayesdl.model.registry import register_spec


@register_spec("kernels.FractionalBrownian")
@dataclasses.dataclass(frozen=True, repr=False)
class FractionalBrownian(AbstractKernel):
    """variance (|s - o|^2H + |t - o|^2H - |s - t|^2H) / 2: paths of roughness H.

    f is zero at the origin, which by default is the mean of standardised inputs. Where nothing is
    known of the level there, add a constant: `FractionalBrownian() + Constant()`.

    Args:
        hurst: the Hurst index H: a number between 0 and 1, a prior on that interval, or None for
            a uniform one.
        variance: the variance of an increment over one unit: a number, a prior, or None.
        origin: the input at which f is zero, the same number for each column.

    Example:
        >>> FractionalBrownian(hurst=0.7) + 1.0
        FractionalBrownian(hurst=0.7) + Constant(variance=1.0)
    """

    hurst: Any = None
    variance: Any = None
    origin: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameter(self, "variance")
        if not _within_unit_interval(self.hurst):
            raise ValueError(
                f"FractionalBrownian(hurst={self.hurst!r}): expected a number between 0 and 1, a "
                "NumPyro distribution on that interval such as dist.Uniform(0, 1), or None."
            )

    @property
    def ignores_zero_columns(self) -> bool:
        return self.origin == 0

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.matrices import Fractional

        hurst = draw(f"{prefix}hurst", self.hurst, dist.Uniform(0.0, 1.0), ())
        variance = draw(f"{prefix}variance", self.variance, scale_prior(), ())
        return Fractional(as_array(hurst), as_array(variance), as_array(self.origin))


def _within_unit_interval(hurst: Any) -> bool:
    """Return whether a Hurst index lies between 0 and 1; for a prior, all of its values."""
    if hurst is None:
        return True
    if not isinstance(hurst, dist.Distribution):
        return isinstance(hurst, int | float) and 0 < hurst < 1
    # drawn abstractly, so that files can be read without arithmetic
    low = getattr(hurst.support, "lower_bound", -math.inf)
    high = getattr(hurst.support, "upper_bound", math.inf)
    with jax.ensure_compile_time_eval():
        return bool(jnp.all(jnp.asarray(low) >= 0) and jnp.all(jnp.asarray(high) <= 1))
