"""Products of functions of several indexes, and the messages between their factors.

    Tucker  f = sum_{j_1..j_K} W_{j_1..j_K} prod_k u^k_{j_k},   W a core of independent N(0, 1)
    CP      f = sum_j prod_k u^k_j

Given the other factors, f_n = a_n' u with a_n a function of them. With weights w_n and linear terms
b_n for each entry, the sums over the entries n at each position s of a mode,

    Lambda_s = sum_n w_n E[a_n a_n'],    eta_s = sum_n b_n E[a_n],

are all that the mode needs: its message. Entries come in chunks, so that products of many second
moments never lie in memory at once.
"""

from __future__ import annotations

import abc
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# how many numbers a chunk of entries may take
CHUNK = 2_000_000


class Moments(NamedTuple):
    """First and second moments of a factor.

    Attributes:
        mean: the first moments, shape (d, r) for d positions of a mode, (R,) for a core.
        second: the second moments, shape (d, r, r) or (R, R).
    """

    mean: Array
    second: Array


def moments(mean: Array, covariance: Array) -> Moments:
    """Return the first and second moments for a mean and a covariance."""
    return Moments(mean, covariance + mean[..., :, None] * mean[..., None, :])


class AbstractForm(abc.ABC):
    """How factors make a function; a final class for each form."""

    @abc.abstractmethod
    def message(
        self,
        k: int,
        factors: list,
        core: Moments | None,
        places: list,
        weights: Array,
        linear: Array,
    ) -> tuple[Array, Array]:
        """Return Lambda and eta of mode k.

        Args:
            k: the number of the mode.
            factors: the `Moments` of each mode.
            core: the `Moments` of vec(W), or None.
            places: for each mode the number of the position of each entry, shape (N,).
            weights: the weights w of the entries, shape (N,).
            linear: the linear terms b of the entries, shape (N,).
        """

    @abc.abstractmethod
    def entries(self, factors: list, core: Moments | None, places: list) -> tuple[Array, Array]:
        """Return E[f_n] and E[f_n^2], shape (N,)."""


class CP(AbstractForm):
    """The form "cp": sums of products, without a core."""

    def message(
        self,
        k: int,
        factors: list,
        core: Moments | None,
        places: list,
        weights: Array,
        linear: Array,
    ) -> tuple[Array, Array]:
        d, r = factors[k].mean.shape
        first, second = _sum_over_entries(multiply_all, r, k, factors, places, weights, linear)
        return second.reshape(d, r, r), first

    def entries(self, factors: list, core: Moments | None, places: list) -> tuple[Array, Array]:
        def one(places: Sequence[Array]) -> tuple[Array, Array]:
            pairs = list(zip(factors, places, strict=True))
            mean = multiply_all([factor.mean[place] for factor, place in pairs]).sum(1)
            return mean, multiply_all([factor.second[place] for factor, place in pairs]).sum((1, 2))

        return _moments_by_entry(one, places, factors[0].mean.shape[1] ** 2)


class Tucker(AbstractForm):
    """The form "tucker": all products, each with an entry of the core."""

    def message(
        self,
        k: int,
        factors: list,
        core: Moments | None,
        places: list,
        weights: Array,
        linear: Array,
    ) -> tuple[Array, Array]:
        ranks = [f.mean.shape[1] for f in factors]
        r, W, WW = ranks[k], *_arrange_core(core, ranks, k)
        first, second = _sum_over_entries(
            _outer_products, math.prod(ranks) // r, k, factors, places, weights, linear
        )
        return (second @ WW).reshape(-1, r, r), first @ W

    def entries(self, factors: list, core: Moments | None, places: list) -> tuple[Array, Array]:
        ranks = [f.mean.shape[1] for f in factors]
        W, WW = _arrange_core(core, ranks, 0)

        def one(places: Sequence[Array]) -> tuple[Array, Array]:
            means = [f.mean[place] for f, place in zip(factors, places, strict=True)]
            seconds = [
                _flatten_matrices(f.second[place]) for f, place in zip(factors, places, strict=True)
            ]
            return ((_outer_products(means[1:]) @ W) * means[0]).sum(1), (
                (_outer_products(seconds[1:]) @ WW) * seconds[0]
            ).sum(1)

        return _moments_by_entry(one, places, math.prod(ranks[1:]) ** 2)

    def core_message(
        self, factors: list, places: list, weights: Array, linear: Array
    ) -> tuple[Array, Array]:
        """Return Lambda and eta of vec(W), shapes (R, R) and (R,)."""
        ranks = [f.mean.shape[1] for f in factors]
        first, second = _sum_over_entries(
            _outer_products, math.prod(ranks[1:]), 0, factors, places, weights, linear
        )
        both = _flatten_matrices(factors[0].second).T @ second
        pairs = both.reshape([r for rank in ranks for r in (rank, rank)])
        order = [*range(0, 2 * len(ranks), 2), *range(1, 2 * len(ranks), 2)]
        total = math.prod(ranks)
        return pairs.transpose(order).reshape(total, total), (factors[0].mean.T @ first).reshape(-1)


