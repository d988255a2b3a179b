"""Gaussian process regression by GPyTorch: exact, or with inducing points for many rows.

"exact" maximises the marginal likelihood log p(y) over the hyperparameters by L-BFGS, with dense
Cholesky factors (Rasmussen and Williams 2006, equations 2.25, 2.26 and 2.30). "svgp" maximises over
minibatches, with m inducing variables u = f(Z), the bound

    log p(y) >= sum_i E_q(f_i)[log p(y_i | f_i)] - KL(q(u) || p(u))

(Hensman, Fusi and Lawrence 2013, arXiv:1309.6835): Adam for Z and the hyperparameters, natural
gradients for q(u) (Salimbeni, Eleftheriadis and Hensman 2018, arXiv:1803.09151), both step sizes
falling to zero along a cosine.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike

from inference.core.engine import (
    MADE_FOR_IT,
    AbstractEngine,
    Preference,
    UnsupportedError,
    check_choice,
    check_positive_integers,
    problem_size,
)
from inference.core.findings import Finding, hyperparameter_findings, numbers_of
from inference.core.keys import named_key
from inference.core.minimise import minimise
from inference.core.problem import Problem, ProblemError
from inference.core.progress import AbstractProgress, Silent
from inference.core.result import AbstractPredictive, AbstractResult, Conditional, Predictor
from inference.core.structure import AbstractGaussianProcessRegression
from inference.core.typing import GPMethod, Info, Key, StoredArrays
from inference.exact.gp import EXACT_ROWS, MAX_ROWS, reason_unsupported
from inference.process.quiet import quiet
from inference.settings import check_positive
from inference.torch.install import load, reason_missing

if TYPE_CHECKING:
    from torch import Tensor

    Module: TypeAlias = Any
    """A model of GPyTorch, whose attributes its base class does not tell."""
else:
    Tensor = Module = object

# steps between two reports of progress
BLOCK = 50
# first step size of the natural gradients
NATURAL_STEP = 0.3
# rows that k-means looks at, at most
CLUSTERED = 20_000
# nats per row that the bound of a converged fit may still gain for each unit on the
# hyperparameters' logarithmic scale
SLOPE = 0.01
INDUCING = "variational_strategy.inducing_points"


@dataclasses.dataclass(frozen=True)
class GPyTorchGP(AbstractEngine):
    """Gaussian process regression by GPyTorch.

    Attributes:
        can_checkpoint: whether interrupted runs can go on; no.
        method: the method: "exact" (the default), or "svgp" with inducing points for many rows.
        num_steps: the number of steps of Adam ("svgp"), or the largest number of steps of L-BFGS
            per search ("exact").
        num_restarts: the number of searches of "exact", the first from the prior median, the
            others scattered around it.
        learning_rate: the first step size of Adam ("svgp").
        num_inducing: the number of inducing points ("svgp"), at most one per different row; the
            approximation improves with it, and time grows with its cube.
        batch_size: the number of rows of a minibatch ("svgp").

    Example:
        >>> GPyTorchGP(method="svgp", num_inducing=100).batch_size
        512
    """

    cli_name: ClassVar[str] = "gpytorch"

    method: GPMethod = "exact"
    num_steps: int = 2000
    num_restarts: int = 3
    learning_rate: float = 0.02
    num_inducing: int = 256
    batch_size: int = 512

    def __post_init__(self) -> None:
        check_choice(self, "method", ("exact", "svgp"))
        check_positive(self, "learning_rate")
        check_positive_integers(self, "num_steps", "num_restarts", "num_inducing", "batch_size")

    @classmethod
    def preference(cls, problem: Problem) -> Preference | None:
        rows, _ = problem_size(problem)
        if (
            not isinstance(problem.structure, AbstractGaussianProcessRegression)
            or rows <= EXACT_ROWS
            or importlib.util.find_spec("gpytorch") is None
        ):
            return None
        engine = cls(method="svgp")
        # a kernel that GPyTorch lacks is left to engines in JAX
        if engine.supports(problem) is not None:
            return None
        return Preference(engine, f"{rows} rows are too many for a closed form", MADE_FOR_IT)

    @classmethod
    def example(cls) -> GPyTorchGP:
        return cls(num_restarts=1)

    def supports(self, problem: Problem) -> str | None:
        max_rows = MAX_ROWS if self.method == "exact" else math.inf
        reason = reason_unsupported(problem, max_rows, ", use method='svgp'")
        if reason is None:
            reason = reason_missing("torch", "gpytorch")
        if reason is None:
            try:
                _torch_parts(problem)
            except UnsupportedError as error:
                reason = str(error)
        return reason

    def infer(
        self, problem: Problem, *, key: jax.Array, progress: AbstractProgress = Silent()
    ) -> Predictor:
        from inference.torch import gp_models

        started = time.perf_counter()
        rng = np.random.default_rng(int(jax.random.bits(named_key(key, "numpy"))))
        inducing = (
            _inducing_inputs(problem.args[0], self.num_inducing, rng)
            if self.method == "svgp"
            else None
        )
        model, sites = gp_models.make_model(_torch_parts(problem), problem.args, inducing)
        with (
            gp_models.seed_torch(int(jax.random.bits(named_key(key, "torch")))),
            gp_models.dense_cholesky(),
        ):
            try:
                facts = (
                    self.fit_exact(model, rng, progress)
                    if inducing is None
                    else self.fit_sparse(model, problem, progress)
                )
            finally:
                progress.close()
        info = facts | {
            "hyperparameters": {
                site: np.asarray(value()).tolist() for site, value in sites.items()
            },
            "seconds": time.perf_counter() - started,
        }
        return self.predictor(
            problem, {k: v.numpy().copy() for k, v in model.state_dict().items()}, info
        )

    def restore(self, problem: Problem, arrays: dict, info: dict) -> Predictor:
        return self.predictor(problem, arrays, info)

    def predictor(self, problem: Problem, params: StoredArrays, info: Info) -> Predictor:
        """Return the result for given parameters of the model."""
        return Predictor(params, GPyTorchPredictive(problem), info)

    def diagnostics(self, problem: Problem, result: AbstractResult) -> dict[str, float]:
        return numbers_of(result.info)

    def findings(
        self, problem: Problem, result: AbstractResult, facts: Mapping[str, float]
    ) -> tuple[Finding, ...]:
        return hyperparameter_findings(result.info)

    def fit_exact(
        self, model: Module, rng: np.random.Generator, progress: AbstractProgress
    ) -> Info:
        """Maximise the marginal likelihood; the best hyperparameters are left in the model."""
        torch = load("torch")
        parameters = [p for p in model.parameters() if p.requires_grad]
        objective = _negative_log_evidence(model, parameters)
        start = (
            np.concatenate([p.detach().numpy().ravel() for p in parameters])
            if parameters
            else np.zeros(0)
        )
        searches = self.num_restarts if parameters else 1
        best, lowest, converged = start, math.inf, False
        progress.start(searches, "hyperparameters")
        for search in range(searches):
            u = start + rng.normal(size=start.shape) * (search > 0)
            u, done = minimise(objective, u, self.num_steps) if parameters else (u, True)
            value = objective(u)[0]
            if value < lowest:
                best, lowest, converged = u, value, done
            progress.advance(1, best=f"{-lowest:.5g}")
        if not math.isfinite(lowest):
            raise ProblemError(
                "No hyperparameters with a finite marginal likelihood were found: "
                "give tighter priors."
            )
        if parameters:
            torch.nn.utils.vector_to_parameters(torch.tensor(best), parameters)
        answer = "exact for these hyperparameters; their uncertainty is not in it"
        return {"log_evidence": -lowest, "converged": converged, "answer": answer}

    def fit_sparse(self, model: Module, problem: Problem, progress: AbstractProgress) -> Info:
        """Fit a model with inducing points by stochastic variational inference."""
        from inference.torch.gp_models import gpytorch, to_double, torch

        X, y = map(to_double, problem.args)
        objective = gpytorch.mlls.VariationalELBO(model.likelihood, model, num_data=len(y))
        learned = [p for p in model.hyperparameters() if p.requires_grad]
        optimisers = [
            torch.optim.Adam(learned, lr=self.learning_rate),
            gpytorch.optim.NGD(model.variational_parameters(), num_data=len(y), lr=NATURAL_STEP),
        ]
        schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.num_steps)
            for optimiser in optimisers
        ]
        model.train()
        progress.start(self.num_steps, "SVGP")
        batches = _minibatch_rows(len(y), self.batch_size)
        halfway, half = -math.inf, self.num_steps // 2
        for step in range(1, self.num_steps + 1):
            if step == half + 1:
                halfway = _evidence_lower_bound(model, X, y, self.batch_size)
                model.train()
            rows = next(batches)
            model.zero_grad()
            loss = -objective(model(X[rows]), y[rows])
            loss.backward()
            for mover in (*optimisers, *schedules):
                mover.step()
            if step % BLOCK == 0 or step == self.num_steps:
                progress.advance((step - 1) % BLOCK + 1, elbo=f"{-len(y) * loss.item():.5g}")
        elbo = _evidence_lower_bound(model, X, y, self.batch_size)
        if not math.isfinite(elbo):
            raise ProblemError(
                f"SVGP diverged: the ELBO is {elbo}. "
                f"Lower learning_rate (now {self.learning_rate})."
            )
        answer = "an approximation with inducing points: judge it by post.score on held-out data"
        converged = (elbo - halfway) / self.remaining_path(half) <= max(1.0, SLOPE * len(y))
        return {"elbo": elbo, "converged": converged, "answer": answer}

    def remaining_path(self, start: int) -> float:
        """Return how far Adam can move a hyperparameter's logarithm from a step to the last one."""
        cosines = np.cos(np.pi * np.arange(start, self.num_steps) / self.num_steps)
        return self.learning_rate * float(np.sum(1 + cosines)) / 2


