"""The program of a process with any likelihood: f at the training rows is latent, and whitened.

    z ~ N(0, I),    f = L z,    L L' = K + jitter,    y_i ~ p(y_i | f_i)

so that f ~ GP(0, k) at the rows, and the prior of z depends on no hyperparameter (Murray and Adams
2010, arXiv:1006.0868). A likelihood of several outputs has a function of the same process for each.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers

from bayesdl.gp.hyperparameters import Draw, sample_hyperparameter
from bayesdl.gp.kernels import AbstractKernel, Kernel
from bayesdl.gp.program import JITTER, WHITENED
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import AbstractLikelihood, Normal
from inference.core.structure import AbstractLatentFunction
from inference.core.typing import SiteArrays

FUNCTION = "f"


def latent_program(
    kernel: AbstractKernel,
    likelihood: AbstractLikelihood,
    X: ArrayLike,
    y: ArrayLike | None,
    num_targets: int,
) -> None:
    """Run the program.

    Args:
        kernel: the kernel of each function.
        likelihood: the likelihood p(y | f).
        X: the rows of inputs, shape (rows, columns).
        y: the targets, shape (rows,); None draws them.
        num_targets: 1, or the number of classes.
    """
    rows = jnp.asarray(X)
    built = output_kernels(kernel, likelihood, sample_hyperparameter, rows.shape[1], num_targets)
    parameters = likelihood.parameters(num_targets, NUMPYRO)
    shape = (len(rows), likelihood.num_outputs(num_targets))
    z = jnp.asarray(numpyro.sample(WHITENED, dist.Normal(0.0, 1.0).expand(shape).to_event(2)))
    f = function_values(covariance_roots(built, rows), z)
    numpyro.deterministic(FUNCTION, f)
    with numpyro.plate("rows", len(rows)) as index:
        observed = None if y is None else jnp.asarray(y)[index]
        numpyro.sample("y", likelihood.distribution(f[index], parameters, NUMPYRO), obs=observed)


def output_kernels(
    kernel: AbstractKernel,
    likelihood: AbstractLikelihood,
    draw: Draw,
    num_inputs: int,
    num_targets: int,
) -> tuple[Kernel, ...]:
    """Return the kernels of the outputs: one for all, or one of each of two.

    The scale of a heteroscedastic likelihood is a function of its own, with hyperparameters of its
    own under the same priors.

    Args:
        kernel: the kernel as users write it.
        likelihood: the likelihood.
        draw: gives hyperparameters, as for `AbstractKernel.build`.
        num_inputs: the number of columns.
        num_targets: 1, or the number of classes.
    """
    mean = kernel.build(draw, "kernel.", num_inputs)
    if not (isinstance(likelihood, Normal) and likelihood.num_outputs(num_targets) > num_targets):
        return (mean,)
    return mean, kernel.build(draw, "scale.kernel.", num_inputs)


def covariance_root(kernel: Kernel, X: jax.Array) -> jax.Array:
    """Return L with L L' = K + jitter, the jitter relative to the mean variance at the rows.

    Args:
        kernel: the kernel.
        X: the rows, shape (rows, columns).
    """
    covariance = kernel(X, X)
    jitter = JITTER * jnp.mean(jnp.diagonal(covariance))
    return jnp.linalg.cholesky(covariance + jitter * jnp.eye(len(X)))


def covariance_roots(kernels: tuple[Kernel, ...], X: jax.Array) -> jax.Array:
    """Return `covariance_root` of each kernel, along the first axis."""
    return jnp.stack([covariance_root(kernel, X) for kernel in kernels])


def function_values(roots: jax.Array, z: jax.Array) -> jax.Array:
    """Return f = L z at the rows, shape (rows, outputs)."""
    if len(roots) == 1:
        return roots[0] @ z
    return jnp.einsum("cij,jc->ic", roots, z)


@dataclasses.dataclass(frozen=True)
class LatentProcess(AbstractLatentFunction):
    """The parts of the program that engines and predictions need.

    Attributes:
        kernel: the kernel.
        likelihood: the likelihood, in units of standardised targets.
        num_targets: 1, or the number of classes.
    """

    kernel: AbstractKernel
    likelihood: AbstractLikelihood
    num_targets: int

    @property
    def site(self) -> str:
        return WHITENED

    def kernels(self, values: SiteArrays, num_inputs: int) -> tuple[Kernel, ...]:
        """Return the kernels of the outputs, given hyperparameters by site."""

        def known(site: str, value: Any, *_: object) -> Any:
            return values.get(site, value)

        return output_kernels(self.kernel, self.likelihood, known, num_inputs, self.num_targets)

    def roots(self, values: SiteArrays, X: ArrayLike) -> jax.Array:
        rows = jnp.asarray(X)
        return covariance_roots(self.kernels(values, rows.shape[1]), rows)

    def targets(self, values: SiteArrays, f: jax.Array) -> dist.Distribution:
        """Return the distribution of targets given f, shape (rows, outputs)."""
        # all of its sites are among the values
        given = handlers.substitute(self.likelihood.parameters, data=values)
        parameters = handlers.seed(given, jax.random.key(0))(self.num_targets, NUMPYRO)
        return self.likelihood.distribution(f, parameters, NUMPYRO)

    def log_densities(
        self, values: SiteArrays, f: jax.Array, y: ArrayLike, weights: ArrayLike | None = None
    ) -> jax.Array:
        density = jnp.asarray(self.targets(values, f).log_prob(y))
        return density if weights is None else density * weights
