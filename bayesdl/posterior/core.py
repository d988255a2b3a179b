"""The core of a posterior: its parts, draws and predictions, which checks, bundles and ArviZ read.

The verbs above it (`diagnose`, `score`, `summary`, `save`, ...) are in `posterior.py`, which
imports what does their work. So nothing here knows who reads it.
"""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import Any, Literal, TypeVar, overload

import jax
import numpy as np

from bayesdl.data.frames import index_labels
from bayesdl.data.target import Target
from bayesdl.data.validation import ModelError, check_call
from bayesdl.model.base import AbstractModel
from bayesdl.model.family import AbstractFamily
from bayesdl.model.names import Names, site_dims
from bayesdl.model.precision import is_double, precision_scope
from bayesdl.posterior.adjustment import AbstractAdjustment, Rows, changed, plain
from bayesdl.posterior.interface import AbstractPrediction, check_count
from bayesdl.posterior.means import MeanPrediction
from bayesdl.posterior.prediction import ClassPrediction, Prediction
from bayesdl.posterior.running import run_engine
from bayesdl.posterior.streaming import Stream, means, probabilities
from bayesdl.posterior.summed import draw_summed, resample
from bayesdl.saving.sending import AbstractSent
from bayesdl.typing import EngineLike, Integer, NewLevels, ProgressLike, Schema, SiteLike
from inference.core.engine import AbstractEngine
from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.result import AbstractPredictive, AbstractResult
from inference.core.typing import Arguments, Key, KeywordArguments, NewEntries, StoredArrays
from inference.process.cached import cached
from inference.process.memory import size_of
from inference.settings import as_seed, is_whole

# function values at so many entries are looked at
MOST_VALUES = 1000
# and at so many of the observed sites
MOST_SITES = 3