class GPyTorchPredictive(AbstractPredictive):
    """Predictions of a GPyTorch model whose parameters are in a dictionary.

    The model that was loaded last is kept with its factors.

    Args:
        problem: the problem with the training data.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.params: dict | None = None
        self.model: Any = None

    @property
    def traceable(self) -> bool:
        return False

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, latents: StoredArrays, key: Key | None, X_new: ArrayLike
    ) -> Conditional:
        """Return the distribution of y at new inputs, and the variance of f.

        Args:
            latents: the parameters of the model.
            key: a key, which is not used.
            X_new: the new inputs, shape (rows, columns).
        """
        params = latents
        from inference.torch import gp_models

        if params is not self.params:
            self.model, _ = gp_models.make_model(
                _torch_parts(self.problem), self.problem.args, params.get(INDUCING)
            )
            self.model.load_state_dict(
                {name: gp_models.torch.tensor(value) for name, value in params.items()}
            )
            self.model.eval()
            self.params = params
        mean, variance = gp_models.latent_moments(self.model, X_new)
        std = np.sqrt(variance + gp_models.noise_variance(self.model.likelihood))
        return Conditional(dist.Normal(jnp.asarray(mean), jnp.asarray(std)), jnp.asarray(variance))


def _torch_parts(problem: Problem) -> tuple:
    """Return the kernel, its sites, sigma and whether it is learned, in GPyTorch's terms."""
    return problem.structure_as(AbstractGaussianProcessRegression).torch_parts()


