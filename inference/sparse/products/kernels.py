"""Products with a matrix of which few tiles are active: W h and S h^2 for h of shape (in, rows).

    dense      W is whole
    blocks     gathered blocks of h, then a batched product with the tiles; for rows of tiles with equal counts
    fan_in     one active input of every unit after the other, as a scan over gathered rows of h
    neurons    a product with the active rows of W
    transient  W is scattered into a dense matrix inside the product, and again when its derivative is needed

A kernel maps (pattern, h, index, mean, variance) to (W h, S h^2), W and S being the matrices of means and variances; without
variances it gives (W h, None). All give the same numbers to rounding. Features come first, as gathering rows of a matrix is
contiguous in memory and gathering its columns is not: this alone makes a training step twice as fast on a CPU. Gathers promise
that indices are in bounds: JAX's default checks cost more than the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from inference.sparse.patterns.pattern import Pattern

Kernel = Callable[[Pattern, Any, Any, Any, Any], tuple[Any, Any]]


def dense(pattern: Pattern, h: Any, index: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    return mean[0, 0] @ h, None if variance is None else variance[0, 0] @ (h * h)


def transient(pattern: Pattern, h: Any, index: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    @jax.checkpoint
    def product(h: Any, index: Any, values: Any) -> Any:
        return pattern.scattered(index, values) @ h

    # XLA would compute the values inside its scatter, one after the other without vector instructions
    mean, variance = jax.lax.optimization_barrier((mean, variance))
    return product(h, index, mean), None if variance is None else product(h * h, index, variance)


def neurons(pattern: Pattern, h: Any, index: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    def product(h: Any, values: Any) -> Any:
        out = jnp.zeros((pattern.shape[0], h.shape[1]), jnp.result_type(h, values))
        some = values[0, :, 0, :] @ h
        return out.at[index[0]].set(
            some, unique_indices=True, indices_are_sorted=True, mode="promise_in_bounds"
        )

    return product(h, mean), None if variance is None else product(h * h, variance)


def blocks(pattern: Pattern, h: Any, index: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    (_, columns), (a, b), rows = pattern.grid, pattern.tile, h.shape[1]
    padded = jnp.pad(h, ((0, columns * b - h.shape[0]), (0, 0)))
    needed = padded.reshape(columns, b, rows).at[index].get(mode="promise_in_bounds")
    needed = needed.reshape(pattern.groups, pattern.count * b, rows)

    def product(needed: Any, values: Any) -> Any:
        wide = values.transpose(0, 2, 1, 3).reshape(pattern.groups, a, pattern.count * b)
        return jnp.einsum("gai,gin->gan", wide, needed).reshape(-1, rows)[: pattern.shape[0]]

    return product(needed, mean), None if variance is None else product(needed * needed, variance)


def fan_in(pattern: Pattern, h: Any, index: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    @jax.checkpoint
    def add(totals: tuple, one: tuple) -> tuple:
        where, *values = one
        found = h.at[where].get(mode="promise_in_bounds")
        powers = (found, found * found)
        return tuple(
            t + v[:, None] * p for t, v, p in zip(totals, values, powers, strict=False)
        ), None

    given = [mean] if variance is None else [mean, variance]
    start = tuple(
        jnp.zeros((pattern.shape[0], h.shape[1]), jnp.result_type(h, mean)) for _ in given
    )
    totals, _ = jax.lax.scan(add, start, (index.T, *(values[:, :, 0, 0].T for values in given)))
    return totals[0], None if variance is None else totals[1]


KERNELS: dict[str, Kernel] = {k.__name__: k for k in (dense, blocks, fan_in, neurons, transient)}


def fitting(pattern: Pattern) -> tuple[str, ...]:
    """The kernels that can multiply with this pattern, the one made for it first."""
    if pattern.is_dense:
        return ("dense",)
    if pattern.per_row:
        return ("fan_in" if pattern.tile == (1, 1) else "blocks", "transient")
    return ("neurons", "transient") if pattern.tile == (1, pattern.shape[1]) else ("transient",)
