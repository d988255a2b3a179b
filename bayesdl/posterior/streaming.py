"""Streams over draws and rows: how statistics of a predictive mixture are computed in bounded memory.

p(y | x, data) is the mean over draws z of p(y | x, z). A statistic of that mixture is computed chunk by chunk of rows,
each chunk over all draws, so memory does not grow with the rows.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from jaxtyping import Float
from numpyro.distributions import Independent

from inference.core.result import AbstractPredictive, Conditional

DRAWS_AT_ONCE = 32
LARGEST = 5000  # rows of a joint sample


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
        predictive: maps (one draw, key, *args) to a `Conditional`.
        draws: by site, leading axis over draws; empty where there are no latent draws.
        seed: of what programs draw besides, and of simulated targets.
        args, kwargs: the new data.
        num_rows: rows of every array in args, or None where rows cannot be told apart.
        batch_size: rows of a chunk.
        double: whether to compute in double precision.
        traceable: whether `law` is a JAX function.
        rows_correlated: whether rows vary together given a draw.
    """

    predictive: AbstractPredictive
    draws: dict[str, Any]
    seed: int
    args: tuple
    kwargs: dict
    num_rows: int | None
    batch_size: int
    double: bool
    traceable: bool = True
    rows_correlated: bool = False

    def map(
        self, statistic: Callable, given: Any = None, rowwise: bool = True, axis: int = 0
    ) -> Any:
        """`statistic(conditionals, given)` for each chunk of rows, put together.

        Args:
            statistic: a function at module level of the conditionals of all draws (leading axis: draw), so that it is compiled once.
            given: an array for it, or None.
            rowwise: whether `given` has a row per new row and is chunked too.
            axis: the axis of the results that runs over rows.
        """
        with jax.enable_x64(self.double):
            if self.num_rows is None:
                return jax.tree.map(np.asarray, self.run(statistic, self.args, given))
            size = min(self.batch_size, self.num_rows)
            parts = []
            for start in range(0, self.num_rows, size):
                chunk = functools.partial(take, start=start, size=size)
                args = tuple(map(chunk, self.args))
                out = self.run(
                    statistic, args, chunk(given) if rowwise and given is not None else given
                )
                kept = range(min(size, self.num_rows - start))
                parts.append(
                    jax.tree.map(lambda leaf, kept=kept: np.take(np.asarray(leaf), kept, axis), out)
                )
            return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *parts)

    def functions(self, num_samples: int, shuffle: bool = True) -> np.ndarray:
        """Simulated targets whose rows vary together, shape (num_samples, rows): each follows one function.

        Args:
            num_samples: functions to draw.
            shuffle: whether the posterior draws behind them come in random order, or in their own.

        Raises:
            ValueError: for more rows than a dense covariance can hold.
        """
        if self.num_rows is not None and self.num_rows > LARGEST:
            raise ValueError(
                f"Joint samples need a covariance of all rows: got {self.num_rows} rows, at most {LARGEST} are possible."
            )
        concern = self.predictive.joint_concern(*self.args, **self.kwargs)
        if concern:
            warnings.warn(f"Samples that cannot be trusted: {concern}.", stacklevel=3)
        arrays, static = split_static((self.args, self.kwargs))
        with jax.enable_x64(self.double):
            key = jax.random.key(self.seed)
            total = len(next(iter(self.draws.values()), ()))
            order = np.asarray(jax.random.permutation(key, total)) if shuffle else np.arange(total)
            index = order[np.arange(num_samples) % total] if total else []
            chosen = {name: value[index] for name, value in self.draws.items()}
            return np.asarray(
                simulate_jointly(
                    static, self.predictive, chosen, jax.random.split(key, num_samples), arrays
                )
            )

    def run(self, statistic: Callable, args: tuple, given: Any) -> Any:
        """The statistic of one chunk."""
        if self.traceable:
            arrays, static = split_static((args, self.kwargs))
            return evaluate(
                statistic, static, self.predictive, self.draws, self.seed, arrays, given
            )
        conditionals = jax.tree.map(
            lambda leaf: leaf[None], self.predictive({}, None, *args, **self.kwargs)
        )
        return statistic(conditionals, None if given is None else jnp.asarray(given))


