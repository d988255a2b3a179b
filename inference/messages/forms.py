"""Products of functions of several indexes, and what one factor hears of the others.

    Tucker  f = sum_{j_1..j_K} W_{j_1..j_K} prod_k u^k_{j_k},   W a core of independent N(0, 1)
    CP      f = sum_j prod_k u^k_j

Given the other factors, f_n = a_n' u with a_n made of them. With weights w_n and linear terms b_n for each entry, the sums over
the entries n at each position s of a mode,

    Lambda_s = sum_n w_n E[a_n a_n'],    eta_s = sum_n b_n E[a_n],

are all that the mode needs. Entries come in split_into_chunks, so products of many second moments never lie in memory at once.
"""

from __future__ import annotations

import abc
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 2_000_000  # numbers that a chunk of entries may take


class Moments(NamedTuple):
    """First and second moments at each position: shape (d, r) and (d, r, r); of a core (R,) and (R, R)."""

    mean: Any
    second: Any


def moments(mean: Any, covariance: Any) -> Moments:
    return Moments(mean, covariance + mean[..., :, None] * mean[..., None, :])


class AbstractForm(abc.ABC):
    """How factors make a function."""

    @abc.abstractmethod
    def message(
        self, k: int, factors: list, core: Any, places: list, weights: Any, linear: Any
    ) -> tuple[Any, Any]:
        """Lambda and eta of mode k.

        Args:
            k: the mode.
            factors: `Moments` of each mode.
            core: `Moments` of vec(W), or None.
            places: of each mode the position of each entry, shape (N,).
            weights: w, shape (N,).
            linear: b, shape (N,).
        """

    @abc.abstractmethod
    def entries(self, factors: list, core: Any, places: list) -> tuple[Any, Any]:
        """E[f_n] and E[f_n^2], shape (N,)."""


class CP(AbstractForm):
    """Sums of products, without a core."""

    def message(
        self, k: int, factors: list, core: Any, places: list, weights: Any, linear: Any
    ) -> tuple[Any, Any]:
        d, r = factors[k].mean.shape
        first, second = sum_over_entries(multiply_all, r, k, factors, places, weights, linear)
        return second.reshape(d, r, r), first

    def entries(self, factors: list, core: Any, places: list) -> tuple[Any, Any]:
        def one(places: Any) -> tuple[Any, Any]:
            pairs = list(zip(factors, places, strict=True))
            mean = multiply_all([factor.mean[place] for factor, place in pairs]).sum(1)
            return mean, multiply_all([factor.second[place] for factor, place in pairs]).sum((1, 2))

        return moments_by_entry(one, places, factors[0].mean.shape[1] ** 2)


class Tucker(AbstractForm):
    """All products, each with an entry of the core."""

    def message(
        self, k: int, factors: list, core: Any, places: list, weights: Any, linear: Any
    ) -> tuple[Any, Any]:
        ranks = [f.mean.shape[1] for f in factors]
        r, W, WW = ranks[k], *arrange_core(core, ranks, k)
        first, second = sum_over_entries(
            outer_products, math.prod(ranks) // r, k, factors, places, weights, linear
        )
        return (second @ WW).reshape(-1, r, r), first @ W

    def entries(self, factors: list, core: Any, places: list) -> tuple[Any, Any]:
        ranks = [f.mean.shape[1] for f in factors]
        W, WW = arrange_core(core, ranks, 0)

        def one(places: Any) -> tuple[Any, Any]:
            means = [f.mean[place] for f, place in zip(factors, places, strict=True)]
            seconds = [
                flatten_matrices(f.second[place]) for f, place in zip(factors, places, strict=True)
            ]
            return ((outer_products(means[1:]) @ W) * means[0]).sum(1), (
                (outer_products(seconds[1:]) @ WW) * seconds[0]
            ).sum(1)

        return moments_by_entry(one, places, math.prod(ranks[1:]) ** 2)

    def core_message(
        self, factors: list, places: list, weights: Any, linear: Any
    ) -> tuple[Any, Any]:
        """Lambda and eta of vec(W): shape (R, R) and (R,)."""
        ranks = [f.mean.shape[1] for f in factors]
        first, second = sum_over_entries(
            outer_products, math.prod(ranks[1:]), 0, factors, places, weights, linear
        )
        both = flatten_matrices(factors[0].second).T @ second
        pairs = both.reshape([r for rank in ranks for r in (rank, rank)])
        order = [*range(0, 2 * len(ranks), 2), *range(1, 2 * len(ranks), 2)]
        total = math.prod(ranks)
        return pairs.transpose(order).reshape(total, total), (factors[0].mean.T @ first).reshape(-1)


