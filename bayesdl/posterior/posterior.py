"""What a fit gives back: one kind of posterior, whatever the model and the engine."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import is_double, precision_scope
from bayesdl.posterior.prediction import AbstractPrediction, ClassPrediction, Prediction
from bayesdl.posterior.streaming import Stream
from inference.core.engine import AbstractEngine, UnsupportedError
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.program import WithParameters
from inference.core.progress import as_progress
from inference.core.result import (
    AbstractDecompression,
    AbstractPredictive,
    AbstractResult,
    Approximation,
    Conditional,
    Draws,
    Predictor,
)
from inference.mcmc.engine import AbstractMCMC


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """The posterior of a model given data.

    Attributes:
        model: the spec.
        schema: what the training data looked like.
        problem: the program with the training data.
        engine: that computed it.
        raw: the engine's own result.
        seed: of the fit; predictions derive theirs from it.
    """

    model: AbstractModel
    schema: Any
    problem: Problem
    engine: AbstractEngine
    raw: AbstractResult
    seed: int

    @functools.cached_property
    def samples(self) -> dict[str, np.ndarray]:
        """Draws of all sites, shape (chain, draw, *site shape); empty for a predictor.

        An approximation gives one chain of independent draws.
        """
        if isinstance(self.raw, Draws):
            return self.raw.samples
        if isinstance(self.raw, Approximation):
            with precision_scope(self.model):
                drawn = self.raw.sample(self.draws_key, self.raw.num_draws)
                return {name: np.asarray(value)[None] for name, value in drawn.items()}
        return {}

    def sample(self, num_samples: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Draws of all sites, shape (num_samples, *site shape): fresh ones from an approximation, else resampled ones."""
        key = jax.random.key(seed)
        if isinstance(self.raw, Approximation):
            with precision_scope(self.model):
                return jax.tree.map(np.asarray, self.raw.sample(key, num_samples))
        flat = self._flat(self.samples)
        total = len(next(iter(flat.values()), ()))
        index = (
            np.asarray(jax.random.choice(key, total, (num_samples,), replace=num_samples > total))
            if total
            else []
        )
        return {name: value[index] for name, value in flat.items()}

    def predict(
        self,
        *data: Any,
        batch_size: int = 1024,
        seed: int | None = None,
        double: bool = False,
        **named: Any,
    ) -> AbstractPrediction:
        """The predictive distribution at new data.

        Args:
            *data: X for `BNN` and `GP`; for a NumPyro function its arguments without the observations. With none given,
                the training data.
            batch_size: rows computed at once; memory grows with it, results do not depend on it.
            seed: of simulated targets; by default that of the fit.
            double: whether to compute in double precision, whatever JAX is set to.
            **named: keyword arguments of a NumPyro function.

        Raises:
            DataError: where the new data do not fit the training data.
        """
        args, kwargs = (
            self.model.inputs(self.schema, *data, **named)
            if data or named
            else self.model.training_inputs(self.problem)
        )
        if isinstance(self.raw, Predictor):
            for concern in self.raw.outside(*args, **kwargs):
                warnings.warn(
                    f"Predictions outside what {type(self.engine).__name__} can answer: {concern}.",
                    stacklevel=2,
                )
        target = self.model.target(self.schema, self.problem)
        num_rows = len(args[0]) if self.model.rows_are_independent else None
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                f"predict(batch_size={batch_size!r}): expected a whole number of at least 1."
            )
        stream = Stream(
            self.predictive,
            self.latent_draws,
            self.seed if seed is None else seed,
            args,
            kwargs,
            num_rows,
            batch_size,
            double or is_double(self.model),
            self.traceable,
            self.traceable and self.rows_correlated,
        )
        kind = ClassPrediction if target.kind == "class" else Prediction
        return kind(stream, target, self.seed if seed is None else seed)

    def latent(self, site: str) -> Prediction:
        """The posterior of a latent site by a `PFN` that was trained with `latents=(site,)`: mean, std, quantile, sample.

        In the units of the program, which a model that standardises applies to standardised data. Other engines give draws,
        in `samples`.

        Raises:
            UnsupportedError: where the engine gives no such posterior.
        """
        from bayesdl.amortized.fitted import latent

        return latent(self, site)

    def ood(self, num_samples: int = 199) -> Any:
        """Whether the data are like those of the prior: a p-value, for fits by a `PFN`.

        Args:
            num_samples: data sets drawn from the prior at the same inputs; the network reads each several times, which for many
                rows takes a minute.

        Raises:
            UnsupportedError: for another engine; see `check_predictive` there.
        """
        from bayesdl.amortized.fitted import ood

        return ood(self, num_samples)

    def score(self, *data: Any, **named: Any) -> Any:
        """Scores of the predictions for held-out data: RMSE, NLL, CRPS, coverage; or accuracy, NLL, Brier, ECE.

        Args:
            *data: as in `fit`: X and y, or the arguments of a NumPyro function.
            **named: keyword arguments of a NumPyro function.
        """
        from bayesdl.checks.scores import score

        args, kwargs, target = self.model.inputs_and_target(self.problem, *data, **named)
        return score(self.predict(*args, **kwargs), target)

    def diagnose(self) -> Any:
        """What can be trusted: convergence of parameters and of function values, sampler trouble, a verdict in words."""
        from bayesdl.checks.convergence import diagnose

        return diagnose(self)

    def summary(self, sites: list[str] | None = None) -> Any:
        """A table of posterior means, sds, intervals, ESS and R-hat; of point estimates where the engine gives such.

        Args:
            sites: which ones; by default those that the data can identify.
        """
        from bayesdl.interop.arviz import summary

        return summary(self, sites)

    def check_predictive(
        self, statistics: Any = None, num_samples: int = 1000, seed: int | None = None
    ) -> Any:
        """Whether the model makes data like the training data: statistics of replicated data sets against the observed.

        Args:
            statistics: names such as "sd" or "99%", functions of a target array, a list of these, or functions by name.
            num_samples: replicated data sets.
            seed: by default that of the fit.
        """
        from bayesdl.checks.predictive import check_predictive

        return check_predictive(self, statistics, num_samples, seed)

    def loo(self) -> Any:
        """Leave-one-out cross-validation from this one fit (PSIS-LOO): elpd, and whether it can be trusted."""
        from bayesdl.checks.loo import loo

        return loo(self)

    def sensitivity(self, sites: Any = None, priors: Any = None) -> Any:
        """How much the posterior depends on the prior and on the likelihood, by power scaling.

        Args:
            sites: which parameters; by default those that the data identify.
            priors: the sites whose priors are scaled; by default all, in a hierarchical model better the top-level ones.
        """
        from bayesdl.checks.sensitivity import sensitivity

        return sensitivity(self, sites, priors)

    def to_datatree(
        self,
        log_likelihood: bool = False,
        log_prior: bool = False,
        posterior_predictive: bool = False,
    ) -> Any:
        """An xarray DataTree by the ArviZ conventions: posterior, sample_stats, observed_data, constant_data.

        Targets are in the units of y, classes as their indices.

        Args:
            log_likelihood: whether to add log p(y_i | z), a row of data an entry; for a Gaussian process log p(y_i | y_-i, z),
                which leave-one-out needs and which does not sum to log p(y | z).
            log_prior: whether to add the log density of each latent site, summed over its entries.
            posterior_predictive: whether to add a replicated data set for each draw.
        """
        from bayesdl.interop.arviz import to_datatree

        return to_datatree(self, log_likelihood, log_prior, posterior_predictive)

    def to_arviz(self) -> Any:
        """What the installed ArviZ plots: InferenceData before ArviZ 1.0, a DataTree from then on."""
        from bayesdl.interop.arviz import to_arviz

        return to_arviz(self)

    def to_pandas(self) -> Any:
        """The draws as a DataFrame: a row per draw, a column per scalar."""
        from bayesdl.interop.arviz import to_pandas

        return to_pandas(self)

    def extend(self, num_samples: int, progress: Any = True) -> Posterior:
        """The same posterior with `num_samples` more draws per chain; the chains go on where they were, after `load` too.

        An interrupted run is completed by it. `CyclicalSGMCMC` goes on with whole cycles, of the length that they had.

        Raises:
            UnsupportedError: for an engine that does not draw samples, or draws that hold no state.
            ValueError: for a number of draws below 1, or one that would cut a cycle.
        """
        if not (isinstance(self.engine, AbstractMCMC) and isinstance(self.raw, Draws)):
            raise UnsupportedError(
                f"{type(self.engine).__name__} has no chains to continue; fit again with other settings."
            )
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(
                f"extend(num_samples={num_samples!r}): expected a whole number of at least 1."
            )
        with precision_scope(self.model):
            result = self.engine.extend(self.problem, self.raw, num_samples, as_progress(progress))
        return dataclasses.replace(self, raw=result)

    def mode(self, name: str) -> Any:
        """The functions of one index of a `FunBaT` that message passing fitted: `post.mode("day").predict(x)`.

        Raises:
            UnsupportedError: for other models and engines.
        """
        from bayesdl.tensor.fitted import mode

        return mode(self, name)

    def update(self, X: Any, y: Any) -> Posterior:
        """The posterior with more entries, for a `FunBaT` fitted by message passing, without going through the old ones again.

        What the old entries said of each function stays, what the new ones say is added: new days continue the filter.
        Hyperparameters and noise stay as they are, so fit again when much has come in.

        Args:
            X: indexes, as in `fit`; they may be new.
            y: targets.

        Raises:
            UnsupportedError: for other models and engines.
        """
        from bayesdl.tensor.fitted import updated

        return updated(self, X, y)

    def step_halving(self, progress: Any = True) -> Any:
        """What the step size does to the answer of a sampler without an accept step: one more run with half of it.

        Raises:
            UnsupportedError: for an engine whose step size has no bias.
        """
        from bayesdl.checks.halving import step_halving

        return step_halving(self, progress)

    def save(self, path: str | Path) -> Path:
        """Saves everything needed to predict; see `bayesdl.load`."""
        from bayesdl.saving.bundle import save

        return save(self, path)

    def function_values(self, max_rows: int = 100) -> np.ndarray | None:
        """E[y | x, z] at up to `max_rows` training rows for each draw, shape (chain, draw, rows * targets), model's units."""
        from bayesdl.checks.convergence import function_values

        return function_values(self, max_rows)

    def __repr__(self) -> str:
        return f"Posterior({self.title()})"

    def title(self) -> str:
        """Model, engine, and the number of draws."""
        title = f"{type(self.model).__name__} by {type(self.engine).__name__}"
        if not isinstance(self.raw, Draws):
            return title
        chains, draws = next(iter(self.raw.samples.values())).shape[:2]
        return f"{title}, {chains} chains x {draws} draws"

    def _repr_html_(self) -> str:
        from bayesdl.plots.html import posterior_html

        return posterior_html(self)

    @property
    def draws_key(self) -> jax.Array:
        """Of the draws that stand for an approximation."""
        return named_key(jax.random.key(self.seed), "posterior draws")

    @functools.cached_property
    def predictive(self) -> AbstractPredictive:
        """Maps (one draw of the latent sites, key, *new data) to the law of new data."""
        if isinstance(self.raw, Predictor):
            return PredictorPredictive(self.raw.predict, self.raw.params)
        if not isinstance(self.raw, Approximation):
            return self.model.predictive(self.problem)
        learned, problem = self.raw.learned, self.problem
        if learned:
            problem = dataclasses.replace(problem, program=WithParameters(problem.program, learned))
        predictive = self.model.predictive(problem, self.raw.expansion)
        if self.raw.unpacking is None:
            return predictive
        return UnpackedPredictive(predictive, self.raw.unpacking)

    @property
    def traceable(self) -> bool:
        """Whether `conditional` is a JAX function."""
        return not isinstance(self.raw, Predictor) or self.raw.traceable

    @property
    def rows_correlated(self) -> bool:
        """Whether rows vary together given a draw, and can be drawn so."""
        known = self.raw.rows_correlated if isinstance(self.raw, Predictor) else None
        return self.model.rows_correlated if known is None else known

    @functools.cached_property
    def latent_draws(self) -> dict[str, np.ndarray]:
        """All draws of the latent sites in one axis, as `law` takes them; deterministic sites left out."""
        if isinstance(self.raw, Approximation) and self.raw.unpacking is not None:
            with precision_scope(self.model):
                return jax.tree.map(
                    np.asarray, self.raw.packed_sample(self.draws_key, self.raw.num_draws)
                )
        return {
            name: value
            for name, value in self._flat(self.samples).items()
            if name in self.problem.latents
        }

    @staticmethod
    def _flat(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value.reshape((-1, *value.shape[2:])) for name, value in samples.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class UnpackedPredictive(AbstractPredictive):
    """A law that takes draws as they are kept."""

    predictive: AbstractPredictive
    unpacking: AbstractDecompression

    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        return self.predictive(self.unpacking(latents), key, *args, **kwargs)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class PredictorPredictive(AbstractPredictive):
    """The law of a predictor: its parameters stand in the place of a draw."""

    predict: Any
    params: dict

    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        return self.predict(self.params, key, *args, **kwargs)

    def joint_concern(self, *args: Any, **kwargs: Any) -> str | None:
        return (
            self.predict.joint_concern(*args, **kwargs)
            if isinstance(self.predict, AbstractPredictive)
            else None
        )

    def mean_concern(self, mean: Any, epistemic: Any) -> str | None:
        return (
            self.predict.mean_concern(mean, epistemic)
            if isinstance(self.predict, AbstractPredictive)
            else None
        )
