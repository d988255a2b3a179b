"""The Gaussian process: a prior over functions, observed with normal noise.

    f ~ GP(0, k),    y = f(x) + e,    e ~ N(0, sigma^2)

The program has f integrated out, so its latent sites are the hyperparameters:
log p(y) = -y' (K + sigma^2 I)^-1 y / 2 - log |K + sigma^2 I| / 2 - n log(2 pi) / 2 (Rasmussen and Williams 2006, 2.30).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from bayesdl.data.table import TableSchema
from bayesdl.data.validation import DataError, ModelError
from bayesdl.gp import kernels
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import Normal
from bayesdl.model.table import AbstractTableModel, TableProgram
from inference.core.problem import Problem
from inference.core.program import KeyPerName
from inference.core.structure import AbstractGaussianProcessRegression
from inference.exact.gp import GPPredictive, condition

JITTER = 1e-8  # relative to the unit variance of standardised targets


@dataclasses.dataclass(frozen=True)
class GP(AbstractTableModel):
    """Gaussian process regression.

    Args:
        kernel: from `bayesdl.kernels`, or a tinygp kernel with fixed hyperparameters.
        likelihood: `Normal()`; its scale is sigma.
        standardize: whether inputs and targets are standardised with the training data's mean and sd.

    Example:
        >>> GP(kernels.Matern52(lengthscale=1.0), likelihood=Normal(scale=0.1)).kernel.lengthscale
        1.0
    """

    kernel: Any = kernels.RBF(ard=True)
    likelihood: Any = Normal()
    standardize: bool = True
    rows_correlated: ClassVar[bool] = True
    multi_output: ClassVar[bool] = False
    keeps_numpy: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("GP", cls(), rows()),)

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        help_text = "a Gaussian process"
        return (CommandLine("gp", cls, help_text, {"kernel": kernels}, only_normal=True),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", kernels.as_kernel(self.kernel))
        if not isinstance(self.likelihood, Normal) or self.likelihood.scale == "heteroscedastic":
            raise ModelError(
                f"GP takes likelihood=bdl.Normal() with one scale, got {self.likelihood}: use bdl.BNN for other likelihoods."
            )

    @property
    def double_precision(self) -> bool:
        """Cholesky factors need it."""
        return True

    def learn_schema(self, X: Any = None, y: Any = None) -> TableSchema:
        schema = super().learn_schema(X, y)
        if schema.target.num_targets > 1:
            raise DataError(
                f"GP takes one target column, y has {schema.target.num_targets}: fit one GP per column, or a BNN."
            )
        return schema

    def program(self, X: Any, y: Any = None, *, num_targets: int = 1) -> None:
        """The NumPyro program with f integrated out."""
        kernel = self.kernel.build(kernels.sample_hyperparameter, "kernel.", X.shape[-1])
        sigma = self.likelihood.parameters(1, NUMPYRO)
        lower = noisy_process(kernel, sigma, X).solver.scale_tril
        numpyro.sample("y", dist.MultivariateNormal(0.0, scale_tril=lower), obs=y)

    def structure(self, schema: TableSchema) -> GPRegression:
        return GPRegression(self.kernel, self.likelihood, len(schema.columns.scale))

    def exact_predictive(self, num_inputs: int) -> Callable[..., jax.Array] | None:
        """Return the log predictive density in closed form; there is one where all hyperparameters are fixed."""
        if self.hyperparameter_priors(num_inputs):
            return None
        X = np.arange(2.0)[:, None] + np.arange(num_inputs)
        structure = self.structure(self.learn_schema(X, np.arange(2.0)))

        def log_density(
            X: jax.Array, y: jax.Array, X_new: jax.Array, y_new: jax.Array
        ) -> jax.Array:
            return condition(structure, {}, X, y, X_new).distribution.log_prob(y_new)

        return log_density

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        """Whether the hyperparameters' priors have the same means and variances for both numbers of columns.

        A kernel that is code is not looked into: the answer for it is no.
        """
        if self.kernel.holds_code:
            return False
        few, many = self.hyperparameter_priors(fewest), self.hyperparameter_priors(most)

        def moments(prior: dist.Distribution) -> list[list[float]]:
            return [np.unique(np.asarray(part)).tolist() for part in (prior.mean, prior.variance)]

        return few.keys() == many.keys() and all(
            moments(few[name]) == moments(many[name]) for name in few
        )

    def hyperparameter_priors(self, num_inputs: int) -> dict[str, dist.Distribution]:
        """Return the priors of the latent sites for inputs of `num_inputs` columns."""
        program = KeyPerName(TableProgram(self, 1), jax.random.key(0))
        with jax.enable_x64(True):
            sites = handlers.trace(program).get_trace(jnp.zeros((2, num_inputs)))
        return {
            name: site["fn"]
            for name, site in sites.items()
            if site["type"] == "sample" and name != "y"
        }

    def predictive(self, problem: Problem, around: dict | None = None) -> GPPredictive:
        return GPPredictive(problem.structure_as(GPRegression), *problem.args)


@dataclasses.dataclass(frozen=True)
class GPRegression(AbstractGaussianProcessRegression):
    """What the engines for Gaussian processes need."""

    kernel: kernels.AbstractKernel
    likelihood: Normal
    num_inputs: int

    def gaussian_process(self, values: dict, X: Any) -> Any:
        kernel = self.kernel.build(
            lambda site, value, *_: values.get(site, value), "kernel.", X.shape[-1]
        )
        return noisy_process(kernel, self.noise_scale(values), X)

    def noise_scale(self, values: dict) -> Any:
        """Sigma: drawn, or fixed."""
        return values.get("sigma", self.likelihood.fixed_scale)

    def noise_variance(self, values: dict) -> Any:
        return self.noise_scale(values) ** 2

    def torch_parts(self) -> tuple:
        from bayesdl.interop.gpytorch import torch_parts

        return torch_parts(self.kernel, self.likelihood.scale, self.num_inputs)


def noisy_process(kernel: Any, sigma: Any, X: Any) -> Any:
    """The tinygp process of the noisy targets."""
    import tinygp

    return tinygp.GaussianProcess(kernel, X, diag=sigma**2 + JITTER)