def _sum_over_entries(
    combine: Callable,
    width: int,
    k: int,
    factors: list,
    places: list,
    weights: Array,
    linear: Array,
) -> tuple[Array, Array]:
    """Combine the moments of the other modes, and sum them over the entries at each position.

    Args:
        combine: a function from the moments of the other modes to one array of shape (n, width)
            for first moments, (n, width^2) for second ones.
        width: the width of combined first moments.
        k: the number of the mode.
        factors: the `Moments` of each mode.
        places: for each mode the number of the position of each entry.
        weights: the weights of second moments, shape (N,).
        linear: the weights of first moments, shape (N,).
    """
    others = [j for j in range(len(factors)) if j != k]
    d, dtype = len(factors[k].mean), factors[k].mean.dtype

    def add(sums: tuple, chunk: tuple) -> tuple[tuple, None]:
        *places, weights, linear = chunk
        first = combine([factors[j].mean[places[j]] for j in others]) * linear[:, None]
        second = (
            combine([_flatten_matrices(factors[j].second[places[j]]) for j in others])
            * weights[:, None]
        )
        return (sums[0].at[places[k]].add(first), sums[1].at[places[k]].add(second)), None

    start = jnp.zeros((d, width), dtype), jnp.zeros((d, width**2), dtype)
    return jax.lax.scan(add, start, _split_into_chunks((*places, weights, linear), width**2))[0]


def _moments_by_entry(of_chunk: Callable, places: list, width: int) -> tuple[Array, Array]:
    """Return first and second moments of f at each entry, from a function of a chunk of places."""
    first, second = jax.lax.map(of_chunk, _split_into_chunks(tuple(places), width))
    n = len(places[0])
    return first.reshape(-1)[:n], second.reshape(-1)[:n]


def _arrange_core(core: Moments | None, ranks: list[int], k: int) -> tuple[Array, Array]:
    """Return E[W] as (others, r_k), and E[W W] as (pairs of others, pairs of r_k)."""
    assert core is not None
    K = len(ranks)
    others = [j for j in range(K) if j != k]
    W = core.mean.reshape(ranks).transpose([*others, k]).reshape(-1, ranks[k])
    axes = [axis for j in (*others, k) for axis in (j, K + j)]
    return W, core.second.reshape(ranks * 2).transpose(axes).reshape(-1, ranks[k] ** 2)


def multiply_all(parts: list) -> Array:
    """Multiply arrays entry by entry."""
    return functools.reduce(operator.mul, parts)


def _flatten_matrices(matrices: Array) -> Array:
    """Flatten a batch of matrices to vectors."""
    return matrices.reshape(len(matrices), -1)


def _outer_products(parts: list) -> Array:
    """Return the outer products of rows, flattened, shape (n, product of the widths)."""
    found = parts[0]
    for part in parts[1:]:
        found = (found[:, :, None] * part[:, None, :]).reshape(len(found), -1)
    return found


def _split_into_chunks(arrays: tuple, width: int) -> tuple[Array, ...]:
    """Cut arrays of N entries into chunks, padded with zeros; a chunk times a width is bounded."""
    n = len(arrays[0])
    size = min(n, max(1, CHUNK // width))
    pieces = -(-n // size)
    return tuple(jnp.pad(a, (0, pieces * size - n)).reshape(pieces, size) for a in arrays)


FORMS: dict[str, Callable[[], AbstractForm]] = {"cp": CP, "tucker": Tucker}
