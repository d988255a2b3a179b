"""What engines return: draws, a fitted approximation, or a predictor without latent draws.

A result answers for itself, so that an engine may return a kind of its own.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from inference.core.problem import Problem
from inference.core.typing import Info, Key, NewEntries, SiteArrays, StoredArrays
from inference.process.cached import cached
from inference.sharing import compile_over_keys

Judge: TypeAlias = Literal["convergence", "importance weights", "engine"]
"""By what a result is judged: agreement of its chains, its log weights, or its engine alone."""


class Conditional(NamedTuple):
    """The distribution of new data given one draw of the latent variables.

    Attributes:
        distribution: a NumPyro distribution over y, one batch entry per row.
        epistemic: the part of its variance that comes from not knowing the function, per row; of
            labels their mutual information with the function, in nats. It is zero where the draw
            fixes the function, and NaN where it is not known.
    """

    distribution: Distribution
    epistemic: jax.Array


DRAWS_AT_ONCE = 32


class AbstractPredictive(abc.ABC):
    """Maps (one draw of the latent sites, key, *new data) to the `Conditional` of new data.

    Final classes are pytrees (`jax.tree_util.register_dataclass`): arrays are their leaves, and
    the rest is static and compares by value. So a predictive goes into compiled functions as an
    argument, and equal programs share what was compiled. Only a predictive that is not
    `traceable` need not be a pytree.
    """

    @property
    def traceable(self) -> bool:
        """Whether JAX can trace it; otherwise it takes and gives NumPy arrays."""
        return True

    @property
    def draws_at_once(self) -> int:
        """The number of draws for which it is computed together."""
        return DRAWS_AT_ONCE

    @abc.abstractmethod
    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        """Return the conditional of new data.

        Predictives of rows that vary together also take `joint=True`.
        """

    @property
    def shared_sites(self) -> tuple[str, ...]:
        """The discrete sites, summed out by the engine, whose draws rows share here."""
        return ()

    def with_new_entries(self, entries: NewEntries) -> AbstractPredictive:
        """Return the predictive that draws the entries of sites that have no draws."""
        raise NotImplementedError(type(self).__name__)

    def joint_concern(self, *args: Any, **kwargs: Any) -> str | None:
        """Say why joint samples at these new data cannot be trusted, or return None."""
        return None

    def mean_concern(self, mean: np.ndarray, epistemic: np.ndarray) -> str | None:
        """Say why means, with epistemic parts of variances, cannot be trusted, or return None."""
        return None


@runtime_checkable
class PredictiveModel(Protocol):
    """What a result asks of the model: its predictive, given one draw of the latent sites."""

    def predictive(self, problem: Problem, around: dict | None = None) -> AbstractPredictive:
        """Return the predictive; `around` holds sites at which a network is linearised."""
        ...


class AbstractResult(abc.ABC):
    """What an engine returns. `arrays()` and `info` are all that has to be stored to restore it.

    Attributes:
        info: facts about the run as plain data (step size, seconds, ...).
    """

    info: Info

    @abc.abstractmethod
    def arrays(self) -> StoredArrays:
        """Return the numbers of the result by name."""

    @abc.abstractmethod
    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        """Return the predictive of new data, which takes draws as `latent_draws` gives them."""

    @property
    def judged_by(self) -> Judge:
        """The standard by which a diagnosis judges the result."""
        return "engine"

    @property
    def independent_draws(self) -> bool:
        """Whether the draws of sites are independent of each other, so that chains mean nothing."""
        return True

    @property
    def label(self) -> str:
        """The size of the result for a title, such as "4 chains x 1000 draws"; may be empty."""
        return ""

    @property
    def approximated(self) -> str:
        """What the result approximates, in words."""
        return "the model"

    @property
    def temperature(self) -> float:
        """T where the draws are of p(z | y)^(1 / T); 1 for the posterior itself."""
        return 1.0

    def restore_problem(self, problem: Problem) -> Problem:
        """Return the problem with what was learned besides latent sites."""
        return problem

    def groups(self) -> dict[str, StoredArrays]:
        """Return what the result holds of ArviZ's groups "posterior" and "sample_stats".

        Empty where the result stores no draws. A bundle keeps these groups as netCDF.
        """
        return {}

    def site_samples(self, key: Key) -> StoredArrays:
        """Return draws of all sites, shape (chain, draw, *site shape); {} where there are none.

        Args:
            key: the key for draws that represent an approximation.
        """
        return {}

    def sample(self, key: Key, num_samples: int) -> SiteArrays:
        """Draw all sites afresh, shape (num_samples, *site shape); {} where that is impossible."""
        return {}

    def latent_draws(
        self, key: Key, latents: Collection[str], samples: Callable[[], StoredArrays]
    ) -> StoredArrays:
        """Return draws of the latent sites along one axis, in the form that `predictive` takes.

        Args:
            key: the key for draws that represent an approximation.
            latents: the names of the latent sites; deterministic sites are left out.
            samples: gives the draws of all sites, of shape (chain, draw, ...), where needed.
        """
        return {
            name: value.reshape((-1, *value.shape[2:]))
            for name, value in samples().items()
            if name in latents
        }

    def log_weights(self, key: Key, num_samples: int) -> ArrayLike:
        """Return log p(y, z) - log q(z) at draws z ~ q, shape (num_samples,).

        Raises:
            NotImplementedError: for a result that importance weights do not judge.
        """
        raise NotImplementedError(f"{type(self).__name__} has no importance weights.")

    def site_predictives(self) -> dict[str, AbstractPredictive]:
        """Return the posteriors of single latent sites that the result knows in closed form."""
        return {}

    def site_cure(self, site: str) -> str:
        """Say how to know a latent site that `site_predictives` lacks, as a clause."""
        return "draws of all sites are in post.samples"

    def correlates_rows(self, by_model: bool) -> bool:
        """Whether rows vary together given a draw, so that the predictive takes `joint=True`.

        Args:
            by_model: whether they do so by the model.
        """
        return by_model

    def outside(self, *args: Any, **kwargs: Any) -> list[str]:
        """Say what of new data lies outside those for which predictions can be trusted."""
        return []

    def replication_concern(self) -> str | None:
        """Say why data sets whose rows follow one draw cannot be simulated, or return None."""
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class Draws(AbstractResult):
    """Samples of the latent variables.

    Attributes:
        samples: draws by site, shape (chain, draw, *site shape); deterministic sites included.
        stats: sampler statistics, shape (chain, draw).
        info: facts about the run as plain data (step size, seconds, ...).
        state: the state of the chains after the last draw, from which they can go on; empty where
            the engine cannot continue.
        independent: whether the draws are independent of each other, as those of an importance
            sampler or an ensemble are. Then every draw counts fully, chains mean nothing and R-hat
            is not asked for. It is kept in `info`, so saved draws remember it.
    """

    samples: StoredArrays
    stats: StoredArrays
    info: Info = dataclasses.field(default_factory=dict)
    state: StoredArrays = dataclasses.field(default_factory=dict)
    independent: bool = False

    def __post_init__(self) -> None:
        if self.independent and not self.info.get("independent"):
            object.__setattr__(self, "info", self.info | {"independent": True})

    @property
    def length(self) -> int:
        """The number of draws per chain."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def judged_by(self) -> Judge:
        return "convergence"

    @property
    def independent_draws(self) -> bool:
        return self.independent

    @property
    def label(self) -> str:
        chains, draws = next(iter(self.samples.values())).shape[:2]
        if self.independent:
            return f"{chains * draws} independent draws"
        return f"{chains} chains x {draws} draws"

    @property
    def temperature(self) -> float:
        return float(self.info.get("temperature", 1))

    def groups(self) -> dict[str, StoredArrays]:
        return {"posterior": self.samples, "sample_stats": self.stats}

    def site_samples(self, key: Key) -> StoredArrays:
        return self.samples

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return model.predictive(problem)

    def arrays(self) -> StoredArrays:
        parts = {"samples": self.samples, "stats": self.stats, "state": self.state}
        return {
            f"{part}/{name}": value
            for part, values in parts.items()
            for name, value in values.items()
        }

    @classmethod
    def from_arrays(cls, arrays: StoredArrays, info: Info) -> Draws:
        """Rebuild draws from what `arrays()` and `info` gave."""
        samples, stats, state = (
            with_prefix(arrays, part) for part in ("samples/", "stats/", "state/")
        )
        return cls(samples, stats, info, state, bool(info.get("independent", False)))


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractApproximation(AbstractResult):
    """A distribution q(z; params) fitted to the posterior.

    Attributes:
        params: the fitted parameters by name.
        draw: a function of (key, params) that makes one draw of the program's sites.
        log_weight: a function of (key, params) that gives log p(y, z) - log q(z) at one z ~ q.
        losses: the objective along the optimisation, shape (steps,).
        info: facts about the run as plain data.
        num_draws: the number of draws that predictions use.
    """

    params: StoredArrays
    draw: Callable[..., SiteArrays]
    log_weight: Callable[..., jax.Array]
    losses: np.ndarray
    info: Info = dataclasses.field(default_factory=dict)
    num_draws: int = 1000

    @property
    def judged_by(self) -> Judge:
        return "importance weights"

    def arrays(self) -> StoredArrays:
        named = {f"params/{name}": np.asarray(value) for name, value in self.params.items()}
        return named | {"losses": np.asarray(self.losses)}

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return model.predictive(problem)

    def site_samples(self, key: Key) -> StoredArrays:
        """Return `num_draws` draws as one chain, shape (1, draw, *site shape)."""
        drawn = self.sample(key, self.num_draws)
        return {name: np.asarray(value)[None] for name, value in drawn.items()}

    def sample(self, key: Key, num_samples: int) -> SiteArrays:
        """Draw from q, shape (num_samples, *site shape)."""
        return self._many_draws(jax.random.split(key, num_samples), self.params)

    def log_weights(self, key: Key, num_samples: int) -> jax.Array:
        """Return log p(y, z) - log q(z) at draws z ~ q; the mean is the ELBO."""
        return self._many_weights(jax.random.split(key, num_samples), self.params)

    @cached
    def _many_draws(self) -> Callable:
        return compile_over_keys(self.draw)

    @cached
    def _many_weights(self) -> Callable:
        return compile_over_keys(self.log_weight)


