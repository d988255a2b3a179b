"""Functions of a problem at all draws, where discrete sites are summed out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.typing import Integer
from inference.core.enumeration import discrete
from inference.core.problem import Problem
from inference.core.typing import Key, StoredArrays

# draws that are computed side by side
AT_ONCE = 32


def draw_summed(
    problem: Problem, draws: StoredArrays, key: Key, names: Collection[str] | None = None
) -> StoredArrays:
    """Draw sites that are summed out, once for each draw of the latent sites.

    Args:
        problem: the problem.
        draws: draws of the latent sites, along one axis.
        key: the random key.
        names: the sites; all by default.
    """

    def one(given: tuple[dict, Key]) -> dict:
        found = discrete.draw(problem, given[0], given[1], names)
        return {name: found[name] for name in (found if names is None else names)}

    keys = jax.random.split(key, len(next(iter(draws.values()))))
    return jax.tree.map(np.asarray, _map(one, (dict(draws), keys)))


def map_draws(
    function: Callable[[Problem, Mapping[str, jax.Array]], Any],
    problem: Problem,
    draws: StoredArrays,
) -> Any:
    """Compute a function of the problem at each draw, in double precision."""
    with jax.enable_x64(True):
        wide = {name: np.asarray(value, np.float64) for name, value in draws.items()}
        found = _map(lambda latents: function(problem, latents), wide)
        return jax.tree.map(np.asarray, found)


def mean_probabilities(problem: Problem, draws: StoredArrays) -> StoredArrays:
    """Average p(s = k given y, z) over draws, for each site that is summed out."""

    def add(total: dict, latents: dict) -> tuple[dict, None]:
        return jax.tree.map(jnp.add, total, discrete.probabilities(problem, latents)), None

    @jax.jit
    def mean(draws: dict) -> dict:
        first = jax.tree.map(lambda value: value[0], draws)
        shapes = jax.eval_shape(lambda one: discrete.probabilities(problem, one), first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total = jax.lax.scan(add, zeros, draws)[0]
        count = len(next(iter(draws.values())))
        return jax.tree.map(lambda value: value / count, total)

    return jax.tree.map(np.asarray, mean(dict(draws)))


def values_of(problem: Problem, draws: StoredArrays) -> StoredArrays:
    """Return the values of each site that is summed out, shape (values,)."""
    first = {name: value[0] for name, value in draws.items()}
    return jax.tree.map(np.asarray, jax.jit(lambda z: discrete.values_of(problem, z))(first))


def _map(function: Callable, draws: object) -> Any:
    """Map a function over draws, compiled."""
    return jax.jit(lambda draws: jax.lax.map(function, draws, batch_size=AT_ONCE))(draws)


def resample(key: Key, samples: StoredArrays, num_samples: Integer) -> StoredArrays:
    """Choose among draws of shape (chain, draw, ...); without repetition where there are enough."""
    flat = {name: value.reshape((-1, *value.shape[2:])) for name, value in samples.items()}
    if not flat:
        return {}
    total = len(next(iter(flat.values())))
    index = np.asarray(jax.random.choice(key, total, (num_samples,), replace=num_samples > total))
    return {name: value[index] for name, value in flat.items()}
