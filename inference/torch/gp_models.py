"""The two Gaussian process models of GPyTorch, both with mean zero, in double precision.

`ExactModel` conditions on all rows. `SparseModel` has m inducing inputs Z with u = f(Z) = L v,
K_ZZ = L L', and q(v) = N(m, S) in natural parameters: the whitened variational strategy of Hensman,
Fusi and Lawrence (2013, arXiv:1309.6835), with the natural gradient steps of Salimbeni,
Eleftheriadis and Hensman (2018, arXiv:1803.09151).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from inference.torch.install import ALONE, load

if TYPE_CHECKING:
    from typing import Any

    from gpytorch.distributions import MultivariateNormal
    from torch import Tensor

    Module: TypeAlias = Any
    """A kernel, likelihood or model of GPyTorch, whose attributes its base class does not tell."""
else:
    Tensor = Module = MultivariateNormal = object

torch, gpytorch = load("torch"), load("gpytorch")

# added to the noise variance, as in the closed form
JITTER = 1e-8


class ExactModel(gpytorch.models.ExactGP):
    """f ~ GP(0, k) with all training rows.

    Args:
        X: the training inputs, shape (rows, columns).
        y: the training targets, shape (rows,).
        kernel: the kernel of GPyTorch.
        noise: the likelihood of GPyTorch.
    """

    def __init__(self, X: Tensor, y: Tensor, kernel: Module, noise: Module) -> None:
        super().__init__(X, y, noise)
        self.kernel = kernel

    def forward(self, X: Tensor) -> MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(X.new_zeros(X.shape[:-1]), self.kernel(X))


class SparseModel(gpytorch.models.ApproximateGP):
    """f ~ GP(0, k) known through q(u) at inducing inputs.

    Args:
        inducing: the inducing inputs, shape (m, columns).
        kernel: the kernel of GPyTorch.
        noise: the likelihood of GPyTorch.
    """

    def __init__(self, inducing: Tensor, kernel: Module, noise: Module) -> None:
        natural = gpytorch.variational.NaturalVariationalDistribution(len(inducing))
        super().__init__(gpytorch.variational.VariationalStrategy(self, inducing, natural))
        self.kernel, self.likelihood = kernel, noise

    def forward(self, X: Tensor) -> MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(X.new_zeros(X.shape[:-1]), self.kernel(X))


def make_model(
    parts: tuple, data: tuple, inducing: np.ndarray | None
) -> tuple[Module, dict[str, Callable]]:
    """Make a model, and functions that return its learned hyperparameters by site.

    Args:
        parts: kernel, sites, sigma and whether it is learned, as
            `AbstractGaussianProcessRegression.torch_parts` gives them.
        data: the training data: X, shape (n, p), and y, shape (n,).
        inducing: the inducing inputs, shape (m, p), or None for the exact model.
    """
    kernel, sites, sigma, learned = parts
    above = gpytorch.constraints.GreaterThan(JITTER, transform=torch.exp, inv_transform=torch.log)
    noise = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=above).double()
    # a float would be rounded to 32 bits
    noise.noise = to_double(sigma**2 + JITTER)
    noise.noise_covar.raw_noise.requires_grad_(learned)
    if learned:
        sites = sites | {"sigma": lambda: np.sqrt(noise_variance(noise))}
    if inducing is None:
        return ExactModel(to_double(data[0]), to_double(data[1]), kernel, noise).double(), sites
    return SparseModel(to_double(inducing), kernel, noise).double(), sites


def to_double(array: ArrayLike) -> Tensor:
    """Copy an array to a float64 tensor."""
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def noise_variance(noise: Module) -> float:
    """Return sigma^2 of a likelihood, without the jitter."""
    return noise.noise.item() - JITTER


def latent_moments(model: Module, X: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of f at new inputs, shape (rows,) each."""
    with torch.no_grad(), dense_cholesky():
        f = model(to_double(X))
        variance = f.lazy_covariance_matrix.diagonal(dim1=-1, dim2=-2).clamp_min(0.0)
        return f.mean.numpy(), variance.numpy()


@contextlib.contextmanager
def dense_cholesky() -> Iterator[None]:
    """Use dense Cholesky factors in place of GPyTorch's iterative approximations for many rows."""
    with (
        ALONE,
        gpytorch.settings.fast_computations(
            covar_root_decomposition=False, log_prob=False, solves=False
        ),
        gpytorch.settings.max_cholesky_size(10**9),
        # debugging warns of predictions at the training inputs, which are allowed here
        gpytorch.settings.debug(False),
    ):
        yield


@contextlib.contextmanager
def seed_torch(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, and restore its old state at the end."""
    with ALONE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