def take(array: Any, start: int, size: int) -> np.ndarray:
    """Rows start..start+size of an array; the last chunk repeats its last row to keep one shape."""
    return np.asarray(array)[np.minimum(np.arange(start, start + size), len(array) - 1)]


def split_static(tree: Any) -> tuple[list, Any]:
    """The array leaves of a tree, and everything else in hashable form."""
    leaves, structure = jax.tree.flatten(tree)
    is_array = tuple(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves)
    rest = tuple(leaf for leaf, array in zip(leaves, is_array, strict=True) if not array)
    return [leaf for leaf, array in zip(leaves, is_array, strict=True) if array], (
        structure,
        is_array,
        rest,
    )


def join_static(arrays: list, static: Any) -> Any:
    """The inverse of `split_static`."""
    structure, is_array, rest = static
    given, others = iter(arrays), iter(rest)
    return jax.tree.unflatten(
        structure, [next(given) if array else next(others) for array in is_array]
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate(
    statistic: Callable,
    static: Any,
    predictive: Any,
    draws: dict,
    seed: Any,
    arrays: list,
    given: Any,
) -> Any:
    args, kwargs = join_static(arrays, static)
    if draws:
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(draws)[0]))
        conditionals = jax.lax.map(
            lambda z: predictive(z[0], z[1], *args, **kwargs),
            (draws, keys),
            batch_size=DRAWS_AT_ONCE,
        )
    else:
        conditionals = jax.tree.map(
            lambda leaf: leaf[None], predictive({}, jax.random.key(seed), *args, **kwargs)
        )
    return statistic(conditionals, given)


@functools.partial(jax.jit, static_argnums=0)
def simulate_jointly(
    static: Any, predictive: Any, draws: dict, keys: jax.Array, arrays: list
) -> Any:
    args, kwargs = join_static(arrays, static)
    if not draws:  # one law for all samples
        only = predictive({}, keys[0], *args, joint=True, **kwargs).distribution
        return jax.lax.map(only.sample, keys, batch_size=DRAWS_AT_ONCE)
    return jax.lax.map(
        lambda z: predictive(z[0], z[1], *args, joint=True, **kwargs).distribution.sample(z[1]),
        (draws, keys),
    )


# Statistics: functions of (conditionals, given), where `conditionals` is a Conditional whose leaves have a leading axis of draws.


def over_draws(function: Callable, *trees: Any) -> Any:
    return jax.vmap(function)(*trees)


def moments(conditionals: Conditional, _: Any) -> tuple:
    """Mean, variance, and its parts E[Var(y | z)] and Var(E[y | z]), by the law of total variance."""
    means = over_draws(lambda given: given.mean, conditionals.distribution)
    variances = over_draws(lambda given: given.variance, conditionals.distribution)
    known = over_draws(
        lambda e, v: e.reshape(e.shape + (1,) * (v.ndim - e.ndim)) * jnp.ones_like(v),
        conditionals.epistemic,
        variances,
    )
    unknown = jnp.maximum((variances - known).mean(0), 0.0)  # rounding may leave less than none
    return means.mean(0), variances.mean(0) + means.var(0), unknown, means.var(0) + known.mean(0)


def means(conditionals: Conditional, _: Any) -> jax.Array:
    """E[y | z] for each draw."""
    return over_draws(lambda given: given.mean, conditionals.distribution)


def probabilities(conditionals: Conditional, _: Any) -> jax.Array:
    """Class probabilities for each draw."""
    return over_draws(lambda given: given.probs, conditionals.distribution)


def log_density(conditionals: Conditional, y: Any) -> Float[Array, "*rows"]:
    """Log of the mixture density at y."""
    values = over_draws(lambda given: given.log_prob(y), conditionals.distribution)
    return logsumexp(values, axis=0) - jnp.log(values.shape[0])


