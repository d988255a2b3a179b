"""The Gaussian process: a prior over functions, observed with noise.

    f ~ GP(0, k),    y = f(x) + e,    e ~ N(0, sigma^2)

The program has f integrated out, so its latent sites are the hyperparameters:

    log p(y) = -y' (K + sigma^2 I)^-1 y / 2 - log |K + sigma^2 I| / 2 - n log(2 pi) / 2

(Rasmussen and Williams 2006, equation 2.30). With any other likelihood, y_i ~ p(y_i | f(x_i)), the
values of f at the rows are latent too: see `latent/program.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from bayesdl import kernels
from bayesdl.data.table import AbstractSchema
from bayesdl.data.validation import DataError
from bayesdl.gp.latent.predictive import LatentPredictive
from bayesdl.gp.latent.program import FUNCTION, LatentProcess, latent_program
from bayesdl.gp.process import AbstractProcess
from bayesdl.gp.program import WHITENED
from bayesdl.model.examples import CommandLine, Example, rows
from bayesdl.model.likelihoods import Bernoulli, Normal
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive
from inference.core.structure import AbstractStructure

# rows whose values of f are latent
MOST_ROWS = 5000


@dataclasses.dataclass(frozen=True)
class GP(AbstractProcess):
    """Gaussian process regression, and classification, counts and robust noise.

    With normal noise of one scale f is integrated out, and `ExactGP` answers in closed form. With
    any other likelihood f at the training rows is a latent site, which `NUTS`, `VI` and `Laplace`
    infer. A step of theirs takes time cubic in the rows, so that is for some hundred to a thousand.

    Args:
        kernel: a kernel from `bayesdl.kernels`, or a tinygp kernel with fixed hyperparameters; by
            default an RBF kernel with one learned length scale per input.
        likelihood: the likelihood, or its word: "normal" (the default) with one scale, which is
            sigma, "bernoulli", "categorical" (a function for each class), "student_t", "poisson"
            or "negative_binomial" (f is the logarithm of the mean). With
            `Normal("heteroscedastic")` a second function g with a kernel of its own, of the same
            form, gives sigma(x) = softplus(g(x)).
        standardize: whether inputs and real targets are standardised with the training data's mean
            and standard deviation. Counts are not: f of rows of large counts is far from its mean
            of 0, for which a kernel `+ bdl.kernels.Constant()` has room.

    Example:
        >>> GP(kernels.Matern52(lengthscale=1.0), likelihood=Normal(scale=0.1)).kernel.lengthscale
        1.0
        >>> GP(likelihood="poisson").likelihood
        Poisson()
    """

    kernel: Any = kernels.RBF(ard=True)
    likelihood: Any = Normal()
    standardize: bool = True

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        X, y = rows()
        classes = Example("GP of two classes", cls(likelihood=Bernoulli()), (X, y > 0))
        return Example("GP", cls(), (X, y)), classes

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        return (CommandLine("gp", cls, "a Gaussian process", {"kernel": kernels}),)

    def __post_init__(self) -> None:
        self._read_parts()

    @property
    def takes_weights(self) -> bool:
        return not self.integrates_out

    def program(self, X: ArrayLike, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program, with f integrated out where that is possible."""
        if self.integrates_out:
            super().program(X, y, num_targets=num_targets)
            return
        latent_program(self.kernel, self.likelihood, X, y, num_targets)

    def structure(self, schema: AbstractSchema) -> AbstractStructure | None:
        if self.integrates_out:
            return super().structure(schema)
        return self._latent(schema.target.num_targets)

    def build_problem(self, schema: AbstractSchema, args: tuple, kwargs: dict) -> Problem:
        posed = super().build_problem(schema, args, kwargs)
        if self.integrates_out:
            return posed
        if len(args[0]) > MOST_ROWS:
            raise DataError(
                f"GP with {self.likelihood} needs a factor of a matrix of all rows at each step: "
                f"got {len(args[0])} rows, at most {MOST_ROWS} are possible. Fit a sample of the "
                "rows, or a bdl.BNN."
            )
        # which knows of weights, and of scales in units of standardised targets
        model = self.in_units(schema.target.scale)
        return dataclasses.replace(posed, structure=model.structure(schema))

    def _latent(self, num_targets: int) -> LatentProcess:
        """Return the parts of the program with f at the rows."""
        return LatentProcess(self.kernel, self.likelihood, num_targets)

    def exact_predictive(self, num_inputs: int) -> Callable[..., jax.Array] | None:
        return super().exact_predictive(num_inputs) if self.integrates_out else None

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        if self.integrates_out:
            return super().predictive(problem, around)
        return LatentPredictive(problem.structure_as(LatentProcess), problem.args[0])

    def shows(self, site: str) -> bool:
        """Whether summaries show a site: hyperparameters, and not the many values of f."""
        return site not in (WHITENED, FUNCTION)
