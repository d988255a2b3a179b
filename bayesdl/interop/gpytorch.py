"""Kernels of `bayesdl.kernels` as GPyTorch kernels with the same parametrisation.

| kernel | here | GPyTorch |
| --- | --- | --- |
| RBF, Matern | variance g(r), r the distance / lengthscale | ScaleKernel around the unit kernel |
| Periodic | exp(-2 sum_d s_d^2 / lengthscale^2) | its `lengthscale` is our lengthscale squared |
| Linear, Constant | variance x . x', variance | `variance`, `constant` |

Here s_d = sin(pi (x_d - x'_d) / period), and ScaleKernel has outputscale = variance.

Hyperparameters given as numbers stay fixed. Learned ones start at the median of their prior, and
are positive by exp(raw), so that a step of an optimiser is relative to their size. No prior is
registered, because GPyTorch would add its density to the marginal likelihood.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
import numpyro.distributions as dist

from bayesdl.data.validation import ModelError
from bayesdl.gp import kernels
from bayesdl.gp.hyperparameters import check_length, lengthscale_prior, scale_prior
from bayesdl.gp.kernels import AbstractKernel, AbstractTranslator
from inference.core.engine import UnsupportedError
from inference.torch.install import load

Sites: TypeAlias = dict[str, Callable[[], Any]]
"""Functions that return learned hyperparameters, by site."""

Setting: TypeAlias = Any
"""The setting of a hyperparameter: a number, a tuple, a NumPyro distribution, or None."""

Module: TypeAlias = Any
"""A module of GPyTorch, whose attributes its base class does not tell."""


def render(kernel: AbstractKernel, num_inputs: int) -> Module:
    """Return the GPyTorch kernel, in double precision.

    Args:
        kernel: a kernel from `bayesdl.kernels`.
        num_inputs: the number of inputs, the columns of X.

    Raises:
        UnsupportedError: for a kernel made with tinygp.
        ModelError: where the length scales are not one or one per input.

    Example:
        >>> render(kernels.Linear(variance=2.0), num_inputs=1).variance.item()
        2.0
    """
    return render_with_sites(kernel, num_inputs)[0]


def render_with_sites(kernel: AbstractKernel, num_inputs: int) -> tuple[Module, Sites]:
    """Return the GPyTorch kernel, and functions that return its learned hyperparameters by site."""
    load("gpytorch")
    renderer = Renderer(num_inputs, {})
    return kernel.translate(renderer, "kernel."), renderer.sites


def torch_parts(
    kernel: AbstractKernel, scale: int | float | dist.Distribution | None, num_inputs: int
) -> tuple[Module, Sites, float, bool]:
    """Return the parts of a Gaussian process regression in GPyTorch's terms.

    Args:
        kernel: a kernel from `bayesdl.kernels`.
        scale: the scale of the `Normal` likelihood: a number, a prior, or None for its default
            prior.
        num_inputs: the number of inputs, the columns of X.

    Returns:
        The kernel, its learned hyperparameters by site, sigma, and whether sigma is learned.
    """
    learned = not isinstance(scale, int | float)
    sigma = _median(dist.HalfNormal(1.0) if scale is None else scale) if learned else scale
    return *render_with_sites(kernel, num_inputs), float(sigma), learned


@dataclasses.dataclass(frozen=True)
class Renderer(AbstractTranslator):
    """A walk through a kernel, as `AbstractKernel.build` does it, that notes what is learned.

    Attributes:
        num_inputs: the number of inputs, the columns of X.
        sites: the learned hyperparameters by site, filled while rendering.
    """

    num_inputs: int
    sites: Sites

    def add(self, kernel: kernels.Sum, prefix: str) -> Module:
        """Return the GPyTorch kernel of a sum."""
        from gpytorch.kernels import AdditiveKernel

        return AdditiveKernel(*self.parts(kernel.parts, prefix))

    def multiply(self, kernel: kernels.Product, prefix: str) -> Module:
        """Return the GPyTorch kernel of a product."""
        from gpytorch.kernels import ProductKernel

        return ProductKernel(*self.parts(kernel.parts, prefix))

    def parts(self, kernels: tuple[AbstractKernel, ...], prefix: str) -> list[Module]:
        """Return the GPyTorch kernels of the parts of a sum or product."""
        return [kernel.translate(self, f"{prefix}{i}.") for i, kernel in enumerate(kernels)]

    def refuse(self, kernel: AbstractKernel) -> Module:
        """Refuse a kernel made with tinygp.

        Raises:
            UnsupportedError: with the cure.
        """
        raise UnsupportedError(
            f"the kernel {type(kernel).__name__} cannot be written in GPyTorch (it is a JAX "
            "function); use ExactGP, or another kernel of bdl.kernels"
        )

    def stationary(self, kernel: kernels.AbstractStationary, prefix: str) -> Module:
        """Return the GPyTorch kernel of an RBF or Matern kernel."""
        from gpytorch.kernels import MaternKernel, RBFKernel

        check_length(kernel, kernel.lengthscale, self.num_inputs)
        per_input = isinstance(kernel.lengthscale, tuple) or (
            kernel.ard and not isinstance(kernel.lengthscale, int | float)
        )
        options = {
            "ard_num_dims": self.num_inputs if per_input else None,
            "lengthscale_constraint": _positive_constraint(),
        }
        unit = (
            RBFKernel(**options) if math.isinf(kernel.nu) else MaternKernel(nu=kernel.nu, **options)
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

    def periodic(self, kernel: kernels.Periodic, prefix: str) -> Module:
        """Return the GPyTorch kernel of a periodic kernel."""
        from gpytorch.kernels import PeriodicKernel

        unit = PeriodicKernel(
            lengthscale_constraint=_positive_constraint(),
            period_length_constraint=_positive_constraint(),
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

    def linear(self, kernel: kernels.Linear, prefix: str) -> Module:
        """Return the GPyTorch kernel of a linear kernel."""
        linear = _dense_linear_kernel()(variance_constraint=_positive_constraint())
        return self.set_parameter(
            linear, "variance", f"{prefix}variance", kernel.variance, scale_prior()
        )

    def constant(self, kernel: kernels.Constant, prefix: str) -> Module:
        """Return the GPyTorch kernel of a constant kernel."""
        from gpytorch.kernels import ConstantKernel

        constant = ConstantKernel(constant_constraint=_positive_constraint())
        return self.set_parameter(
            constant, "constant", f"{prefix}variance", kernel.variance, scale_prior()
        )

    def scaled(self, unit: Module, variance: Setting, prefix: str) -> Module:
        """Return a unit kernel multiplied by a variance."""
        from gpytorch.kernels import ScaleKernel

        scaled = ScaleKernel(unit, outputscale_constraint=_positive_constraint())
        return self.set_parameter(
            scaled, "outputscale", f"{prefix}variance", variance, scale_prior()
        )

    def set_parameter(
        self,
        module: Module,
        name: str,
        site: str,
        value: Setting,
        default: dist.Distribution,
        shape: tuple = (),
        power: float = 1.0,
    ) -> Module:
        """Set a parameter of a GPyTorch module to value ** power, either fixed or learned.

        Args:
            module: the module.
            name: the name of its parameter.
            site: the name of the program's site, noted where the parameter is learned.
            value: the hyperparameter: a number or numbers, a prior, or None.
            default: the prior where the value is None.
            shape: the shape of the site.
            power: the power to which GPyTorch raises the hyperparameter.

        Returns:
            The module.
        """
        import torch

        # before the value is set, which would otherwise be rounded to float32
        module.double()
        raw = getattr(module, f"raw_{name}")
        fixed = isinstance(value, int | float | tuple)
        start = (
            np.asarray(value if fixed else _median(default if value is None else value), np.float64)
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
def _dense_linear_kernel() -> type:
    """Return the class of GPyTorch's linear kernel without its low-rank arithmetic.

    That arithmetic factorises the other part of a sum, which needs jitter where that part is nearly
    singular, and so loses the agreement with the closed form.
    """
    from gpytorch.kernels import Kernel, LinearKernel
    from linear_operator import to_dense

    class DenseLinear(LinearKernel):
        """A linear kernel whose matrix is dense."""

        prediction_strategy = Kernel.prediction_strategy

        def forward(self, *inputs: Module, **options: Module) -> Module:
            return to_dense(super().forward(*inputs, **options))

    return DenseLinear


def _positive_constraint() -> Module:
    """Return the constraint value = exp(raw)."""
    torch, constraints = load("torch"), load("gpytorch.constraints")
    return constraints.Positive(transform=torch.exp, inv_transform=torch.log)


def _median(distribution: dist.Distribution) -> np.ndarray:
    """Return the median of a distribution, from draws, as not every one knows its quantiles."""
    draws = np.asarray(distribution.sample(jax.random.key(0), (2001,)))
    return np.asarray(np.median(draws, axis=0))


def to_double(module: Module) -> Module:
    """Copy a GPyTorch kernel or exact GP to double precision.

    Raises:
        ModelError: where hyperparameters have priors.
    """
    module = copy.deepcopy(module).double()
    if any(True for _ in getattr(module, "covar_module", module).named_priors()):
        raise ModelError(
            f"{type(module).__name__} has priors on its hyperparameters, which are not drawn here: "
            "write the kernel with bdl.kernels, whose priors are drawn for each function, or "
            "remove them."
        )
    return module


def prior_moments(module: Module, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the prior mean and covariance of functions at X, shapes (n,) and (n, n).

    Args:
        module: a kernel or exact GP in double precision, as `to_double` returns it.
        X: the rows of inputs.

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
