"""What a fit gives back: one kind of posterior, whatever the model and the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesdl.calibration.conformal import making
from bayesdl.calibration.maps.making import recalibrate
from bayesdl.checks import convergence, halving, loo, predictive, scores, sensitivity
from bayesdl.checks.statistics import StatisticsLike
from bayesdl.interop import arviz
from bayesdl.posterior import discrete, hypothesis
from bayesdl.posterior.adjustment import plain
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.interface import AbstractPrediction
from bayesdl.posterior.means import MeanPrediction, predictor_draws
from bayesdl.saving import writing
from bayesdl.typing import (
    ColumnLike,
    ConformalScore,
    Integer,
    Key,
    MapName,
    NewLevels,
    ProgressLike,
    SiteLike,
    TableLike,
)
from bayesdl.warnings import deprecated
from inference.core.typing import StoredArrays
from inference.process.cached import cached
from inference.settings import as_seed

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Posterior(AbstractPosterior):
    """The posterior of a model given data.

    Functions of one family are in its namespace: `bdl.mcmc.extend(post, n)`,
    `bdl.tensor.mode(post, name)`, `bdl.amortized.ood(post)`, `bdl.sparse.report(post)`.

    Attributes:
        model: the model that was fitted.
        schema: what the training data looked like.
        problem: the program with the training data.
        engine: the engine that computed the posterior.
        raw: the engine's own result; what it holds beyond an `AbstractResult`, as the `losses` of
            an approximation, depends on the engine, so its type is open.
        seed: the seed of the fit; predictions derive theirs from it.
        names: the names of dimensions and entries that the user gave.
    """

    raw: Any

    def score(
        self, *data: Any, site: SiteLike = None, new_levels: NewLevels | None = None, **named: Any
    ) -> scores.Scores:
        """Score the predictions for held-out data.

        Numbers get RMSE, NLL, CRPS and coverage; classes accuracy, NLL, Brier score and ECE. What
        a mask of the program hides is left out.

        Args:
            *data: the held-out data as in `fit`: X and y, or the arguments of a NumPyro function.
            site: the observed site to score, where a NumPyro function has several; see `predict`.
            new_levels: "sample" draws effects that were not in the training data; see `predict`.
            **named: keyword arguments of a NumPyro function.
        """
        return predictive.score(self, site, data, named, new_levels)

    def linear_predictor(self, *data: Any, **named: Any) -> MeanPrediction:
        """Return the distribution of a formula's linear predictor, for what `predict` takes."""
        known = self.model.predictor_predictive(self.problem)
        response = plain(self).predict(*data, **named)
        return predictor_draws(response, known, self.model.predictor_names(self.problem))

    def hypothesis(self, statement: str) -> hypothesis.Hypothesis:
        """Return probability, odds and Bayes factor of a statement such as "days > 0"."""
        return hypothesis.judge(self, statement, lambda: self._prior_draws)

    @cached
    def _prior_draws(self) -> StoredArrays | None:
        """Draws from the prior that hypotheses are compared with; None where there are none."""
        return hypothesis.prior_draws(self)

    def diagnose(self) -> convergence.Diagnosis:
        """Say what can be trusted.

        Looks at the convergence of parameters and function values and at trouble of the sampler.
        """
        return convergence.diagnose(self)

    def summary(self, sites: list[str] | None = None) -> pd.DataFrame:
        """Return a table of posterior means, standard deviations, intervals, ESS and R-hat.

        Engines that give point estimates have a table of these.

        Args:
            sites: the names of the sites; by default those that the data can identify.
        """
        return arviz.summary(self, sites)

    def check_predictive(
        self,
        statistics: StatisticsLike = None,
        num_samples: Integer = 1000,
        seed: Integer | None = None,
        site: str | None = None,
    ) -> predictive.PredictiveCheck:
        """Compare statistics of the training data with those of data sets that the model makes.

        Args:
            statistics: names such as "sd" or "99%", functions of a target array, a list of these,
                or functions by name.
            num_samples: the number of replicated data sets.
            seed: the seed of the replications; by default that of the fit.
            site: the observed site to check; by default all of them.
        """
        return predictive.check_predictive(self, statistics, num_samples, seed, site)

    def loo(self, site: str | None = None) -> loo.LeaveOneOut:
        """Estimate leave-one-out cross-validation from this one fit (PSIS-LOO).

        Gives the elpd, and says whether it can be trusted.

        Args:
            site: the observed site whose rows are left out, one by one; by default all of them.
                Sites in the same plates share their rows, and the terms of a row are summed.
        """
        return loo.loo(self, site)

    def discrete(self) -> discrete.DiscreteSites:
        """Return the probabilities and draws of discrete latent sites at the training data.

        Sites that were summed out have p(s | y, z) by Bayes' rule for each draw z, averaged over
        draws (mixtures: the responsibilities; Markov chains: the smoothed states). Of sites that
        the engine drew, shares of draws are given with their Monte Carlo errors.
        """
        return discrete.discrete(self)

    def sensitivity(
        self,
        sites: str | Sequence[str] | None = None,
        priors: str | Sequence[str] | None = None,
    ) -> sensitivity.Sensitivity:
        """Measure how much the posterior depends on prior and likelihood, by power scaling.

        Args:
            sites: the parameters; by default those that the data identify.
            priors: the sites whose priors are scaled; by default all, better the top-level ones.
        """
        return sensitivity.sensitivity(self, sites, priors)

    def to_datatree(
        self,
        log_likelihood: bool = False,
        log_prior: bool = False,
        posterior_predictive: bool = False,
    ) -> xr.DataTree:
        """Return an xarray DataTree by the ArviZ conventions.

        Its groups are posterior, sample_stats, observed_data and constant_data. Targets are in the
        units of y, classes as their indices.

        Args:
            log_likelihood: whether to add log p(y_i | z), one entry a row of data; for a Gaussian
                process log p(y_i | y_-i, z), which leave-one-out needs and which does not sum to
                log p(y | z).
            log_prior: whether to add the log density of each latent site, summed over its entries.
            posterior_predictive: whether to add a replicated data set for each draw.
        """
        return arviz.to_datatree(self, log_likelihood, log_prior, posterior_predictive)

    def to_arviz(
        self,
        log_likelihood: bool = False,
        log_prior: bool = False,
        posterior_predictive: bool = False,
    ) -> Any:
        """Return what the installed ArviZ plots and compares.

        That is InferenceData before ArviZ 1.0, and a DataTree from then on. `az.loo` and
        `az.compare` need log_likelihood=True.

        Args:
            log_likelihood: whether to add log p(y_i | z); see `to_datatree`.
            log_prior: whether to add the log density of each latent site.
            posterior_predictive: whether to add a replicated data set for each draw.
        """
        return arviz.to_arviz(self, log_likelihood, log_prior, posterior_predictive)

    def to_pandas(self) -> pd.DataFrame:
        """Return the draws as a table: a row per draw, a column per scalar."""
        return arviz.to_pandas(self)

    def conformal(
        self,
        level: float = 0.9,
        X: TableLike | None = None,
        y: ColumnLike | None = None,
        *,
        score: ConformalScore | None = None,
        groups: ColumnLike | None = None,
        refits: Integer | None = None,
        system: bool = False,
        seed: Integer | None = None,
    ) -> Posterior:
        """Return a posterior whose predictions have sets that hold what they say.

        P(y in set) >= level for new rows that are like the rows that calibrate, on average over
        them, whatever the model. Without X and y the training rows calibrate, by adding one in
        (Fong and Holmes 2021, arXiv:2106.06137), which needs draws; with draws of an approximation
        the sets hold about what they say. Predictions have `interval(level)` (the hull),
        `pieces(level)` (the intervals whose union is the set) or, of classes, `sets(level)`, and
        `contains(y)`, `size()` and `ess()`.

        Args:
            level: the probability of the sets.
            X: held-out rows, which the fit has not seen; ceil(level / (1 - level)) are enough.
            y: their targets.
            score: by what held-out rows are ranked: of numbers "cdf" (the default), "sd",
                "absolute", "quantile" or "density"; of classes "density" (the default: 1 - p_y),
                "aps" or "raps".
            groups: within which rows are ranked, so that sets hold what they say in each group:
                names of columns of X, "class" for classes, or a label for each row. New rows then
                need `predict(X, groups=labels)`.
            refits: the number of fits without a part of the training rows each, for intervals
                of CV+; the number of rows gives the jackknife+. They hold 1 - 2 (1 - level) at
                least, in practice `level`.
            system: whether predictions are a whole distribution, the conformal predictive system
                of the held-out residuals: cdf, quantiles, samples and CRPS are calibrated too.
            seed: the seed of ties, folds and choices; by default that of the fit.

        Raises:
            DataError: for training rows among the held-out ones, too few rows, unseen labels, or
                predictions that are not finite.
            ModelError: for a posterior without draws where no rows are given.

        Example:
            >>> import numpy as np, bayesdl as bdl
            >>> x = np.linspace(-1, 1, 60)
            >>> y = x + np.sin(40 * x)
            >>> model, engine = bdl.BNN(hidden=()), bdl.Laplace()
            >>> post = bdl.fit(model, x[::2, None], y[::2], engine=engine, progress=False)
            >>> sets = post.conformal(0.8, x[1::2, None], y[1::2]).predict(x[:3, None])
            >>> sets.interval().shape
            (2, 3)
        """
        made = making.conformal(
            self, level, X, y, score=score, groups=groups, refits=refits, system=system, seed=seed
        )
        return dataclasses.replace(self, adjustment=made)

    def recalibrate(
        self,
        X: TableLike | None = None,
        y: ColumnLike | None = None,
        *,
        map: MapName | None = None,
        seed: Integer | None = None,
    ) -> Posterior:
        """Return a posterior whose predictions are recalibrated.

        The levels F(y) of what happened are looked at, and the map R that makes them uniform bends
        every prediction: cdf R(F(y)), quantiles, density, samples and CRPS agree. Of classes the
        probabilities are mapped. Without X and y each training row is predicted from the others,
        by Pareto-smoothed importance sampling of the draws. Where no map is seen to help on rows
        that it has not seen, predictions stay as they are, and it says so.

        Args:
            X: held-out rows, which the fit has not seen.
            y: their targets.
            map: of numbers "beta", "spline" or "isotonic" (no density); of classes "temperature"
                (averaged over its posterior), "vector", "dirichlet", "beta" (two classes),
                "isotonic" or "venn-abers". By default the better of "beta" and "spline", of
                classes "temperature", and none where none helps.
            seed: the seed of levels of counts, and of folds; by default that of the fit.

        Raises:
            DataError: for training rows among the held-out ones, fewer than 20 rows, unseen
                labels, or predictions that are not finite.
            ModelError: for a posterior without draws where no rows are given.

        Example:
            >>> import numpy as np, bayesdl as bdl
            >>> x = np.linspace(-1, 1, 60)
            >>> model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.05))
            >>> y = x + 0.4 * np.sin(40 * x)
            >>> post = bdl.fit(model, x[:, None], y, engine=bdl.Laplace(), progress=False)
            >>> low, high = post.recalibrate().predict(x[:1, None]).interval(0.9)
            >>> bool(high - low > 1)
            True
        """
        seed = self.seed if seed is None else seed
        made = recalibrate(self, X, y, map, as_seed(seed))
        return dataclasses.replace(self, adjustment=made)

    def save(self, path: str | Path, *, key: str | bytes | None = None) -> Path:
        """Save everything needed to predict; see `bayesdl.load`, which tells what `key` is."""
        return writing.save(self, path, key)

    def _repr_html_(self) -> str:
        # imports Matplotlib's pictures too
        from bayesdl.plots.html import posterior_html

        words = self.adjustment.words() if self.adjustment else ()
        return posterior_html(self._title, self.engine, self.model, self.summary(), words)

    # Names of earlier versions, which go away with the next one.
    @property
    @deprecated("post.schema")
    def frame(self) -> object:
        """The old name of `schema`."""
        return self.schema

    @deprecated("bdl.mcmc.extend(post, num_samples)", "bayesdl.mcmc:extend")
    def extend(self, num_samples: Integer, progress: ProgressLike = True) -> Posterior:
        """See `bayesdl.mcmc.extend`."""
        raise NotImplementedError

    @deprecated("bdl.mcmc.halve_step(post)", "bayesdl.mcmc:halve_step")
    def step_halving(self, progress: ProgressLike = True) -> halving.StepHalving:
        """See `bayesdl.mcmc.halve_step`."""
        raise NotImplementedError

    @deprecated("bdl.tensor.mode(post, name)", "bayesdl.tensor.fitted:mode")
    def mode(self, name: str) -> Any:
        """See `bayesdl.tensor.mode`."""
        raise NotImplementedError

    @deprecated("bdl.tensor.update(post, X, y)", "bayesdl.tensor.fitted:update")
    def update(self, X: TableLike, y: ColumnLike) -> Posterior:
        """See `bayesdl.tensor.update`."""
        raise NotImplementedError

    @deprecated("bdl.amortized.latent(post, site)", "bayesdl.amortized.fitted:latent")
    def latent(self, site: str) -> AbstractPrediction:
        """See `bayesdl.amortized.latent`."""
        raise NotImplementedError

    @deprecated("bdl.amortized.ood(post)", "bayesdl.amortized.fitted:ood")
    def ood(self, num_samples: Integer = 199) -> Any:
        """See `bayesdl.amortized.ood`."""
        raise NotImplementedError

    @property
    @deprecated("post.predict")
    def predictive(self) -> object:
        """The predictive given one draw, which `predict` mixes over draws."""
        return self._predictive

    @property
    @deprecated("post.predict")
    def law(self) -> object:
        """The predictive given one draw, under its first name."""
        return self._predictive

    @property
    @deprecated("post.predict")
    def traceable(self) -> bool:
        """Whether JAX can trace the predictive given one draw."""
        return self._predictive.traceable

    @property
    @deprecated("post.raw.correlates_rows(post.model.rows_correlated)")
    def rows_correlated(self) -> bool:
        """Whether rows vary together given a draw, and can be drawn so."""
        return self.raw.correlates_rows(self.model.rows_correlated)

    @property
    @deprecated("post.raw.correlates_rows(post.model.rows_correlated)")
    def covary(self) -> bool:
        """Whether rows vary together given a draw, under its first name."""
        return self.raw.correlates_rows(self.model.rows_correlated)

    @property
    @deprecated("post.sample")
    def draws_key(self) -> Key:
        """The key for the draws that represent an approximation."""
        return self._draws_key

    @property
    @deprecated("post.samples")
    def latent_draws(self) -> dict[str, np.ndarray]:
        """All draws of the latent sites along one axis."""
        return self._latent_draws

    @deprecated("repr(post)")
    def title(self) -> str:
        """Model, engine and the number of draws."""
        return self._title