def sum_over_entries(
    combine: Callable, width: int, k: int, factors: list, places: list, weights: Any, linear: Any
) -> tuple[Any, Any]:
    """Sums over the entries at each position of mode k of what the other modes' moments make together.

    Args:
        combine: makes one array of shape (n, width), or (n, width^2), of those of the other modes.
        width: of what first moments make.
        k: the mode.
        factors: `Moments` of each mode.
        places: of each mode the position of each entry.
        weights: of second moments.
        linear: weights of first moments.
    """
    others = [j for j in range(len(factors)) if j != k]
    d, dtype = len(factors[k].mean), factors[k].mean.dtype

    def add(sums: Any, chunk: Any) -> tuple[Any, Any]:
        *places, weights, linear = chunk
        first = combine([factors[j].mean[places[j]] for j in others]) * linear[:, None]
        second = (
            combine([flatten_matrices(factors[j].second[places[j]]) for j in others])
            * weights[:, None]
        )
        return (sums[0].at[places[k]].add(first), sums[1].at[places[k]].add(second)), None

    start = tuple(jnp.zeros((d, size), dtype) for size in (width, width**2))
    return jax.lax.scan(add, start, split_into_chunks((*places, weights, linear), width**2))[0]


def moments_by_entry(of_chunk: Callable, places: list, width: int) -> tuple[Any, Any]:
    """First and second moments of f at each entry, from a function of a chunk of places."""
    first, second = jax.lax.map(of_chunk, split_into_chunks(tuple(places), width))
    n = len(places[0])
    return first.reshape(-1)[:n], second.reshape(-1)[:n]


def arrange_core(core: Moments, ranks: list[int], k: int) -> tuple[Any, Any]:
    """E[W] as (others, r_k), and E[W W] as (pairs of others, pairs of r_k)."""
    K = len(ranks)
    others = [j for j in range(K) if j != k]
    W = core.mean.reshape(ranks).transpose([*others, k]).reshape(-1, ranks[k])
    axes = [axis for j in (*others, k) for axis in (j, K + j)]
    return W, core.second.reshape(ranks * 2).transpose(axes).reshape(-1, ranks[k] ** 2)


def multiply_all(parts: list) -> Any:
    """Entry by entry."""
    return functools.reduce(operator.mul, parts)


def flatten_matrices(matrices: Any) -> Any:
    return matrices.reshape(len(matrices), -1)


def outer_products(parts: list) -> Any:
    """Rows of outer products, flattened, shape (n, product of the widths)."""
    found = parts[0]
    for part in parts[1:]:
        found = (found[:, :, None] * part[:, None, :]).reshape(len(found), -1)
    return found


def split_into_chunks(arrays: tuple, width: int) -> tuple:
    """Arrays of N entries cut into split_into_chunks, filled up with zeros, so that a chunk times a width is bounded."""
    n = len(arrays[0])
    size = min(n, max(1, CHUNK // width))
    pieces = -(-n // size)
    return tuple(jnp.pad(a, (0, pieces * size - n)).reshape(pieces, size) for a in arrays)


FORMS: dict[str, Callable[[], Any]] = {"cp": CP, "tucker": Tucker}
