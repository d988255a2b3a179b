"""The process of noisy targets, and its description for the engines for Gaussian processes."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from bayesdl.gp.kernels import AbstractKernel
from bayesdl.model.likelihoods import Normal
from inference.core.engine import UnsupportedError
from inference.core.structure import AbstractGaussianProcessRegression
from inference.exact.scale_mixture import AbstractScale

if TYPE_CHECKING:
    from tinygp import GaussianProcess
    from tinygp.kernels import Kernel
else:
    GaussianProcess = Kernel = object

# relative to the unit variance of standardised targets
JITTER = 1e-8
# the site of the independent numbers behind the values of f, where f is not integrated out
WHITENED = "whitened"


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
        scale: what is known of a factor of all variances; None where it is one.
    """

    kernel: AbstractKernel
    likelihood: Normal
    num_inputs: int
    scale: AbstractScale | None = None

    def gaussian_process(self, values: dict, X: ArrayLike) -> GaussianProcess:
        kernel = self.kernel_at(values, jax.numpy.shape(X)[-1])
        return noisy_process(kernel, self.noise_scale(values), X)

    def kernel_at(self, values: dict, num_inputs: int) -> Kernel:
        return self.kernel.build(
            lambda site, value, *_: values.get(site, value), "kernel.", num_inputs
        )

    def noisy_covariance(self, values: dict, X: ArrayLike) -> jax.Array:
        noise = self.noise_variance(values) + JITTER
        rows = jax.numpy.asarray(X)
        kernel = self.kernel_at(values, rows.shape[1])
        return kernel(rows, rows) + noise * jax.numpy.eye(len(rows))

    def noise_scale(self, values: dict) -> Any:
        """Return sigma, which is either drawn or fixed."""
        return values.get("sigma", self.likelihood.fixed_scale)

    def noise_variance(self, values: dict) -> Any:
        return self.noise_scale(values) ** 2

    def describe(self, values: dict) -> str:
        sites = {name: _short(value) for name, value in values.items()}
        kernel = _learned(self.kernel, sites, "kernel.")
        rest = [f"{name}={value}" for name, value in sites.items()]
        return ", ".join([repr(kernel), *rest])

    def torch_parts(self) -> tuple:
        from bayesdl.interop.gpytorch import torch_parts

        if self.scale is not None:
            raise UnsupportedError(
                "a process whose scale is not known cannot be written in GPyTorch; use ExactGP"
            )
        return torch_parts(self.kernel, self.likelihood.scale, self.num_inputs)


def _learned(kernel: AbstractKernel, sites: dict[str, Any], prefix: str) -> AbstractKernel:
    """Return a kernel with numbers in the place of priors, which are taken out of `sites`."""

    def fill(name: str, value: Any) -> Any:
        if isinstance(value, AbstractKernel):
            return _learned(value, sites, f"{prefix}{name}.")
        if name == "parts":
            return tuple(fill(str(i), part) for i, part in enumerate(value))
        return sites.pop(f"{prefix}{name}", value)

    filled = copy.copy(kernel)
    for field in dataclasses.fields(kernel):  # pyright: ignore[reportArgumentType]
        # without the checks of settings: numbers may be rounded to zero
        object.__setattr__(filled, field.name, fill(field.name, getattr(kernel, field.name)))
    return filled


def _short(value: ArrayLike) -> Any:
    """Return a number with three digits, or nested tuples of them."""
    array = np.asarray(value)
    if array.ndim == 0:
        return float(f"{float(array):.3g}")
    return tuple(map(_short, array))
