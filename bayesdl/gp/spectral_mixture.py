"""The spectral mixture kernel: a stationary kernel whose spectrum is a mixture of normals.

    k(x, x') = sum_q weight_q exp(-2 pi^2 sum_d bandwidth_qd^2 r_d^2) cos(2 pi sum_d frequency_qd
               r_d),    r = x - x'

(Wilson and Adams 2013, arXiv:1302.4245). With enough components it approximates any stationary
kernel, and goes on with what it has seen to repeat.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from bayesdl.data.validation import ModelError
from bayesdl.gp.hyperparameters import Draw, as_array, check_hyperparameter
from bayesdl.gp.kernels import AbstractKernel, Kernel
from bayesdl.model.registry import register_spec
from inference.settings import is_whole


@register_spec("kernels.SpectralMixture")
@dataclasses.dataclass(frozen=True, repr=False)
class SpectralMixture(AbstractKernel):
    """sum_q weight_q exp(-2 pi^2 |bandwidth_q r|^2) cos(2 pi frequency_q . r), r = x - x'.

    Components are exchangeable: draws of their sites by a sampler may change places. A frequency
    has a mode for each period that fits the rows in part, so search from many starts
    (`ExactGP(num_restarts=10)`), or give priors of what is known.

    Args:
        components: the number of components.
        frequency: the means of the spectrum, 1 / period: a number, a tuple of one number per
            component, a prior (of each component and input), or None for LogNormal(0, 1).
        bandwidth: the standard deviations of the spectrum, likewise; None for LogNormal(-1, 1).
        weight: the variances of the components, likewise; None for LogNormal(-log components, 1).

    Example:
        >>> SpectralMixture(components=2, frequency=(0.5, 2.0))
        SpectralMixture(components=2, frequency=(0.5, 2.0))
    """

    components: int = 3
    frequency: Any = None
    bandwidth: Any = None
    weight: Any = None

    def __post_init__(self) -> None:
        if not is_whole(self.components):
            raise ValueError(
                f"SpectralMixture(components={self.components!r}): expected a whole number of at "
                "least 1."
            )
        for name in ("frequency", "bandwidth", "weight"):
            check_hyperparameter(self, name)
            value = getattr(self, name)
            if isinstance(value, dist.Distribution) and value.shape() != ():
                raise ModelError(
                    f"SpectralMixture({name}=...): the prior has shape {value.shape()}, expected "
                    "one of a single number; each component draws its own."
                )
            if isinstance(value, tuple) and len(value) != self.components:
                raise ModelError(
                    f"SpectralMixture({name}={value!r}): expected {self.components} numbers, one "
                    f"per component, got {len(value)}."
                )

    def build(self, draw: Draw, prefix: str, num_inputs: int) -> Kernel:
        from bayesdl.gp.matrices import Spectrum

        whole = (self.components, num_inputs)
        frequency = draw(f"{prefix}frequency", self.frequency, dist.LogNormal(0.0, 1.0), whole)
        bandwidth = draw(f"{prefix}bandwidth", self.bandwidth, dist.LogNormal(-1.0, 1.0), whole)
        prior = dist.LogNormal(-jnp.log(self.components), 1.0)
        weight = draw(f"{prefix}weight", self.weight, prior, whole[:1])
        return Spectrum(
            _per_input(frequency, whole),
            _per_input(bandwidth, whole),
            jnp.broadcast_to(as_array(weight), whole[:1]),
        )


def _per_input(value: Any, shape: tuple[int, int]) -> jax.Array:
    """Return numbers of components as those of each of their inputs."""
    array = as_array(value)
    return jnp.broadcast_to(array[:, None] if array.ndim == 1 else array, shape)
