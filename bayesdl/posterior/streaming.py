"""Streams over draws and rows: statistics of a predictive mixture in bounded memory.

p(y | x, data) is the mean over draws z of p(y | x, z). A statistic of that mixture is computed
chunk by chunk of rows, each chunk over all draws, so memory does not grow with the rows.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Float
from numpyro.distributions import Distribution

from bayesdl.model.programs.parameters import (
    at_all_draws,
    refuse_wrong_parameters,
    with_wrong_parameters,
)
from bayesdl.model.quantiles import real_quantile, whole_quantile
from inference.arguments import call, join_static
from inference.chunks import joined, padded, take
from inference.core.result import DRAWS_AT_ONCE, AbstractPredictive, Conditional
from inference.core.typing import Key, PyTree, StoredArrays
from inference.parameters import wrong_parameters
from inference.wrappers import (
    class_probabilities,
    entropy,
    marginal,
    marginal_cdf,
    mean_of,
    num_classes,
    variance_of,
)

Given: TypeAlias = Array | np.ndarray | dict[str, Any] | None
"""What a statistic is given beside the conditionals: an array, or arrays by name."""

# rows of a joint sample
LARGEST = 5000

Statistic: TypeAlias = Callable[..., Any]
"""A function of (conditionals, given); leaves of the conditionals have a leading axis of draws."""


@runtime_checkable
class HasCRPS(Protocol):
    """A distribution that knows its continuous ranked probability score in closed form."""

    def crps(self, y: Array) -> Array:
        """Return the score at y."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Evaluates statistics of the mixture over draws, chunk by chunk of rows.

    Attributes:
        predictive: the predictive, which maps (one draw, key, *args) to a `Conditional`.
        draws: the draws by site, with a leading axis over draws; empty where there are none.
        seed: the seed of what programs draw besides, and of simulated targets.
        args: the new data.
        kwargs: keyword arguments of the program.
        num_rows: the number of rows of every array in args; None where rows cannot be told apart.
        batch_size: the number of rows of a chunk.
        double: whether to compute in double precision.
        traceable: whether JAX can trace the predictive.
        rows_correlated: whether rows vary together given a draw.
    """

    predictive: AbstractPredictive
    draws: StoredArrays
    seed: int
    args: tuple
    kwargs: dict
    num_rows: int | None
    batch_size: int
    double: bool
    traceable: bool = True
    rows_correlated: bool = False

    def map(
        self, statistic: Statistic, given: Given = None, rowwise: bool = True, axis: int = 0
    ) -> Any:
        """Compute `statistic(conditionals, given)` for each chunk of rows, and join the chunks.

        Args:
            statistic: a function of the conditionals of all draws; at module level, so that it is
                compiled once.
            given: an array for the statistic, or None.
            rowwise: whether `given` has a row per new row and is chunked too.
            axis: the axis of the results that runs over rows.
        """
        return joined(self.chunks(statistic, given, rowwise, axis), axis)

    def chunks(
        self, statistic: Statistic, given: Given = None, rowwise: bool = True, axis: int = 0
    ) -> Iterator[Any]:
        """Compute `statistic(conditionals, given)` for each chunk of rows, one after the other.

        What a chunk gives need not stay in memory; arguments are those of `map`.
        """
        whole: Any = given
        total = self.num_rows
        if total is None:
            with jax.enable_x64(self.double):
                found, wrong = self.run(with_wrong_parameters(statistic), self.args, given)
            refuse_wrong_parameters(wrong)
            yield jax.tree.map(np.asarray, found)
            return
        size = min(self.batch_size, padded(total))
        for start in range(0, total, size):
            chunk = functools.partial(take, start=start, size=size)
            some = chunk(whole) if rowwise and given is not None else given
            # entered anew for each chunk: between them the caller's own precision holds
            with jax.enable_x64(self.double):
                found = self.run(statistic, tuple(map(chunk, self.args)), some)
            kept = range(min(size, total - start))
            yield jax.tree.map(lambda leaf, kept=kept: np.take(np.asarray(leaf), kept, axis), found)

    def functions(self, num_samples: int, shuffle: bool = True) -> np.ndarray:
        """Simulate targets whose rows vary together: each sample follows one function.

        Args:
            num_samples: the number of functions to draw.
            shuffle: whether the posterior draws behind them come in random order, or in their own.

        Returns:
            Targets of shape (num_samples, rows).

        Raises:
            ValueError: for more rows than a dense covariance can hold.
        """
        if self.num_rows is not None and self.num_rows > LARGEST:
            raise ValueError(
                f"Joint samples need a covariance of all rows: got {self.num_rows} rows, at most "
                f"{LARGEST} are possible."
            )
        concern = self.predictive.joint_concern(*self.args, **self.kwargs)
        if concern:
            warnings.warn(f"Samples that cannot be trusted: {concern}.", stacklevel=3)
        with jax.enable_x64(self.double):
            key = jax.random.key(self.seed)
            total = len(next(iter(self.draws.values()), ()))
            order = np.asarray(jax.random.permutation(key, total)) if shuffle else np.arange(total)
            index = order[np.arange(num_samples) % total] if total else []
            chosen = {name: value[index] for name, value in self.draws.items()}
            keys = jax.random.split(key, num_samples)
            samples, wrong = self._call(
                lambda arrays, static: _simulate_jointly(
                    static, self.predictive, chosen, keys, arrays
                ),
                self.args,
            )
            refuse_wrong_parameters(wrong)
            return np.asarray(samples)

    def run(self, statistic: Statistic, args: tuple, given: Given) -> Any:
        """Compute the statistic of one chunk."""
        if self.traceable:
            return self._call(
                lambda arrays, static: evaluate(
                    statistic, static, self.predictive, self.draws, self.seed, arrays, given
                ),
                args,
            )
        conditionals = jax.tree.map(
            lambda leaf: leaf[None], self.predictive({}, None, *args, **self.kwargs)
        )
        return statistic(conditionals, jax.tree.map(jnp.asarray, given))

    def _call(self, compiled: Callable, args: tuple) -> Any:
        """Call a compiled function of (arrays, static) with these and the keyword arguments."""
        return call(compiled, (args, self.kwargs), jax.tree.structure(self.predictive))


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate(
    statistic: Statistic,
    static: Hashable,
    predictive: AbstractPredictive,
    draws: dict,
    seed: ArrayLike,
    arrays: list,
    given: Given,
) -> Any:
    """Compute a statistic of the conditionals at all draws, compiled."""
    args, kwargs = join_static(arrays, static)
    if draws:
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(draws)[0]))
        conditionals = jax.lax.map(
            lambda z: predictive(z[0], z[1], *args, **kwargs),
            (draws, keys),
            batch_size=predictive.draws_at_once,
        )
    else:
        conditionals = jax.tree.map(
            lambda leaf: leaf[None], predictive({}, jax.random.key(seed), *args, **kwargs)
        )
    return statistic(conditionals, given)


@functools.partial(jax.jit, static_argnums=0)
def _simulate_jointly(
    static: Hashable, predictive: AbstractPredictive, draws: dict, keys: Key, arrays: list
) -> tuple[ArrayLike, dict]:
    """Simulate targets of all rows, one data set for each key, compiled; see `wrong_parameters`."""
    args, kwargs = join_static(arrays, static)
    # without draws one distribution gives all samples
    if not draws:
        only = predictive({}, keys[0], *args, joint=True, **kwargs).distribution
        return jax.lax.map(only.sample, keys, batch_size=DRAWS_AT_ONCE), {}

    def at_draw(given: tuple[dict, Key]) -> tuple[ArrayLike, dict]:
        latents, key = given
        known = predictive(latents, key, *args, joint=True, **kwargs).distribution
        return known.sample(key), wrong_parameters(known)

    samples, wrong = jax.lax.map(at_draw, (draws, keys))
    return samples, at_all_draws(wrong)


# Statistics of a mixture.


def _over_draws(function: Callable, *trees: PyTree) -> Any:
    """Map a function over the leading axis of draws."""
    return jax.vmap(function)(*trees)


def moments(conditionals: Conditional, _: None) -> tuple:
    """Compute mean, variance, and its parts E[Var(y | z)] and Var(E[y | z]).

    The parts are those of the law of total variance.
    """
    means = _over_draws(mean_of, conditionals.distribution)
    variances = _over_draws(variance_of, conditionals.distribution)
    known = _over_draws(
        lambda e, v: e.reshape(e.shape + (1,) * (v.ndim - e.ndim)) * jnp.ones_like(v),
        conditionals.epistemic,
        variances,
    )
    # rounding may leave less than none
    unknown = jnp.maximum((variances - known).mean(0), 0.0)
    return means.mean(0), variances.mean(0) + means.var(0), unknown, means.var(0) + known.mean(0)


@functools.cache
def sampled_moments(num_samples: int) -> Statistic:
    """Return `moments` from samples, for distributions whose mean NumPyro does not know.

    The statistic is given (seed, number of the row) as `simulator` is.
    """

    def compute(conditionals: Conditional, seeds: jax.Array) -> tuple:
        total = jax.tree.leaves(conditionals)[0].shape[0]
        keys = jax.random.split(jax.random.key(seeds[0, 0]), total)

        def of_draw(given: Distribution, key: Key) -> tuple:
            y: Any = given.sample(key, (num_samples,))
            return y.mean(0), y.var(0, ddof=1)

        means, variances = _over_draws(of_draw, conditionals.distribution, keys)
        known = variances.mean(0)
        # the means of samples vary a little by themselves
        epistemic = jnp.maximum(means.var(0) - known / num_samples, 0.0)
        return means.mean(0), known + epistemic, known, epistemic

    return compute


def means(conditionals: Conditional, _: None) -> jax.Array:
    """Compute E[y | z] for each draw."""
    return _over_draws(mean_of, conditionals.distribution)


def probabilities(conditionals: Conditional, _: None) -> jax.Array:
    """Return class probabilities for each draw."""
    return _over_draws(label_probabilities, conditionals.distribution)


def log_density(conditionals: Conditional, y: Array) -> Float[Array, "*rows"]:
    """Compute the log of the mixture density at y."""
    values = _over_draws(lambda given: given.log_prob(y), conditionals.distribution)
    return logsumexp(values, axis=0) - jnp.log(values.shape[0])


def crps(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """Compute the continuous ranked probability score at y, where it has a closed form."""
    known = isinstance(conditionals.distribution, HasCRPS)
    if not known or conditionals.epistemic.shape[0] > 1:
        raise NotImplementedError
    return jax.tree.map(lambda leaf: leaf[0], conditionals.distribution).crps(y)


def mixture_cdf(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """Compute P(Y <= y) of the mixture, for each target by itself."""
    return _over_draws(lambda given: marginal_cdf(given, y), conditionals.distribution).mean(0)


def quantiles(conditionals: Conditional, levels: jax.Array) -> jax.Array:
    """Compute quantiles of the mixture from its cdf; shape (levels, rows, ...)."""
    support: Any = conditionals.distribution.support
    middle, width = _whereabouts(conditionals)

    def cdf(y: jax.Array) -> jax.Array:
        return mixture_cdf(conditionals, y)

    if support.is_discrete:
        return jax.lax.map(lambda level: whole_quantile(cdf, level, middle.shape), levels)
    return jax.lax.map(lambda level: real_quantile(cdf, level, middle, width), levels)


def _whereabouts(conditionals: Conditional) -> tuple[jax.Array, jax.Array]:
    """Return where a search for quantiles begins: mean and sd of the mixture, where it has them."""

    inside = conditionals.distribution
    means = _over_draws(lambda given: mean_of(marginal(given)), inside)
    try:
        within = _over_draws(lambda given: variance_of(marginal(given)), inside)
        variance = within.mean(0) + means.var(0)
    except NotImplementedError:
        variance = jnp.full(means.shape[1:], jnp.nan)
    mean = means.mean(0)
    known = jnp.isfinite(mean) & jnp.isfinite(variance)
    return jnp.where(known, mean, 0.0), jnp.where(known, jnp.sqrt(variance), 1.0)


def label_distribution(conditionals: Conditional, _: None) -> tuple:
    """Compute class probabilities, expected entropy, and mutual information of label and draw."""
    probs = _over_draws(label_probabilities, conditionals.distribution)
    average = probs.mean(0)
    # NaN where the parts are not known
    expected = entropy(probs).mean(0) - conditionals.epistemic.mean(0)
    return average, expected, jnp.maximum(entropy(average) - expected, 0.0)


def label_probabilities(distribution: Any) -> Float[Array, "*rows classes"]:
    """Return the probabilities of classes, of Bernoulli those of 0 and of 1."""
    if num_classes(distribution) is not None:
        return class_probabilities(distribution)
    # distributions of our own
    probs = distribution.probs
    return jnp.stack([1 - probs, probs], axis=-1) if probs.ndim == 1 else probs


@functools.cache
def simulator(num_samples: int, shuffle: bool = True) -> Statistic:
    """Return a statistic that simulates targets, shape (num_samples, rows, ...).

    The draws behind them are the same in every row, and come in random order, or in their own. The
    statistic is given one or more rows (seed, number of the row).
    """

    def simulate(conditionals: Conditional, seeds: jax.Array) -> jax.Array:
        # the key is the same for every chunk of rows
        key = jax.random.key(seeds[0, 0])
        total = jax.tree.leaves(conditionals)[0].shape[0]
        keys = jax.random.split(jax.random.fold_in(key, seeds[0, 1]), num_samples)
        # the one distribution of a predictor need not be copied
        if total == 1:
            only = jax.tree.map(lambda leaf: leaf[0], conditionals.distribution)
            return jax.vmap(only.sample)(keys)
        order = jax.random.permutation(key, total) if shuffle else jnp.arange(total)
        index = order[jnp.arange(num_samples) % len(order)]
        chosen = jax.tree.map(lambda leaf: leaf[index], conditionals.distribution)
        return _over_draws(lambda one, key: one.sample(key), chosen, keys)

    return simulate