@dataclasses.dataclass(frozen=True, eq=False)
class Approximation(AbstractApproximation):
    """A fitted distribution q(z; params) over the sites of the program, and nothing more."""


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractPredictor(AbstractResult):
    """A predictive distribution p(y | x, data) with no latent draws.

    Attributes:
        params: everything the prediction needs, by name.
        predict: the predictive; it takes `params` in the place of a draw.
        info: facts about the fit as plain data (log evidence, ...).
    """

    params: StoredArrays
    predict: AbstractPredictive
    info: Info = dataclasses.field(default_factory=dict)

    def arrays(self) -> StoredArrays:
        return {name: np.asarray(value) for name, value in self.params.items()}

    def site_cure(self, site: str) -> str:
        return (
            "fit with an engine that draws latent sites, such as bdl.NUTS(), and see post.samples"
        )

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return FixedPredictive(self.predict, self.params)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor(AbstractPredictor):
    """A predictive distribution p(y | x, data) with no latent draws, and nothing more."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class FixedPredictive(AbstractPredictive):
    """The predictive of a predictor: its parameters stand in the place of a draw."""

    predict: AbstractPredictive
    params: dict

    @property
    def traceable(self) -> bool:
        return self.predict.traceable

    def __call__(self, latents: dict, key: Any, *args: Any, **kwargs: Any) -> Conditional:
        return self.predict(self.params, key, *args, **kwargs)

    def joint_concern(self, *args: Any, **kwargs: Any) -> str | None:
        return self.predict.joint_concern(*args, **kwargs)

    def mean_concern(self, mean: np.ndarray, epistemic: np.ndarray) -> str | None:
        return self.predict.mean_concern(mean, epistemic)


def with_prefix(arrays: StoredArrays, prefix: str) -> StoredArrays:
    """Return the arrays whose names begin with a prefix, without it."""
    found = {name: value for name, value in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}