AnyPosterior = TypeVar("AnyPosterior", bound="AbstractPosterior")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AbstractPosterior(AbstractSent, AbstractFamily, abc.ABC):
    """The posterior of a model given data, without the verbs that judge and show it.

    Attributes:
        model: the model that was fitted.
        schema: what the training data looked like.
        problem: the program with the training data.
        engine: the engine that computed the posterior.
        raw: the engine's own result.
        seed: the seed of the fit; predictions derive theirs from it.
        names: the names of dimensions and entries that the user gave.
        adjustment: what is done to predictions: conformal sets, or recalibration; None for nothing.
    """

    model: AbstractModel
    schema: Schema
    problem: Problem
    engine: AbstractEngine
    raw: AbstractResult
    seed: int
    names: Names = Names()
    adjustment: AbstractAdjustment | None = None

    @cached
    def samples(self) -> StoredArrays:
        """Draws of all sites, shape (chain, draw, *site shape); empty for a predictor.

        An approximation gives one chain of independent draws.
        """
        with precision_scope(self.model):
            return self.raw.site_samples(self._draws_key)

    def sample(self, num_samples: Integer, seed: Integer = 0, **named: Any) -> Any:
        """Draw all sites: afresh from an approximation, else from the draws that there are.

        Args:
            num_samples: the number of draws; with more than there are, they repeat.
            seed: the seed of the choice.
            **named: of circuits, whose samples are rows of the table, `given` cells by column.

        Returns:
            Draws by site, shape (num_samples, *site shape); of circuits a DataFrame.
        """
        own = self.model.verbs().get("sample")
        if own is not None:
            return own(self, num_samples, seed, **named)
        if named:
            raise TypeError(f"sample: {self.model.name} takes sample(num_samples, seed).")
        key = jax.random.key(as_seed(seed))
        check_count(num_samples, int(size_of(self.problem.unobserved.values(), 1)))
        with precision_scope(self.model):
            fresh = jax.tree.map(np.asarray, self.raw.sample(key, num_samples))
        return fresh or resample(key, self.samples, num_samples)

    @overload
    def predict(
        self, *data: Any, kind: Literal["response"] = "response", **named: Any
    ) -> AbstractPrediction: ...

    @overload
    def predict(self, *data: Any, kind: Literal["mean"], **named: Any) -> MeanPrediction: ...

    def predict(
        self,
        *data: Any,
        kind: str = "response",
        batch_size: Integer = 1024,
        seed: Integer | None = None,
        double: bool = False,
        site: SiteLike = None,
        new_levels: NewLevels | None = None,
        **named: Any,
    ) -> AbstractPrediction | MeanPrediction:
        """Return the predictive distribution at new data.

        Args:
            *data: X for `BNN` and `GP`; for a NumPyro function its arguments without the
                observations. With none given, the training data.
            kind: "response" for the distribution of y; "mean" for that of E[y | x], without noise.
            batch_size: the number of rows computed at once; memory grows with it, results do not
                depend on it.
            seed: the seed of simulated targets; by default that of the fit.
            double: whether to compute in double precision, whatever JAX is set to.
            site: the observed site to predict, where a NumPyro function has several. A function
                that has an argument `site` of its own gets it instead.
            new_levels: "sample" draws the entries of latent sites that were not in the training
                data, such as the effect of a new group, from their prior given each draw of the
                other sites. By default new data with such entries are refused.
            **named: keyword arguments of a NumPyro function; of a formula `groups="sample"`,
                "population" or "error", for groups not seen before; where conformal sets were made
                for groups given as labels, `groups` is the group of each row.

        Raises:
            DataError: where the new data do not fit the training data.
        """
        if kind != "response" and self.model.takes("kind"):
            named, kind = named | {"kind": kind}, "response"
        named, site = self._settle(named, site)
        if kind == "mean":
            settings = {"site": site, "double": double, "new_levels": new_levels}
            settings |= {"batch_size": batch_size, "seed": seed}
            return plain(self).predict(*data, **settings, **named).means()
        if kind != "response":
            raise ValueError(f"predict(kind={kind!r}): expected 'response' or 'mean'.")
        if site is not None:
            one, named = self._at(site, named)
            if one is not self:
                settings = {"double": double, "new_levels": new_levels}
                return one.predict(*data, batch_size=batch_size, seed=seed, **settings, **named)
        groups = named.pop("groups", None) if self._takes_groups else None
        if new_levels not in (None, "sample"):
            raise ValueError(f"predict(new_levels={new_levels!r}): expected 'sample' or None.")
        entries = NewEntries()
        if data or named:
            check_call("predict", self.model.name, self.model.inputs, self.schema, *data, **named)
            with precision_scope(self.model):
                args, kwargs, entries = self.model.check_new_data(
                    self.problem,
                    *self.model.inputs(self.schema, *data, **named),
                    lambda: {n: draws.shape[1:] for n, draws in self._predictive_draws.items()},
                    new_levels == "sample",
                )
        else:
            args, kwargs = self.model.training_inputs(self.problem)
        for concern in self.raw.outside(*args, **kwargs):
            warnings.warn(
                f"Predictions outside what {type(self.engine).__name__} can answer: {concern}.",
                stacklevel=2,
            )
        if not is_whole(batch_size):
            raise ValueError(
                f"predict(batch_size={batch_size!r}): expected a whole number of at least 1."
            )
        seed = self.seed if seed is None else as_seed(seed)
        num_rows = len(args[0]) if self.model.rows_are_independent else None
        stream = stream_of(self, args, kwargs, num_rows, batch_size, seed, double, entries)
        target = self.model.target(self.schema, self.problem)
        made = ClassPrediction if target.kind == "class" else Prediction
        title = self.model.target_title(self.problem)
        labels = index_labels(data) if data or named else self._row_labels()
        prediction = made(stream, target, seed, title, labels)
        if self.adjustment is None:
            return prediction
        return self.adjustment.adjust(prediction, Rows(data[0] if data else None, groups))

    def _row_labels(self) -> tuple:
        """Return the labels of the training rows, where the user gave any."""
        if not self.names.coords:
            return ()
        site = self.model.target_site(self.problem)
        dims = site_dims(self.problem, self.names).get(site, ())
        return self.names.coords.get(dims[0], ()) if len(dims) == 1 else ()

    def function_values(self, max_rows: Integer = 100) -> np.ndarray | None:
        """Compute E[y | x, z] at training rows for each draw, in the model's units.

        Args:
            max_rows: the largest number of rows, spread over all of them.

        Returns:
            Values of shape (chain, draw, rows * targets), of classes their probabilities; None
            for a model without a mean, or without observations.
        """
        parts = [
            values
            for one in self._by_site()
            if (values := one._function_values(max_rows)) is not None
        ]
        if not parts:
            return None
        values = np.concatenate(parts, axis=-1)
        # a distribution may have no mean; draws that are not finite are another matter
        if all(np.isfinite(draws).all() for draws in self.samples.values()):
            values = values[..., np.isfinite(values).all((0, 1))]
        return values[..., :MOST_VALUES] if values.shape[-1] else None

    def _by_site(self: AnyPosterior) -> list[AnyPosterior]:
        """Return the posterior for each observed site, or for some of many."""
        sites = self.problem.observed
        if not sites or self.model.predicts_one(self.problem):
            return [self] if sites else []
        chosen = np.linspace(0, len(sites) - 1, min(MOST_SITES, len(sites))).astype(int)
        return [at_site(self, sites[i]) for i in chosen]

    def _function_values(self, max_rows: int) -> np.ndarray | None:
        """Compute the function values of the site that is predicted."""
        args, kwargs = self.model.training_inputs(self.problem)
        if self.model.rows_are_independent:
            rows = np.linspace(0, len(args[0]) - 1, min(max_rows, len(args[0]))).astype(int)
            args = tuple(np.asarray(arg)[rows] for arg in args)
        is_class = self.model.target(self.schema, self.problem).kind == "class"
        with precision_scope(self.model):
            stream = stream_of(self, args, kwargs)
            try:
                values = stream.map(probabilities if is_class else means)
            except NotImplementedError:
                return None
        return values.reshape(*draws_shape(self), -1)

    def _at(self: AnyPosterior, site: SiteLike, named: dict) -> tuple[AnyPosterior, dict]:
        """Return the posterior that predicts a site, and the program's keyword arguments.

        A program that has an argument `site` of its own gets it.
        """
        if self.model.takes("site"):
            return self, named | {"site": site}
        return at_site(self, site), named

    def refit(
        self: AnyPosterior,
        engine: EngineLike,
        seed: Integer | None = None,
        progress: ProgressLike = False,
    ) -> AnyPosterior:
        """Fit the same model to the same data again.

        Args:
            engine: the engine, its name, or "auto", as for `bdl.fit`.
            seed: the seed of the new fit; by default that of this one.
            progress: whether to show a progress bar, or what shows it.

        Raises:
            UnsupportedError: where the engine cannot run the model; it names those that can.
        """
        seed = self.seed if seed is None else as_seed(seed)
        run = run_engine(self.model, self.problem, engine, seed, progress)
        return changed(self, problem=run.problem, engine=run.engine, raw=run.result, seed=seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title})"

    @property
    def _title(self) -> str:
        """Model, engine and the number of draws."""
        title = f"{type(self.model).__name__} with {type(self.engine).__name__}"
        adjusted = self.adjustment.label if self.adjustment else ""
        return ", ".join(filter(None, (title, self.raw.label, adjusted)))

    @property
    def _takes_groups(self) -> bool:
        """Whether `groups` is for the adjustment, and not an argument of the program."""
        return self.adjustment is not None and self.adjustment.takes_groups

    @property
    def _draws_key(self) -> Key:
        """The key for the draws that represent an approximation."""
        return named_key(jax.random.key(self.seed), "posterior draws")

    @cached
    def _predictive(self) -> AbstractPredictive:
        """The predictive: maps (one draw of the latent sites, key, *new data) to a conditional."""
        return self.raw.predictive(self.problem, self.model)

    @cached
    def _latent_draws(self) -> StoredArrays:
        """All draws of the latent sites along one axis, as `_predictive` takes them."""
        with precision_scope(self.model):
            return self.raw.latent_draws(
                self._draws_key, self.problem.latents, lambda: self.samples
            )

    @cached
    def _predictive_draws(self) -> StoredArrays:
        """The draws of the latent sites, and of discrete sites that rows share."""
        shared = self._predictive.shared_sites
        if not shared:
            return self._latent_draws
        key = named_key(self._draws_key, "discrete sites")
        with precision_scope(self.model):
            problem = self.raw.restore_problem(self.problem)
            return self._latent_draws | draw_summed(problem, self._latent_draws, key, shared)


