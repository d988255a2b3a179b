"""The process of noisy targets, and its description for the engines for Gaussian processes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
from jax.typing import ArrayLike

from bayesdl.gp.kernels import AbstractKernel
from bayesdl.model.likelihoods import Normal
from inference.core.structure import AbstractGaussianProcessRegression

if TYPE_CHECKING:
    from tinygp import GaussianProcess
    from tinygp.kernels import Kernel
else:
    GaussianProcess = Kernel = object

# relative to the unit variance of standardised targets
JITTER = 1e-8


def noisy_process(kernel: Kernel, sigma: ArrayLike, X: ArrayLike) -> GaussianProcess:
    """Return the tinygp process of the noisy targets.

    Args:
        kernel: the kernel of tinygp.
        sigma: the standard deviation of the noise.
        X: the rows of inputs.
    """
    import tinygp

    return tinygp.GaussianProcess(kernel, X, diag=sigma**2 + JITTER)  # pyright: ignore


@dataclasses.dataclass(frozen=True)
class GPRegression(AbstractGaussianProcessRegression):
    """The parts of a Gaussian process regression that engines need.

    Attributes:
        kernel: the kernel.
        likelihood: the likelihood, in units of standardised targets.
        num_inputs: the number of inputs, the columns of X.
    """

    kernel: AbstractKernel
    likelihood: Normal
    num_inputs: int

    def gaussian_process(self, values: dict, X: ArrayLike) -> GaussianProcess:
        kernel = self.kernel.build(
            lambda site, value, *_: values.get(site, value), "kernel.", jax.numpy.shape(X)[-1]
        )
        return noisy_process(kernel, self.noise_scale(values), X)

    def noise_scale(self, values: dict) -> Any:
        """Return sigma, which is either drawn or fixed."""
        return values.get("sigma", self.likelihood.fixed_scale)

    def noise_variance(self, values: dict) -> Any:
        return self.noise_scale(values) ** 2

    def torch_parts(self) -> tuple:
        from bayesdl.interop.gpytorch import torch_parts

        return torch_parts(self.kernel, self.likelihood.scale, self.num_inputs)
