"""The two Gaussian process models of GPyTorch, both with mean zero, in double precision.

`ExactModel` conditions on all rows. `SparseModel` has m inducing inputs Z with u = f(Z) = L v, K_ZZ = L L', and
q(v) = N(m, S) in natural parameters: the whitened variational strategy of Hensman, Fusi and Lawrence (2013,
arXiv:1309.6835), with the natural gradient steps of Salimbeni, Eleftheriadis and Hensman (2018, arXiv:1803.09151).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from inference.torch.install import load

torch, gpytorch = load("torch"), load("gpytorch")

JITTER = 1e-8  # added to the noise variance, as the closed form does


class ExactModel(gpytorch.models.ExactGP):
    """f ~ GP(0, k) with all training rows."""

    def __init__(self, X: Any, y: Any, kernel: Any, noise: Any) -> None:
        super().__init__(X, y, noise)
        self.kernel = kernel

    def forward(self, X: Any) -> Any:
        return gpytorch.distributions.MultivariateNormal(X.new_zeros(X.shape[:-1]), self.kernel(X))


class SparseModel(gpytorch.models.ApproximateGP):
    """f ~ GP(0, k) known through q(u) at inducing inputs."""

    def __init__(self, inducing: Any, kernel: Any, noise: Any) -> None:
        natural = gpytorch.variational.NaturalVariationalDistribution(len(inducing))
        super().__init__(gpytorch.variational.VariationalStrategy(self, inducing, natural))
        self.kernel, self.likelihood = kernel, noise

    def forward(self, X: Any) -> Any:
        return gpytorch.distributions.MultivariateNormal(X.new_zeros(X.shape[:-1]), self.kernel(X))


def make_model(
    parts: tuple, data: tuple, inducing: np.ndarray | None
) -> tuple[Any, dict[str, Callable]]:
    """A model, and functions giving its learned hyperparameters by site.

    Args:
        parts: what `AbstractGaussianProcessRegression.torch_parts` gave.
        data: X, shape (n, p), and y, shape (n,).
        inducing: inducing inputs, shape (m, p), or None for the exact model.
    """
    kernel, sites, sigma, learned = parts
    above = gpytorch.constraints.GreaterThan(JITTER, transform=torch.exp, inv_transform=torch.log)
    noise = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=above).double()
    noise.noise = to_double(sigma**2 + JITTER)  # a float would be rounded to 32 bits
    noise.noise_covar.raw_noise.requires_grad_(learned)
    if learned:
        sites = sites | {"sigma": lambda: np.sqrt(noise_variance(noise))}
    if inducing is None:
        return ExactModel(to_double(data[0]), to_double(data[1]), kernel, noise).double(), sites
    return SparseModel(to_double(inducing), kernel, noise).double(), sites


def to_double(array: Any) -> Any:
    """A copy as a float64 tensor."""
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def noise_variance(noise: Any) -> float:
    """sigma^2 of a likelihood, without the jitter."""
    return noise.noise.item() - JITTER


def latent_moments(model: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of f at new inputs, shape (rows,) each."""
    with torch.no_grad(), dense_cholesky():
        f = model(to_double(X))
        variance = f.lazy_covariance_matrix.diagonal(dim1=-1, dim2=-2).clamp_min(0.0)
        return f.mean.numpy(), variance.numpy()


@contextlib.contextmanager
def dense_cholesky() -> Iterator[None]:
    """Dense Cholesky factors in place of GPyTorch's iterative approximations for many rows."""
    with (
        gpytorch.settings.fast_computations(
            covar_root_decomposition=False, log_prob=False, solves=False
        ),
        gpytorch.settings.max_cholesky_size(10**9),
        gpytorch.settings.debug(
            False
        ),  # it warns where one predicts at the training inputs, which is allowed here
    ):
        yield


@contextlib.contextmanager
def seed_torch(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator, and puts back its old state in the end."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