def at_site(posterior: AnyPosterior, site: SiteLike) -> AnyPosterior:
    """Return the posterior that predicts another of the observed sites; itself for None.

    Raises:
        ModelError: for a site that is not observed.
    """
    if site is None:
        return posterior
    if not isinstance(site, str):
        raise ModelError(
            f"site={site!r}: expected the name of an observed site, one of "
            f"{list(posterior.problem.observed)}."
        )
    model = posterior.model.at_site(posterior.problem, site)
    return dataclasses.replace(posterior, model=model)


def stream_of(
    posterior: AbstractPosterior,
    args: Arguments,
    kwargs: KeywordArguments,
    num_rows: Integer | None = None,
    batch_size: Integer = 1,
    seed: Integer = 0,
    double: bool = False,
    entries: NewEntries = NewEntries(),
) -> Stream:
    """Return the stream that computes statistics of predictions.

    Args:
        posterior: the posterior whose draws are mixed.
        args: the new data, as the program takes them.
        kwargs: keyword arguments of the program.
        num_rows: the number of rows in each array, or None to compute all at once.
        batch_size: the number of rows of a chunk.
        seed: the seed of what programs draw besides, and of simulated targets.
        double: whether to compute in double precision though the model does not need it.
        entries: the latent sites that have entries without draws at the new data.
    """
    predictive, model = posterior._predictive, posterior.model
    predictive = predictive.with_new_entries(entries) if any(entries) else predictive
    return Stream(
        predictive,
        posterior._predictive_draws,
        seed,
        args,
        dict(kwargs),
        num_rows,
        batch_size,
        double or is_double(model),
        predictive.traceable,
        predictive.traceable and posterior.raw.correlates_rows(model.rows_correlated),
    )


def latent_draws(posterior: AbstractPosterior) -> StoredArrays:
    """Return all draws of the latent sites along one axis, as the predictive takes them."""
    return posterior._latent_draws


def draws_shape(posterior: AbstractPosterior) -> tuple[int, int]:
    """Return the number of chains, and of draws in each."""
    chains, draws = next(iter(posterior.samples.values())).shape[:2]
    return chains, draws


def site_prediction(posterior: AbstractPosterior, site: str) -> Prediction:
    """Return the posterior of a latent site that the result knows in closed form.

    It is in the units of the program, which a model that standardises applies to standardised
    data.
    """
    known = posterior.raw.site_predictives()[site]
    stream = Stream(known, {}, posterior.seed, (), {}, None, 1, False)
    target = Target((site,), "real", True, None, (0.0,), (1.0,))
    return Prediction(stream, target, posterior.seed)