def _negative_log_evidence(
    model: Module, parameters: list
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function from flat unconstrained hyperparameters to -log p(y) and its gradient."""
    from linear_operator.utils.errors import NanError, NotPSDError

    from inference.torch.gp_models import gpytorch, torch

    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    model.train()
    (X,), y = model.train_inputs, model.train_targets

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        if parameters:
            torch.nn.utils.vector_to_parameters(torch.tensor(u), parameters)
        model.zero_grad()
        try:
            value = -objective(model(X), y) * len(y)
        except (NanError, NotPSDError):
            # too extreme a step of the line search
            return math.inf, np.zeros_like(u)
        if not parameters:
            return value.item(), u
        value.backward()
        return value.item(), np.concatenate([p.grad.numpy().ravel() for p in parameters])

    return evaluate


def _inducing_inputs(X: ArrayLike, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return centres of k-means on the different rows of X, shape (at most count, p)."""
    rows = np.unique(np.asarray(X, np.float64), axis=0)
    if len(rows) > CLUSTERED:
        rows = rows[rng.choice(len(rows), CLUSTERED, replace=False)]
    if len(rows) <= count:
        return rows
    from scipy.cluster.vq import kmeans2

    # the centre of an empty cluster stays where it was
    with quiet(UserWarning, message="One of the clusters is empty"):
        return kmeans2(rows, count, iter=10, minit="points", rng=rng)[0]


def _minibatch_rows(num_rows: int, size: int) -> Iterator[Tensor | slice]:
    """Yield the row indices of minibatches, each pass over the data in a new order.

    The rest of a pass that fills no batch is left out.
    """
    import torch

    if size >= num_rows:
        while True:
            yield slice(None)
    while True:
        yield from torch.randperm(num_rows)[: num_rows // size * size].split(size)


def _evidence_lower_bound(model: Module, X: Tensor, y: Tensor, size: int) -> float:
    """Return the bound on log p(y) over all rows, computed in batches of `size` rows."""
    import torch

    model.eval()
    with torch.no_grad():
        chunks = zip(X.split(size), y.split(size), strict=True)
        fit = sum(
            model.likelihood.expected_log_prob(part, model(rows)).sum().item()
            for rows, part in chunks
        )
        return fit - model.variational_strategy.kl_divergence().item()
