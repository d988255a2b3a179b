"""Kernels of `bayesdl.kernels` as GPyTorch kernels with the same parametrisation.

| kernel | here | GPyTorch |
| --- | --- | --- |
| RBF, Matern | variance g(r), r the distance over lengthscale | ScaleKernel(outputscale = variance) around the unit kernel |
| Periodic | exp(-2 sum_d sin^2(pi (x_d - x'_d) / period) / lengthscale^2) | its `lengthscale` is our lengthscale squared |
| Linear, Constant | variance x . x', variance | `variance`, `constant` |

Hyperparameters given as numbers stay fixed. Learned ones start at the median of their prior, and are positive by
exp(raw), so that a step of an optimiser is relative to their size; no prior is registered, because GPyTorch would add
its density to the marginal likelihood.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from bayesdl.data.validation import ModelError
from bayesdl.gp import kernels
from bayesdl.gp.hyperparameters import lengthscale_prior, scale_prior
from bayesdl.gp.kernels import AbstractKernel, check_length
from inference.core.engine import UnsupportedError
from inference.torch.install import load

Sites = dict[str, Callable[[], Any]]
MATERN = {kernels.Matern12: 0.5, kernels.Matern32: 1.5, kernels.Matern52: 2.5}


def render(kernel: AbstractKernel, num_inputs: int) -> Any:
    """The GPyTorch kernel, in double precision.

    Args:
        kernel: from `bayesdl.kernels`.
        num_inputs: columns of X.

    Raises:
        UnsupportedError: for a kernel made with tinygp.
        ModelError: where the length scales are not one or one per input.

    Example:
        >>> render(kernels.Linear(variance=2.0), num_inputs=1).variance.item()
        2.0
    """
    return render_with_sites(kernel, num_inputs)[0]


def render_with_sites(kernel: AbstractKernel, num_inputs: int) -> tuple[Any, Sites]:
    """The GPyTorch kernel, and its learned hyperparameters: functions giving their value, by the program's site names."""
    load("gpytorch")
    renderer = Renderer(num_inputs, {})
    return renderer.render(kernel, "kernel."), renderer.sites


def torch_parts(
    kernel: AbstractKernel, scale: Any, num_inputs: int
) -> tuple[Any, Sites, float, bool]:
    """What `AbstractGaussianProcessRegression.torch_parts` gives: kernel, sites, sigma, and whether sigma is learned.

    Args:
        kernel: from `bayesdl.kernels`.
        scale: of the `Normal` likelihood: a number, a prior, or None for its default prior.
        num_inputs: columns of X.
    """
    learned = not isinstance(scale, int | float)
    sigma = median(dist.HalfNormal(1.0) if scale is None else scale) if learned else scale
    return *render_with_sites(kernel, num_inputs), float(sigma), learned