def crps(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """The continuous ranked probability score at y, where one law has it in closed form."""
    known = isinstance(conditionals.distribution, HasCRPS)
    if not known or conditionals.epistemic.shape[0] > 1:
        raise NotImplementedError
    return jax.tree.map(lambda leaf: leaf[0], conditionals.distribution).crps(y)


def mixture_cdf(conditionals: Conditional, y: jax.Array) -> jax.Array:
    """P(Y <= y) of the mixture, for each target by itself."""
    return over_draws(lambda given: marginal(given).cdf(y), conditionals.distribution).mean(0)


def marginal(given: Any) -> Any:
    """The law of each target by itself."""
    return given.base_dist if isinstance(given, Independent) else given


def quantiles(conditionals: Conditional, levels: jax.Array) -> jax.Array:
    """Quantiles of the mixture by bisection on its cdf; shape (levels, rows, ...)."""
    shape = jax.eval_shape(
        lambda: over_draws(lambda given: marginal(given).mean, conditionals.distribution)
    ).shape[1:]
    discrete = bool(conditionals.distribution.support.is_discrete)  # pyright: ignore[reportOptionalMemberAccess]

    def one(level: jax.Array) -> jax.Array:
        def below(y: jax.Array) -> jax.Array:
            return mixture_cdf(conditionals, jnp.floor(y) if discrete else y) < level

        def widen(state: tuple) -> tuple:
            low, high = state
            return jnp.where(below(low), low, 2 * low), jnp.where(below(high), 2 * high, high)

        def outside(state: tuple) -> jax.Array:
            low, high = state
            return (~below(low) & (low > -1e30)).any() | (below(high) & (high < 1e30)).any()

        def halve(_: Any, state: tuple) -> tuple:
            low, high = state
            middle = (low + high) / 2
            left = below(middle)
            return jnp.where(left, middle, low), jnp.where(left, high, middle)

        low, high = jax.lax.while_loop(outside, widen, (-jnp.ones(shape), jnp.ones(shape)))
        steps = 60 if jnp.finfo(low.dtype).bits == 64 else 32  # to the last digit
        found = jax.lax.fori_loop(0, steps, halve, (low, high))[1]
        return jnp.floor(found) if discrete else found

    return jax.lax.map(one, levels)


def class_probabilities(conditionals: Conditional, _: Any) -> tuple:
    """Class probabilities, expected entropy over draws, and mutual information of label and draw."""
    probs = over_draws(lambda given: two_columns(given.probs), conditionals.distribution)
    average = probs.mean(0)
    expected = entropy(probs).mean(0) - conditionals.epistemic.mean(
        0
    )  # NaN where the parts are not known
    return average, expected, jnp.maximum(entropy(average) - expected, 0.0)


def two_columns(probs: Float[Array, "..."]) -> Float[Array, "rows classes"]:
    """Bernoulli probabilities (rows,) as (rows, 2)."""
    return jnp.stack([1 - probs, probs], axis=-1) if probs.ndim == 1 else probs


def entropy(probs: Float[Array, "*rows classes"]) -> Float[Array, "*rows"]:
    """-sum p log p, in nats, with 0 log 0 = 0."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)


@functools.cache
def simulator(num_samples: int, shuffle: bool = True) -> Callable:
    """A statistic that simulates targets, shape (num_samples, rows, ...); the draws behind them are the same in every row.

    They come in random order, or in their own. The statistic is given one or more rows (seed, number of the row).
    """

    def simulate(conditionals: Conditional, seeds: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0, 0])  # the same for every chunk of rows
        total = jax.tree.leaves(conditionals)[0].shape[0]
        keys = jax.random.split(jax.random.fold_in(key, seeds[0, 1]), num_samples)
        if total == 1:  # a predictor's one law, which need not be copied
            only = jax.tree.map(lambda leaf: leaf[0], conditionals.distribution)
            return jax.vmap(only.sample)(keys)
        order = jax.random.permutation(key, total) if shuffle else jnp.arange(total)
        index = order[jnp.arange(num_samples) % len(order)]
        chosen = jax.tree.map(lambda leaf: leaf[index], conditionals.distribution)
        return over_draws(lambda law, key: law.sample(key), chosen, keys)

    return simulate
