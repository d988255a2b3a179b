"""What Gaussian and Student-t processes share: a kernel, noise, and f integrated out."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers

from bayesdl.data.table import AbstractSchema
from bayesdl.data.validation import DataError, ModelError
from bayesdl.gp.hyperparameters import sample_hyperparameter
from bayesdl.gp.kernels import as_kernel
from bayesdl.gp.program import WHITENED, GPRegression, noisy_process
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import Normal, as_likelihood
from bayesdl.model.table import AbstractTableModel, TableProgram
from bayesdl.typing import ColumnLike, TableLike
from inference.core.problem import Problem
from inference.core.program import KeyPerName
from inference.core.result import AbstractPredictive
from inference.core.structure import AbstractStructure
from inference.exact.gp import GPPredictive, condition
from inference.exact.scale_mixture import AbstractScale, ScaledNormal


@dataclasses.dataclass(frozen=True)
class AbstractProcess(AbstractTableModel):
    """A process with a kernel and noise; its latent sites are hyperparameters.

    Final classes have the fields `kernel`, `likelihood` and `standardize`.
    """

    rows_correlated: ClassVar[bool] = True
    multi_output: ClassVar[bool] = False
    keeps_numpy: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def kernel(self) -> Any:
        """The kernel of f."""

    @property
    @abc.abstractmethod
    def likelihood(self) -> Any:
        """The noise, `Normal()` with one scale."""

    @property
    def known_scale(self) -> AbstractScale | None:
        """What is known of a factor of all variances; None where it is one."""
        return None

    def __post_init__(self) -> None:
        self._read_parts()
        if not self.integrates_out:
            raise ModelError(
                f"{self.name} takes likelihood=bdl.Normal() with one scale, got {self.likelihood}: "
                "use bdl.GP for other likelihoods."
            )

    def _read_parts(self) -> None:
        """Make a kernel of bayesdl and a likelihood of what was given."""
        object.__setattr__(self, "kernel", as_kernel(self.kernel))
        object.__setattr__(self, "likelihood", as_likelihood(self.likelihood))

    @property
    def integrates_out(self) -> bool:
        """Whether the likelihood leaves f to be integrated out in closed form."""
        return isinstance(self.likelihood, Normal) and self.likelihood.scale != "heteroscedastic"

    @property
    def double_precision(self) -> bool:
        """Whether the arithmetic needs 64 bits: Cholesky factors do."""
        return True

    def learn_schema(
        self, X: TableLike | None = None, y: ColumnLike | None = None, **options: Any
    ) -> AbstractSchema:
        schema = super().learn_schema(X, y, **options)
        if schema.target.kind != "class" and schema.target.num_targets > 1:
            raise DataError(
                f"{self.name} takes one target column, y has {schema.target.num_targets}: fit one "
                "process per column, or a BNN."
            )
        return schema

    def program(self, X: ArrayLike, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program with f integrated out."""
        num_inputs = np.shape(X)[-1]
        kernel = self.kernel.build(sample_hyperparameter, "kernel.", num_inputs)
        sigma = self.likelihood.parameters(1, NUMPYRO)
        solver: Any = noisy_process(kernel, sigma, X).solver
        scale = self.known_scale
        if scale is not None:
            numpyro.sample("y", ScaledNormal(solver.scale_tril, scale), obs=y)
            return
        # a Cholesky factor is one; NumPyro's check of it makes (n, n) arrays even where shapes
        # alone are asked for
        noisy = dist.MultivariateNormal(0.0, scale_tril=solver.scale_tril, validate_args=False)
        numpyro.sample("y", noisy, obs=y)

    def structure(self, schema: AbstractSchema) -> AbstractStructure | None:
        return self.regression(len(schema.columns.scale))

    def regression(self, num_inputs: int) -> GPRegression:
        """Return what engines for Gaussian processes need."""
        return GPRegression(self.kernel, self.likelihood, num_inputs, self.known_scale)

    def exact_predictive(self, num_inputs: int) -> Callable[..., jax.Array] | None:
        """Return the log predictive density in closed form, or None with free hyperparameters."""
        if self.hyperparameter_priors(num_inputs):
            return None
        structure = self.regression(num_inputs)

        def log_density(
            X: jax.Array, y: jax.Array, X_new: jax.Array, y_new: jax.Array
        ) -> jax.Array:
            predictive = condition(structure, {}, X, y, X_new).distribution
            return jnp.asarray(predictive.log_prob(y_new))

        return log_density

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        """Whether zero-padded columns leave the model unchanged.

        They do where the hyperparameters' priors have the same means and variances for both
        numbers of columns. A kernel that is code is not looked into: the answer for it is no.
        """
        if not self.kernel.ignores_zero_columns:
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
            if site["type"] == "sample" and name not in ("y", WHITENED)
        }

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        return GPPredictive(problem.structure_as(GPRegression), *problem.args)