@dataclasses.dataclass(frozen=True)
class Renderer:
    """Walks a kernel the way `AbstractKernel.build` does, noting the sites of learned hyperparameters.

    Attributes:
        num_inputs: columns of X.
        sites: filled while rendering.
    """

    num_inputs: int
    sites: Sites

    def render(self, kernel: AbstractKernel, prefix: str) -> Any:
        """One kernel with all its parts."""
        from gpytorch.kernels import AdditiveKernel, ProductKernel

        if isinstance(kernel, kernels.AbstractStationary):
            return self.stationary(kernel, prefix)
        if isinstance(kernel, kernels.Periodic):
            return self.periodic(kernel, prefix)
        if isinstance(kernel, kernels.Linear):
            return self.linear(kernel, prefix)
        if isinstance(kernel, kernels.Constant):
            return self.constant(kernel, prefix)
        if isinstance(kernel, kernels.Sum | kernels.Product):
            parts = [self.render(part, f"{prefix}{i}.") for i, part in enumerate(kernel.parts)]
            return (AdditiveKernel if isinstance(kernel, kernels.Sum) else ProductKernel)(*parts)
        raise UnsupportedError(
            f"the kernel {type(kernel).__name__} cannot be written in GPyTorch (a tinygp kernel is a JAX function); "
            "write it with bdl.kernels"
        )

    def stationary(self, kernel: kernels.AbstractStationary, prefix: str) -> Any:
        from gpytorch.kernels import MaternKernel, RBFKernel

        check_length(kernel, self.num_inputs)
        per_input = isinstance(kernel.lengthscale, tuple) or (
            kernel.ard and not isinstance(kernel.lengthscale, int | float)
        )
        options = {
            "ard_num_dims": self.num_inputs if per_input else None,
            "lengthscale_constraint": positive_constraint(),
        }
        unit = (
            RBFKernel(**options)
            if isinstance(kernel, kernels.RBF)
            else MaternKernel(nu=MATERN[type(kernel)], **options)
        )
        shape = (self.num_inputs,) if kernel.ard else ()
        self.set_parameter(
            unit,
            "lengthscale",
            f"{prefix}lengthscale",
            kernel.lengthscale,
            lengthscale_prior(self.num_inputs),
            shape,
        )
        return self.scaled(unit, kernel.variance, prefix)

    def periodic(self, kernel: kernels.Periodic, prefix: str) -> Any:
        from gpytorch.kernels import PeriodicKernel

        unit = PeriodicKernel(
            lengthscale_constraint=positive_constraint(),
            period_length_constraint=positive_constraint(),
        )
        self.set_parameter(unit, "period_length", f"{prefix}period", kernel.period, scale_prior())
        self.set_parameter(
            unit,
            "lengthscale",
            f"{prefix}lengthscale",
            kernel.lengthscale,
            lengthscale_prior(1),
            power=2.0,
        )
        return self.scaled(unit, kernel.variance, prefix)

    def linear(self, kernel: kernels.Linear, prefix: str) -> Any:
        linear = dense_linear_kernel()(variance_constraint=positive_constraint())
        return self.set_parameter(
            linear, "variance", f"{prefix}variance", kernel.variance, scale_prior()
        )

    def constant(self, kernel: kernels.Constant, prefix: str) -> Any:
        from gpytorch.kernels import ConstantKernel

        constant = ConstantKernel(constant_constraint=positive_constraint())
        return self.set_parameter(
            constant, "constant", f"{prefix}variance", kernel.variance, scale_prior()
        )

    def scaled(self, unit: Any, variance: Any, prefix: str) -> Any:
        from gpytorch.kernels import ScaleKernel

        scaled = ScaleKernel(unit, outputscale_constraint=positive_constraint())
        return self.set_parameter(
            scaled, "outputscale", f"{prefix}variance", variance, scale_prior()
        )

    def set_parameter(
        self,
        module: Any,
        name: str,
        site: str,
        value: Any,
        default: Any,
        shape: tuple = (),
        power: float = 1.0,
    ) -> Any:
        """Sets the parameter `name` of a GPyTorch module to value ** power: fixed, or learned and noted as a site."""
        import torch

        module.double()  # before the value is set, which would otherwise be rounded to float32
        raw = getattr(module, f"raw_{name}")
        fixed = isinstance(value, int | float | tuple)
        start = (
            np.asarray(value if fixed else median(default if value is None else value), np.float64)
            ** power
        )
        setattr(module, name, torch.tensor(np.broadcast_to(start, raw.shape).copy()))
        raw.requires_grad_(not fixed)
        if not fixed:
            self.sites[site] = lambda: (
                getattr(module, name).detach().numpy().reshape(shape) ** (1.0 / power)
            )
        return module


@functools.cache
def dense_linear_kernel() -> type:
    """GPyTorch's linear kernel without its low-rank arithmetic.

    That arithmetic factorises the other part of a sum, which needs jitter where that part is nearly singular, and so
    loses the agreement with the closed form.
    """
    from gpytorch.kernels import Kernel, LinearKernel
    from linear_operator import to_dense

    class DenseLinear(LinearKernel):
        prediction_strategy = Kernel.prediction_strategy

        def forward(self, *inputs: Any, **options: Any) -> Any:
            return to_dense(super().forward(*inputs, **options))

    return DenseLinear


def positive_constraint() -> Any:
    """The constraint value = exp(raw)."""
    torch, constraints = load("torch"), load("gpytorch.constraints")
    return constraints.Positive(transform=torch.exp, inv_transform=torch.log)


def median(law: Any) -> np.ndarray:
    """The median of a NumPyro distribution, from many draws, as not every distribution knows its quantiles."""
    return np.asarray(np.median(np.asarray(law.sample(jax.random.key(0), (2001,))), axis=0))


def to_double(module: Any) -> Any:
    """A copy of a GPyTorch kernel or exact GP in double precision.

    Raises:
        ModelError: where hyperparameters have priors.
    """
    module = copy.deepcopy(module).double()
    if any(True for _ in getattr(module, "covar_module", module).named_priors()):
        raise ModelError(
            f"{type(module).__name__} has priors on its hyperparameters, which are not drawn here: write the kernel with "
            "bdl.kernels, whose priors are drawn for each function, or remove them."
        )
    return module


def prior_moments(module: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the functions of what `in_double` gives at X, shapes (n,) and (n, n).

    Raises:
        ModelError: where X has another number of columns than the kernel takes.
    """
    torch = load("torch")
    kernel = getattr(module, "covar_module", module)
    with torch.no_grad():
        points = torch.as_tensor(X, dtype=torch.float64)
        try:
            covariance = kernel(points).to_dense().numpy()
        except RuntimeError as error:
            raise ModelError(
                f"{type(module).__name__} does not take {X.shape[1]} inputs: {error}"
            ) from None
        mean = module.mean_module(points).numpy() if kernel is not module else np.zeros(len(X))
    return mean, covariance
