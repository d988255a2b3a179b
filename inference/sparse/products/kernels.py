"""Products with a matrix of which few tiles are active: W h and S h^2 for h of shape (in, rows).

    dense      W is whole
    blocks     gathered blocks of h, then a batched product with the tiles; for rows of tiles with
               equal counts
    fan_in     one active input of every unit after the other, as a scan over gathered rows of h
    neurons    a product with the active rows of W
    transient  W is scattered into a dense matrix inside the product, and again when its derivative
               is needed

A kernel maps (pattern, h, index, mean, variance) to (W h, S h^2), where W and S are the matrices of
means and variances; without variances it returns (W h, None). All give the same numbers to
rounding. Features come first, because gathering rows of a matrix is contiguous in memory and
gathering its columns is not: this alone makes a training step twice as fast on a CPU. Gathers
promise that indices are in bounds: JAX's default checks cost more than the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from inference.core.typing import AnyArray
from inference.sparse.patterns.pattern import Pattern

Kernel: TypeAlias = Callable[
    [Pattern, AnyArray, AnyArray, AnyArray, AnyArray | None], tuple[jax.Array, jax.Array | None]
]


def _multiply_dense(
    pattern: Pattern, h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray | None
) -> tuple[jax.Array, jax.Array | None]:
    """Multiply by whole matrices."""
    out = jnp.asarray(mean[0, 0] @ h)
    return out, None if variance is None else jnp.asarray(variance[0, 0] @ (h * h))


def _multiply_transient(
    pattern: Pattern, h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray | None
) -> tuple[jax.Array, jax.Array | None]:
    """Multiply by matrices that exist for a moment, forwards and again backwards."""

    @jax.checkpoint
    def product(h: AnyArray, index: AnyArray, values: AnyArray) -> jax.Array:
        return pattern.scatter(index, values) @ h

    # XLA would compute the values inside its scatter, one after the other without vector
    # instructions
    mean, variance = jax.lax.optimization_barrier((mean, variance))
    return product(h, index, mean), None if variance is None else product(h * h, index, variance)


def _multiply_neurons(
    pattern: Pattern, h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray | None
) -> tuple[jax.Array, jax.Array | None]:
    """Multiply by the active rows of the matrices."""

    def product(h: AnyArray, values: AnyArray) -> jax.Array:
        out = jnp.zeros((pattern.shape[0], h.shape[1]), jnp.result_type(h, values))
        some = values[0, :, 0, :] @ h
        return out.at[index[0]].set(
            some, unique_indices=True, indices_are_sorted=True, mode="promise_in_bounds"
        )

    return product(h, mean), None if variance is None else product(h * h, variance)


def _multiply_blocks(
    pattern: Pattern, h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray | None
) -> tuple[jax.Array, jax.Array | None]:
    """Gather the blocks of h that each row of tiles needs, and multiply in one batch."""
    (_, columns), (a, b), rows = pattern.grid, pattern.tile, h.shape[1]
    padded = jnp.pad(h, ((0, columns * b - h.shape[0]), (0, 0)))
    needed = padded.reshape(columns, b, rows).at[index].get(mode="promise_in_bounds")
    needed = needed.reshape(pattern.groups, pattern.count * b, rows)

    def product(needed: AnyArray, values: AnyArray) -> jax.Array:
        wide = values.transpose(0, 2, 1, 3).reshape(pattern.groups, a, pattern.count * b)
        return jnp.einsum("gai,gin->gan", wide, needed).reshape(-1, rows)[: pattern.shape[0]]

    return product(needed, mean), None if variance is None else product(needed * needed, variance)


def _multiply_fan_in(
    pattern: Pattern, h: AnyArray, index: AnyArray, mean: AnyArray, variance: AnyArray | None
) -> tuple[jax.Array, jax.Array | None]:
    """Add one active input of every unit after the other."""

    @jax.checkpoint
    def add(totals: tuple, one: tuple) -> tuple:
        where, *values = one
        found = inputs.at[where].get(mode="promise_in_bounds")
        powers = (found, found * found)
        products = zip(totals, values, powers, strict=False)
        return tuple(total + value[:, None] * power for total, value, power in products), None

    inputs = jnp.asarray(h)
    given = [mean] if variance is None else [mean, variance]
    shape, dtype = (pattern.shape[0], h.shape[1]), jnp.result_type(inputs, mean)
    start = tuple(jnp.zeros(shape, dtype) for _ in given)
    columns = (index.T, *(values[:, :, 0, 0].T for values in given))
    totals, _ = jax.lax.scan(add, start, columns)
    return totals[0], None if variance is None else totals[1]


KERNELS: dict[str, Kernel] = {
    "dense": _multiply_dense,
    "blocks": _multiply_blocks,
    "fan_in": _multiply_fan_in,
    "neurons": _multiply_neurons,
    "transient": _multiply_transient,
}


def supported_kernels(pattern: Pattern) -> tuple[str, ...]:
    """Return the kernels that can multiply with this pattern, the one made for it first."""
    if pattern.is_dense:
        return ("dense",)
    if pattern.per_row:
        return ("fan_in" if pattern.tile == (1, 1) else "blocks", "transient")
    return ("neurons", "transient") if pattern.has_whole_units else ("transient",)
